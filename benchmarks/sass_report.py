# SPDX-License-Identifier: Apache-2.0
"""Writes docs/machine_code.md from a library's GPU machine code, and checks it against the budget.

    python benchmarks/sass_report.py LIBRARY [--write docs/machine_code.md]

LIBRARY: libtorch_gumbel.so, kernels.o, or a cubin, with code for sm_90.
"""

import argparse
import dataclasses
import json
import pathlib
import re
import sys

import machine_code

BUDGET = pathlib.Path(__file__).with_name("machine_code_budget.json")
TYPES = {"float32": ("7Float32", 4), "bfloat16": ("8BFloat16", 8), "float16": ("7Float16", 8)}
PIPES = ["all", "alu", "fma", "wide", "mufu", "memory"]
# Lanes per clock and multiprocessor; of IMAD.WIDE no source was found, so both guesses are shown.
RATES = {"all": 128, "alu": 64, "mufu": 16}
WIDE_RATES = (64, 32)
CLOCK, MULTIPROCESSORS = 1.98e9, 132
COPY = {"H200": 4.3e12, "H100": 3.0e12}  # bytes per second of a copy, assumed


@dataclasses.dataclass
class Path:
    """A hot path: its name, and instructions by pipe and bytes for each element."""

    name: str
    dtype: str
    counts: dict
    moved: float

    @property
    def key(self):
        return f"{self.name}, {self.dtype}"

    def clocks(self):
        """Clocks for an element on a multiprocessor, by what could limit them (memory: H200)."""
        found = {name: self.counts[name] / rate for name, rate in RATES.items()}
        found["fma"] = (self.counts["fma"] + self.counts["wide"]) / 128
        found.update({f"wide/{rate}": self.counts["wide"] / rate for rate in WIDE_RATES})
        return found

    def memory_clocks(self, device):
        return self.moved * MULTIPROCESSORS * CLOCK / COPY[device]

    def share_of_copy(self, device):
        """What the model predicts, with IMAD.WIDE at the lower rate."""
        memory = self.memory_clocks(device)
        return memory / max(memory, *self.clocks().values())

    def limit(self):
        clocks = {**self.clocks(), "memory": self.memory_clocks("H200")}
        return max(clocks, key=clocks.get).replace("all", "issue")


class Report:
    def __init__(self, library):
        self.kernels = machine_code.read(library)

    def kernel(self, name, dtype, *arguments):
        """By its name, element type, and further template arguments, mangled."""
        element, _ = TYPES[dtype]
        symbol = rf"\d{name}_kernelINS0_{element}E{''.join(arguments)}"
        found = [k for s, k in self.kernels.items() if re.search(symbol, s)]
        assert len(found) == 1, f"{symbol}: {len(found)} kernels"
        return found[0]

    def row_path(self, name, dtype, held, team, reads, writes, shuffles):
        width = TYPES[dtype][1]
        vectors = held // width
        arguments = (rf"Li{vectors}E", rf"NS0_\d+{team}E", "(?:Lb0E)?E")
        kernel = self.kernel(f"{name}_row", dtype, *arguments)
        shuffles *= 1 if team == "WarpTeam" else 2
        path = kernel.path(LDG=reads * vectors, STG=writes * vectors, SHFL=shuffles)
        assert path, f"{name} {dtype} {held} {team}: no such path"
        return machine_code.pipes(path)

    def row_paths(self, name, dtype, bytes_moved, reads, writes, shuffles, teams):
        """Steady counts, as the difference of two sizes, and a whole row of 1024 classes."""
        for team, small, large in teams:
            less, more = (
                self.row_path(name, dtype, held, team, reads, writes, shuffles)
                for held in (small, large)
            )
            steady = {pipe: (more[pipe] - less[pipe]) / (large - small) for pipe in PIPES}
            where = "warp" if team == "WarpTeam" else "block"
            yield Path(f"{name}, row in a {where}'s registers", dtype, steady, bytes_moved)
        whole = self.row_path(name, dtype, 32, "WarpTeam", reads, writes, shuffles)
        per_class = {pipe: whole[pipe] / 32 for pipe in PIPES}
        yield Path(f"{name}, all of a row of 1024", dtype, per_class, bytes_moved)

    def loop_path(self, name, what, dtype, classes, reads, writes, bytes_moved):
        vectors = classes // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_long", dtype, "(?:Lb0E)?", r"LNS0_5StageE0E")
        path = kernel.loop(LDG=reads * vectors, STG=writes * vectors, SHFL=0)
        assert path, f"{name} {dtype}: no loop of {reads} reads and {writes} writes"
        counts = machine_code.pipes(path)
        per_class = {pipe: counts[pipe] / classes for pipe in PIPES}
        return Path(f"{name}, long row, {what}", dtype, per_class, bytes_moved)

    def columns_path(self, name, dtype, reads, bytes_moved):
        """The second read of rows that lie side by side."""
        vectors = 16 // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_columns", dtype, "(?:Lb0E)?E")
        path = kernel.loop(LDG=reads * vectors, STG=vectors, SHFL=0)
        assert path, f"{name} {dtype}: no loop over columns"
        counts = machine_code.pipes(path)
        per_class = {pipe: counts[pipe] / 16 for pipe in PIPES}
        return Path(f"{name}, rows side by side, second read", dtype, per_class, bytes_moved)

    def tile_path(self, name, dtype, reads, writes, bytes_moved):
        """Rows of 8 classes, one lane each: the tile in and out, and twice round the rows' loop."""
        vectors = 16 // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_tile", dtype, "Li8E", "(?:Lb0E)?E")
        flat = kernel.path(LDG=reads * vectors, STG=writes * vectors, LDS=16 * writes, SHFL=0)
        rows = kernel.loop(LDG=0, STG=0, LDS=8 * (2 if "backward" in name else 1), SHFL=0)
        assert flat and rows, f"{name} {dtype}: no path through a tile"
        counts = machine_code.pipes(flat + 2 * rows)
        return Path(f"{name}, rows of 8", dtype, {p: counts[p] / 16 for p in PIPES}, bytes_moved)

    def paths(self):
        warp, block = ("WarpTeam", 16, 32), ("BlockTeam", 32, 64)
        for dtype in ["float32", "bfloat16"]:
            size = 4 if dtype == "float32" else 2
            yield from self.row_paths("soft", dtype, 2 * size, 1, 1, 10, [warp, block])
            yield from self.row_paths("hard", dtype, 2 * size, 1, 1, 15, [warp])
            yield from self.row_paths("argmax", dtype, size, 1, 0, 15, [warp])
            yield from self.row_paths("backward", dtype, 3 * size, 2, 1, 5, [warp])
            yield from self.row_paths("hard_backward", dtype, 3 * size, 2, 1, 15, [warp])
            yield self.loop_path("soft", "first read", dtype, 16, 1, 0, size)
            yield self.loop_path("soft", "second read", dtype, 16, 1, 1, 2 * size)
            yield self.loop_path("hard", "read", dtype, 32, 1, 0, size)
            yield self.loop_path("hard", "write", dtype, 32, 0, 1, size)
            yield self.loop_path("argmax", "read", dtype, 32, 1, 0, size)
            yield self.loop_path("backward", "first read", dtype, 16, 2, 0, 2 * size)
            yield self.loop_path("backward", "second read", dtype, 16, 2, 1, 3 * size)
            yield self.loop_path("hard_backward", "first read", dtype, 16, 2, 0, 2 * size)
            yield self.loop_path("hard_backward", "second read", dtype, 16, 2, 1, 3 * size)
            if dtype == "float32":  # the stores of other outputs mislead the search for halves
                yield self.columns_path("soft", dtype, 1, 2 * size)
                yield self.columns_path("hard_backward", dtype, 2, 3 * size)
            yield self.tile_path("soft", dtype, 1, 1, 2 * size)
            yield self.tile_path("hard", dtype, 1, 1, 2 * size)
            yield self.tile_path("argmax", dtype, 1, 0, size)
            yield self.tile_path("backward", dtype, 2, 1, 3 * size)
            yield self.tile_path("hard_backward", dtype, 2, 1, 3 * size)


# Threads of the largest block that a kernel is launched with, by a part of its name: the first that
# fits counts.
THREADS = {
    "BlockTeam": 256,
    "WarpTeam": 128,
    "sum_parts": 32,
    "hard_backward_long": 384,
    "hard_long": 256,
    "argmax": 256,
    "_long_": 512,
}


def threads_of(symbol):
    return next((threads for part, threads in THREADS.items() if part in symbol), 256)


def occupancy(kernel):
    """Warps that a multiprocessor of compute capability 9.0 holds, of 64."""
    warps = threads_of(kernel.symbol) // 32
    registers = warps * -(-kernel.registers * 32 // 256) * 256
    blocks = min(65536 // registers, 64 // warps, 32, 228 * 1024 // max(kernel.shared, 1))
    return blocks * warps


def label(symbol):
    """A kernel's name and template arguments."""
    name = re.search(r"\d\d([a-z_]+?)_kernel", symbol)[1]
    arguments = re.findall(r"(B?Float\d\d|Li\d+|Lb\d|StageE\d|WarpTeam|BlockTeam|I[fd]E)", symbol)
    words = {"Lb0": "", "Lb1": "device key", "StageE0": "whole", "StageE1": "reduce",
             "StageE2": "finish", "WarpTeam": "warp", "BlockTeam": "block", "IfE": "float",
             "IdE": "double"}  # fmt: skip
    shown = [words.get(a, a.replace("Li", "").lower()) for a in arguments]
    return name, " ".join(s for s in shown if s)


def row_of(cells):
    return "| " + " | ".join(map(str, cells)) + " |"


def path_table(paths):
    yield row_of(["hot path", "dtype", "all", "ALU", "FMA", "wide", "MUFU", "memory", "bytes",
                  "clocks on an H200: memory", "issue", "ALU", "MUFU", "wide at 64 / 32", "limit",
                  "H200", "H100"])  # fmt: skip
    yield "|---|---" + "|---:" * 12 + "|---|---:|---:|"
    for path in paths:
        c = path.clocks()
        clocks = [path.memory_clocks("H200"), c["all"], c["alu"], c["mufu"]]
        yield row_of([
            path.name, path.dtype, *(f"{path.counts[pipe]:.2f}" for pipe in PIPES),
            f"{path.moved:g}", *(f"{clock:.3f}" for clock in clocks),
            f"{c['wide/64']:.3f} / {c['wide/32']:.3f}", path.limit(),
            *(f"{100 * path.share_of_copy(device):.0f} %" for device in COPY),
        ])  # fmt: skip


def kernel_table(kernels):
    yield row_of(["kernel", "for", "registers", "spills", "shared", "warps of 64", "loads",
                  "stores"])  # fmt: skip
    yield "|---|---|---:|---:|---:|---:|---|---|"
    for kernel in sorted(kernels.values(), key=lambda k: label(k.symbol)):
        widths = [", ".join(map(str, kernel.widths(base))) for base in ("LDG", "STG")]
        yield row_of([*label(kernel.symbol), kernel.registers, kernel.spills(), kernel.shared,
                      occupancy(kernel), *widths])  # fmt: skip


INTRODUCTION = """# Machine code

Generated by `make sass` from the library's code for sm_90; `tests/python/test_machine_code.py`
holds it to `benchmarks/machine_code_budget.json`. Nothing on this page was timed.

**Hot paths**: instructions per element, by the unit that they need beside an issue slot. A hot
path is the shortest way through a kernel that makes all its 128-bit accesses and shuffles: no
rare branch, no candidate of a hard choice. "In registers" is the difference between two kernels
of 16 and 32 (32 and 64) classes per thread, the cost of one more class; "all of a row" is what a
whole row costs. Then the clocks that a multiprocessor needs for an element by each limit: memory
at {h200:.1f} TB/s (H200) or {h100:.1f} TB/s (H100) of copy, 128 instructions, 64 on the ALU, and
16 on the MUFU a clock at 1.98 GHz. The last columns are the share of a copy's speed that the
largest of them leaves, with IMAD.WIDE at 32 a clock. Both reads of a long row count as memory
traffic here; the second one may come from the cache.
"""


def document(report):
    text = INTRODUCTION.format(h200=COPY["H200"] / 1e12, h100=COPY["H100"] / 1e12)
    note = """Shared memory in bytes, without the tiles' dynamic one; loads and stores: bits of the
global accesses that occur, narrow ones for edges, keys, and results per row."""
    lines = [text, *path_table(report.paths()), "", "## Kernels", "", note, ""]
    lines += kernel_table(report.kernels)
    return "\n".join(lines) + "\n"


def over_budget(report):
    """What is worse than the budget allows, as sentences."""
    budget = json.loads(BUDGET.read_text())
    found = {path.key: path.counts["all"] for path in report.paths()}
    faults = [f"no hot path named {key}" for key in budget["instructions"] if key not in found]
    for key, most in budget["instructions"].items():
        if key in found and found[key] > most:
            faults.append(f"{key}: {found[key]:.2f} instructions, budget {most}")
    for kernel in report.kernels.values():
        name = " ".join(label(kernel.symbol))
        if kernel.spills():
            faults.append(f"{name}: {kernel.spills()} spills")
        # The second launch of a split choice reads no logits.
        reads = re.search("_(row|long|tile|columns)_", kernel.symbol)
        skips = re.search("hard_long.*StageE2", kernel.symbol)
        if reads and not skips and 128 not in kernel.widths("LDG"):
            faults.append(f"{name}: no 128-bit loads")
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("library")
    parser.add_argument("--write", type=pathlib.Path)
    options = parser.parse_args()
    report = Report(options.library)
    if options.write:
        options.write.write_text(document(report))
    faults = over_budget(report)
    print(*faults, sep="\n")
    print(f"{len(report.kernels)} kernels, {len(faults)} over budget")
    return bool(faults)


if __name__ == "__main__":
    sys.exit(main())
