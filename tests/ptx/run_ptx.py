# SPDX-License-Identifier: Apache-2.0
"""Runs the PTX of every CUDA kernel on the CPU and compares.

Noise, argmax, and hard samples must have the bits of the CPU ops. Soft samples and gradients are
compared with float64 computed from the ops' own noise. Every launch runs in three orders of warps,
which must agree in bits: a missing barrier shows as a difference.

    python tests/ptx/run_ptx.py [parts of jobs' names, by |]
"""

import sys
import traceback

from device import missing
from runner import Runner
from tqdm import tqdm


def main(pattern=""):
    if reason := missing():
        sys.exit(f"run_ptx: {reason}")
    runner = Runner()
    jobs = [job for job in runner.jobs() if any(p in job.name for p in pattern.split("|"))]
    failures = []
    for job in tqdm(jobs, mininterval=5, maxinterval=30):
        try:
            job.run()
        except Exception as error:
            failures.append(f"{job.name}: {error}")
            tqdm.write(failures[-1])
            if not isinstance(error, AssertionError):
                traceback.print_exc()
    print(*failures, sep="\n")
    missed = runner.device.names() - runner.device.ran if not pattern else set()
    labels = runner.device.labels
    print(f"{len(runner.device.ran)} kernels run:", *sorted(labels(runner.device.ran)), sep="\n  ")
    if missed:
        print("kernels never run:", *sorted(labels(missed)), sep="\n  ")
    print(f"{len(jobs) - len(failures)} passed, {len(failures)} failed")
    return bool(failures or missed)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
