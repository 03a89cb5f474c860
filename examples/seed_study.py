# SPDX-License-Identifier: Apache-2.0
"""Does the fused op train the categorical VAE as well as PyTorch's own? Ten seeds of each.

    python examples/seed_study.py                 # every mode and implementation
    python examples/seed_study.py --impls torch   # PyTorch's alone

Prints mean +- standard deviation of the test negative ELBO, and exits with status 1 if a mean is
over LIMIT or the two implementations differ by more than MARGIN, both in nats per image.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from categorical_vae import EPOCHS, evaluate, get_sampler, load_data, train
from tqdm import tqdm

LIMIT = 20.5
MARGIN = 0.3
MODES = ("soft", "hard")


def run(impl: str, mode: str, seed: int, epochs: int) -> float:
    """Train once; the test negative ELBO with 50 one-hot codes for each image."""
    torch.set_num_threads(1)  # one core for each worker
    data = load_data()
    model, _ = train(
        data,
        get_sampler(impl),
        hard=mode == "hard",
        epochs=epochs,
        seed=seed,
        progress=False,
        curve_samples=0,
    )
    return evaluate(model, data.test, samples=50).negative.item()


def run_all(
    impls: list[str], seeds: int, epochs: int, jobs: int
) -> dict[tuple[str, str], list[float]]:
    """Every (impl, mode) with every seed, ``jobs`` at a time; the losses in the order of seeds."""
    spawn = multiprocessing.get_context("spawn")  # a forked child would share torch's threads
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool:
        futures = {
            pool.submit(run, impl, mode, seed, epochs): (impl, mode, seed)
            for seed in range(seeds)
            for mode in MODES
            for impl in impls
        }
        finished = tqdm(as_completed(futures), total=len(futures), desc="training", unit="run")
        losses = {futures[future]: future.result() for future in finished}
    return {
        (impl, mode): [losses[impl, mode, seed] for seed in range(seeds)]
        for impl in impls
        for mode in MODES
    }


def report(losses: dict[tuple[str, str], list[float]], impls: list[str]) -> list[str]:
    """Print the table; return what is wrong with it, a line each."""
    faults = []
    print(f"{'mode':<6}" + "".join(f"{impl:>18}" for impl in impls), end="")
    print(f"{'fused - torch':>18}" if len(impls) == 2 else "")
    for mode in MODES:
        row = f"{mode:<6}"
        means = {}
        for impl in impls:
            means[impl] = statistics.fmean(losses[impl, mode])
            row += f"{means[impl]:>10.2f} +- {statistics.stdev(losses[impl, mode]):.2f}"
            if not means[impl] <= LIMIT:  # written so that NaN fails too
                faults.append(f"{impl}, {mode}: the mean {means[impl]:.2f} is over {LIMIT}")
        if len(impls) == 2:
            difference = means["fused"] - means["torch"]
            row += f"{difference:>+18.2f}"
            if not abs(difference) <= MARGIN:
                faults.append(f"{mode}: fused - torch, {difference:+.2f}, is beyond {MARGIN}")
        print(row)
    return faults


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="The categorical VAE over several seeds.")
    parser.add_argument(
        "--impls", nargs="+", choices=("fused", "torch"), default=["fused", "torch"]
    )
    parser.add_argument("--seeds", type=int, default=10, help="number of seeds, at least 2")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count() or 1))
    args = parser.parse_args(argv)
    impls = sorted(set(args.impls))
    if args.seeds < 2:
        parser.error("a standard deviation takes at least 2 seeds")

    faults = report(run_all(impls, args.seeds, args.epochs, args.jobs), impls)
    for fault in faults:
        print(fault, file=sys.stderr)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
