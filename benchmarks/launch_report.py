# SPDX-License-Identifier: Apache-2.0
"""Writes docs/internals/launches.md: how the CUDA kernels fill a GPU, by model.

    python benchmarks/launch_report.py LIBRARY [--banks FILE] [--write docs/internals/launches.md]

LIBRARY: as of sass_report.py. FILE: bank conflicts, as the execution model counts them (the test
BanksOnModel of its checked build writes them to $TORCH_GUMBEL_MODEL_BANKS).
"""

import argparse
import os
import pathlib
import subprocess
import tempfile

import hot_paths

ROOT = pathlib.Path(__file__).resolve().parents[1]
BANKS = pathlib.Path(__file__).with_name("bank_conflicts.txt")
OPS = ["soft", "hard", "hard_soft", "argmax", "backward", "hard_backward", "noise"]
DTYPES = {"float32": (0, 4), "bfloat16": (3, 2)}
FAMILIES = ["generic", "tile", "row", "spatial", "looped", "multi-block", "run", "cluster"]
CACHE = 40e6  # bytes of the L2 cache that the second read finds, as plan.h has it
LAUNCH = 2e-6  # seconds that a further launch takes, assumed
READS = {"soft": 1, "hard": 1, "hard_soft": 1, "argmax": 1, "backward": 2, "hard_backward": 2}
WRITES = {"soft": 1, "hard": 1, "hard_soft": 2, "argmax": 0, "backward": 1, "hard_backward": 1}
# op, dtype, rows, classes, inner size
SHAPES = [
    *[("soft", dtype, rows, 128256, 1) for dtype in DTYPES
      for rows in [1, 16, 32, 131, 133, 200, 264, 300, 400, 523, 1000, 4096]],
    *[("argmax", "bfloat16", rows, 128256, 1) for rows in [1, 32, 300, 523, 1000]],
    *[("hard_backward", "float32", rows, 50257, 1) for rows in [32, 300, 2048]],
    *[("soft", dtype, 8 * 256, 1024, 256) for dtype in DTYPES],
    *[("hard_soft", "float32", 8 * 256, 1024, 256), ("soft", "float32", 64 * 3136, 1024, 3136)],
    *[("noise", dtype, 1, 100_000_000, 1) for dtype in DTYPES],
]  # fmt: skip
# Rows that clusters of blocks may hold, and the multiprocessors of each part of the chip, of which
# a cluster takes its own: as counted on some H100, where they vary.
OF_CLUSTERS = [("soft", dtype, rows, classes, 1) for dtype in DTYPES
               for rows, classes in [(2048, 20000), (2048, 32000), (1320, 50257), (32, 128256),
                                     (300, 128256), (523, 128256), (1000, 128256), (4096, 128256),
                                     (256, 262144)]]  # fmt: skip
PARTS = (16, 16, 16, 16, 16, 16, 18, 18)


def plans(shapes, clusters=False):
    """(family, threads, blocks, blocks per row) of each."""
    numbers = [f"{OPS.index(op)} {DTYPES[dtype][0]} {rows} {classes} {inner} {int(clusters)}"
               for op, dtype, rows, classes, inner in shapes]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "print_plans"
        compiler = os.environ.get("CXX", "c++")
        source = ROOT / "benchmarks" / "print_plans.cpp"
        subprocess.run([compiler, "-std=c++20", "-o", program, source], check=True)
        text = subprocess.run([program], input="\n".join(numbers), text=True, check=True,
                              capture_output=True).stdout  # fmt: skip
    found = [list(map(int, line.split())) for line in text.splitlines()]
    return [(FAMILIES[family], *rest) for family, *rest in found]


def balance(blocks):
    """How evenly blocks are shared out: 1 if every multiprocessor gets as many."""
    most = -(-blocks // hot_paths.MULTIPROCESSORS)
    return blocks / (most * hot_paths.MULTIPROCESSORS)


def clocks_of(paths, op, dtype, family):
    """Clocks of a multiprocessor for an element, memory left out: of all reads together."""
    names = {
        "looped": [f"{op}, long row, first read", f"{op}, long row, second read"],
        "spatial": [f"{op}, spatial rows, second read"] * 2,
        "run": ["noise"],
    }
    names["multi-block"] = names["looped"]
    if op == "argmax":
        names["looped"] = names["multi-block"] = ["argmax, long row, read"]
    by_name = {(path.name, path.dtype): path for path in paths}
    # Halves' spatial loops are not told apart: float32's stand for them.
    found = [by_name.get((name, dtype)) or by_name[name, "float32"] for name in names[family]]
    return sum(max(path.clocks().values()) for path in found)


def predict(paths, shape, plan):
    """Model of one shape: (bytes of the second read that miss L2 / all, share of a copy)."""
    (op, dtype, rows, classes, _), (family, _, blocks, per_row) = shape, plan
    size, elements = DTYPES[dtype][1], rows * classes
    read, written = elements * size * READS.get(op, 0), elements * size * WRITES.get(op, 1)
    at_once = rows if per_row > 1 else min(rows, 2 * hot_paths.MULTIPROCESSORS * rows / blocks)
    twice = op not in ("argmax", "hard", "noise")
    again = read if twice and read / rows * at_once > CACHE else 0
    copy, clock = hot_paths.COPY["H200"], hot_paths.CLOCK * hot_paths.MULTIPROCESSORS
    limits = [
        (read + again + written) / copy,
        clocks_of(paths, op, dtype, family) * elements / clock,
    ]
    launches = 0 if per_row == 1 or op == "noise" else 1 if "backward" not in op else 2
    time = max(limits) / min(balance(blocks), 1) + launches * LAUNCH
    return again > 0, (read + written) / copy / time


def shape_table(paths):
    yield (
        "| op | dtype | rows | classes | inner | family | blocks | threads | balance "
        "| second read | of a copy |"
    )
    yield "|---|---|---:|---:|---:|---|---:|---:|---:|---|---:|"
    for shape, plan in zip(SHAPES, plans(SHAPES), strict=True):
        misses, share = predict(paths, shape, plan)
        op = shape[0]
        second = "-" if op in ("argmax", "hard", "noise") else "memory" if misses else "L2"
        cells = [*shape, plan[0], plan[2], plan[1], f"{100 * balance(plan[2]):.0f} %", second,
                 f"{100 * share:.0f} %"]  # fmt: skip
        yield "| " + " | ".join(map(str, cells)) + " |"


def predict_cluster(paths, shape, plan):
    """(clusters at once, balance, share of a copy)."""
    (op, dtype, rows, classes, _), (_, threads, _, per_row) = shape, plan
    path = next(p for p in paths if p.key == f"{op}, row in a cluster's registers, {dtype}")
    each = 65536 // (128 * threads)  # blocks of a multiprocessor, by 128 registers
    at_once = sum(each * part // per_row for part in PARTS)
    used = at_once * per_row / (each * hot_paths.MULTIPROCESSORS)
    balance = rows / (-(-rows // at_once) * at_once) * used
    moved = 2 * DTYPES[dtype][1] * rows * classes
    clock = hot_paths.CLOCK * hot_paths.MULTIPROCESSORS
    held = 64 * threads * per_row * rows  # classes, with those that no thread has
    time = max(moved / hot_paths.COPY["H200"], max(path.clocks().values()) * held / clock)
    return at_once, balance, moved / hot_paths.COPY["H200"] / (time / balance)


def cluster_table(paths):
    yield (
        "| op | dtype | rows | classes | blocks | threads | clusters at once | balance "
        "| without clusters | of a copy | with them |"
    )
    yield "|---|---|---:|---:|---:|---:|---:|---:|---|---:|---:|"
    both = zip(OF_CLUSTERS, plans(OF_CLUSTERS), plans(OF_CLUSTERS, True), strict=True)
    for shape, without, plan in both:
        assert plan[0] == "cluster", shape
        before = predict(paths, shape, without)[1]
        at_once, balance, after = predict_cluster(paths, shape, plan)
        cells = [*shape[:4], plan[3], plan[1], at_once, f"{100 * balance:.0f} %", without[0],
                 f"{100 * before:.0f} %", f"{100 * after:.0f} %"]  # fmt: skip
        yield "| " + " | ".join(map(str, cells)) + " |"


def bank_table(file):
    ways = dict(line.split() for line in file.read_text().splitlines())
    yield "| K | " + " | ".join(str(k) for k in range(8)) + " |"
    yield "|---:|" + "---:|" * 8
    for first in range(0, 129, 8):
        yield f"| {first} + | " + " | ".join(ways.get(str(first + k), "") for k in range(8)) + " |"


TEXT = """# Launches

Generated by `make sass`, by a model and not by a GPU. [Machine code](machine_code.md) has the
instructions of an element; this page has what is left out there.

The model leaves out: latencies and how far warps hide them (that page has the warps), the time
that a launch takes to begin and end, IMAD at another rate than FFMA's, TLB and DRAM pages, other
traffic of the L2 cache, and clocks below 1.98 GHz. "100 %" says that no single limit exceeds the
memory's.

## Shapes

Blocks on 132 multiprocessors; balance: the share of the time that the average multiprocessor has
blocks, of equal length. The second read comes from the L2 cache where rows in flight have at most
40 MB (of one block each two blocks to a multiprocessor, shared by blocks all rows), else from
memory. Further launches count 2 us each.

{shapes}

## Clusters

With `TORCH_GUMBEL_CUDA_CLUSTERS=1` a soft row of 16,385 to 262,144 classes is held in the registers
of a cluster of blocks: one read, and noise once. Blocks and threads are those of a cluster; at
once: clusters that fit the parts of the chip, assumed to be six of 16 multiprocessors
and two of 18; balance: also the share of the multiprocessors that they take. What a cluster's
barriers take is left out. "Of a copy" is the prediction without clusters.

{clusters}

## Bank conflicts

Of a whole tile of K classes in float32, soft: the times that shared memory is accessed for one
access of a warp, on average over the tile in, its rows, and the tile out. The execution model
counts them as the kernels run.

{banks}
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--banks", type=pathlib.Path, default=BANKS)
    parser.add_argument("--write", type=pathlib.Path)
    options = parser.parse_args()
    report = hot_paths.Report(options.library)
    paths = list(report.paths())
    text = TEXT.format(
        shapes="\n".join(shape_table(paths)),
        banks="\n".join(bank_table(options.banks)),
        clusters="\n".join(cluster_table(paths)),
    )
    if options.write:
        options.write.write_text(text)
    else:
        print(text)


if __name__ == "__main__":
    main()
