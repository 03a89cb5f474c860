# SPDX-License-Identifier: Apache-2.0
"""The hot paths of the kernels in a library's GPU machine code, and their budget."""

import copy
import dataclasses
import json
import pathlib
import re

import machine_code

BUDGET = pathlib.Path(__file__).with_name("machine_code_budget.json")
TYPES = {"float32": ("7Float32", 4), "bfloat16": ("8BFloat16", 8), "float16": ("7Float16", 8)}
PIPES = ["all", "alu", "fma", "wide", "mufu", "memory"]
# Lanes per clock and multiprocessor; of IMAD.WIDE no source was found, so both guesses are shown.
RATES = {"all": 128, "alu": 64, "mufu": 16}
WIDE_RATES = (64, 32)
CLOCK, MULTIPROCESSORS = 1.98e9, 132
COPY = {"H200": 4.3e12, "H100": 3.0e12}  # bytes per second of a copy, assumed

# What a gate's kernel does, in the order of its GateKind, with vectors read and written.
GATES = (("soft", 1, 1), ("hard concrete", 1, 1), ("hard", 1, 1), ("hard, kept", 1, 2),
         ("backward", 2, 1), ("recomputed", 2, 1))  # fmt: skip
# Of these nvcc makes two loops, with and without the gradient at tau: no single path is counted.
SPLIT_GATES = {("backward", "bfloat16"), ("recomputed", "float32"), ("recomputed", "bfloat16")}


@dataclasses.dataclass
class Path:
    """A hot path: its name, and instructions by pipe and bytes for each element."""

    name: str
    dtype: str
    counts: dict
    moved: float
    symbol: str = ""  # of its kernel

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
        """The prediction of the model, with IMAD.WIDE at the lower rate."""
        memory = self.memory_clocks(device)
        return memory / max(memory, *self.clocks().values())

    def limit(self):
        clocks = {**self.clocks(), "memory": self.memory_clocks("H200")}
        return max(clocks, key=clocks.get).replace("all", "issue")


def counted(path, classes):
    """Instructions by pipe for each of the classes that a path processes."""
    counts = machine_code.pipes(path)
    return {pipe: counts[pipe] / classes for pipe in PIPES}


class Report:
    """The kernels of a library. Hot paths are those of the kernels for a key that the host read, or
    for one on the device."""

    def __init__(self, library, device_key=False):
        self.kernels = machine_code.read(library)
        self.key = "(?:Lb1E)?" if device_key else "(?:Lb0E)?"

    def with_device_keys(self):
        other = copy.copy(self)
        other.key = "(?:Lb1E)?"
        return other

    def kernel(self, name, dtype, *arguments, unaligned=False):
        """By its name, element type, and further template arguments, mangled."""
        element, _ = TYPES[dtype]
        element = f"9UnalignedINS0_{element}EE" if unaligned else element
        symbol = rf"\d{name}_kernelINS0_{element}E{''.join(arguments)}"
        found = [k for s, k in self.kernels.items() if re.search(symbol, s)]
        assert len(found) == 1, f"{symbol}: {len(found)} kernels"
        return found[0]

    def row_path(self, name, dtype, items, group, reads, writes, shuffles):
        width = TYPES[dtype][1]
        vectors = items // width
        arguments = (rf"Li{vectors}E", rf"NS0_\d+{group}E", f"{self.key}E")
        kernel = self.kernel(f"{name}_row", dtype, *arguments)
        shuffles *= 1 if group == "WarpThreadGroup" else 2
        path = kernel.path(LDG=reads * vectors, STG=writes * vectors, SHFL=shuffles)
        assert path, f"{name} {dtype} {items} {group}: no such path"
        return machine_code.pipes(path), kernel.symbol

    def row_paths(self, name, dtype, bytes_moved, reads, writes, shuffles, groups):
        """Steady counts, as the difference of two sizes, and a whole row of 1024 classes."""
        for group, small, large in groups:
            (less, _), (more, symbol) = (
                self.row_path(name, dtype, items, group, reads, writes, shuffles)
                for items in (small, large)
            )
            steady = {pipe: (more[pipe] - less[pipe]) / (large - small) for pipe in PIPES}
            where = "warp" if group == "WarpThreadGroup" else "block"
            yield Path(f"{name}, row in a {where}'s registers", dtype, steady, bytes_moved, symbol)
        whole, symbol = self.row_path(name, dtype, 32, "WarpThreadGroup", reads, writes, shuffles)
        per_class = {pipe: whole[pipe] / 32 for pipe in PIPES}
        yield Path(f"{name}, all of a row of 1024", dtype, per_class, bytes_moved, symbol)

    def cluster_path(self, name, dtype, bytes_moved):
        """All that a thread does for its 64 classes, of a row in the registers of a cluster."""
        vectors = 64 // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_cluster", dtype, rf"Li{vectors}E", f"{self.key}E")
        path = kernel.path(LDG=vectors, STG=vectors, SHFL=30)
        assert path, f"{name} {dtype}: no path through a cluster's kernel"
        name = f"{name}, row in a cluster's registers"
        return Path(name, dtype, counted(path, 64), bytes_moved, kernel.symbol)

    def loop_path(self, name, what, dtype, classes, reads, writes, bytes_moved):
        vectors = classes // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_looped", dtype, self.key, r"LNS0_5StageE0E")
        # An argmax has a loop without random words as well, for rows of temperature 0.
        least_wide = 4 * classes if name == "argmax" else 0
        path = kernel.loop(least_wide, LDG=reads * vectors, STG=writes * vectors, SHFL=0)
        assert path, f"{name} {dtype}: no loop of {reads} reads and {writes} writes"
        return Path(
            f"{name}, long row, {what}", dtype, counted(path, classes), bytes_moved, kernel.symbol
        )

    def unaligned_path(self, dtype, bytes_moved):
        """The loop of an argmax whose loads are of one element: 32 classes."""
        kernel = self.kernel("argmax_looped", dtype, self.key, r"LNS0_5StageE0E", unaligned=True)
        path = kernel.loop(4 * 32, LDG=0, STG=0, SHFL=0)
        assert path, f"argmax {dtype}: no loop of loads of one element"
        name = "argmax, long row off boundaries, read"
        return Path(name, dtype, counted(path, 32), bytes_moved, kernel.symbol)

    def spatial_path(self, name, dtype, reads, writes, bytes_moved):
        """The second read of spatial rows."""
        vectors = 16 // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_spatial", dtype, f"{self.key}E")
        path = kernel.loop(LDG=reads * vectors, STG=writes * vectors, SHFL=0)
        assert path, f"{name} {dtype}: no loop over classes"
        where = "spatial rows, second read"
        return Path(f"{name}, {where}", dtype, counted(path, 16), bytes_moved, kernel.symbol)

    def tile_path(self, name, dtype, reads, writes, bytes_moved):
        """Rows of 8 classes, one lane each: the tile in and out, and twice round the rows' loop."""
        vectors = 16 // TYPES[dtype][1]
        kernel = self.kernel(f"{name}_tile", dtype, "Li8E", f"{self.key}E")
        # Of hard and soft together, the sign of a sample tells, which a lane reads and sets.
        read_back, marks = 16 * min(writes, 1), name == "hard_soft"
        flat = kernel.path(LDG=reads * vectors, STG=writes * vectors, LDS=read_back, SHFL=0)
        rows = kernel.loop(LDG=0, STG=0, LDS=8 * (2 if "backward" in name else 1) + marks, SHFL=0)
        assert flat and rows, f"{name} {dtype}: no path through a tile"
        return Path(
            f"{name}, rows of 8", dtype, counted(flat + 2 * rows, 16), bytes_moved, kernel.symbol
        )

    def noise_path(self, dtype, bytes_moved):
        width = TYPES[dtype][1]
        kernel = self.kernel("noise_run", dtype, f"{self.key}E")
        path = kernel.loop(LDG=0, STG=1, SHFL=0)
        assert path, f"noise {dtype}: no loop over groups"
        return Path("noise", dtype, counted(path, width), bytes_moved, kernel.symbol)

    def gate_path(self, kind, what, dtype, reads, writes):
        """The loop over vectors of a gate; kinds as in cuda/kernels/gate.cuh."""
        width = TYPES[dtype][1]
        kernel = self.kernel("gate", dtype, rf"LNS0_8GateKindE{kind}E")
        path = kernel.loop(LDG=reads, STG=writes, SHFL=0)
        assert path, f"gate {what} {dtype}: no loop over vectors"
        counts = machine_code.pipes(path)
        moved = (reads + writes) * 16 / width
        per_element = {pipe: counts[pipe] / width for pipe in PIPES}
        return Path(f"gate, {what}", dtype, per_element, moved, kernel.symbol)

    def paths(self):
        warp, block = ("WarpThreadGroup", 16, 32), ("BlockThreadGroup", 32, 64)
        for dtype in ["float32", "bfloat16"]:
            size = 4 if dtype == "float32" else 2
            yield from self.row_paths("soft", dtype, 2 * size, 1, 1, 10, [warp, block])
            yield self.cluster_path("soft", dtype, 2 * size)
            yield from self.row_paths("hard", dtype, 2 * size, 1, 1, 15, [warp])
            yield from self.row_paths("hard_soft", dtype, 3 * size, 1, 2, 20, [warp, block])
            yield from self.row_paths("argmax", dtype, size, 1, 0, 15, [warp])
            yield from self.row_paths("backward", dtype, 3 * size, 2, 1, 5, [warp])
            yield from self.row_paths("hard_backward", dtype, 3 * size, 2, 1, 15, [warp])
            yield self.loop_path("soft", "first read", dtype, 16, 1, 0, size)
            yield self.loop_path("soft", "second read", dtype, 16, 1, 1, 2 * size)
            yield self.loop_path("hard", "read", dtype, 32, 1, 0, size)
            yield self.loop_path("hard", "write", dtype, 32, 0, 1, size)
            yield self.loop_path("hard_soft", "first read", dtype, 16, 1, 0, size)
            yield self.loop_path("hard_soft", "second read", dtype, 16, 1, 2, 3 * size)
            yield self.loop_path("argmax", "read", dtype, 32, 1, 0, size)
            yield self.unaligned_path(dtype, size)
            yield self.loop_path("backward", "first read", dtype, 16, 2, 0, 2 * size)
            yield self.loop_path("backward", "second read", dtype, 16, 2, 1, 3 * size)
            yield self.loop_path("hard_backward", "first read", dtype, 16, 2, 0, 2 * size)
            yield self.loop_path("hard_backward", "second read", dtype, 16, 2, 1, 3 * size)
            if dtype == "float32":  # the stores of other outputs mislead the search for halves
                yield self.spatial_path("soft", dtype, 1, 1, 2 * size)
                yield self.spatial_path("hard_soft", dtype, 1, 2, 3 * size)
                yield self.spatial_path("hard_backward", dtype, 2, 1, 3 * size)
            yield self.tile_path("soft", dtype, 1, 1, 2 * size)
            yield self.tile_path("hard", dtype, 1, 1, 2 * size)
            yield self.tile_path("hard_soft", dtype, 1, 2, 3 * size)
            yield self.tile_path("argmax", dtype, 1, 0, size)
            yield self.tile_path("backward", dtype, 2, 1, 3 * size)
            yield self.tile_path("hard_backward", dtype, 2, 1, 3 * size)
            yield self.noise_path(dtype, size)
            for kind, (what, reads, writes) in enumerate(GATES):
                if (what, dtype) not in SPLIT_GATES:
                    yield self.gate_path(kind, what, dtype, reads, writes)


def label(symbol):
    """A kernel's name and template arguments."""
    name = re.search(r"\d\d([a-z_]+?)_kernel", symbol)[1]
    arguments = re.findall(
        r"(Unaligned|B?Float\d\d|Li\d+|Lb\d|StageE\d|GateKindE\d|WarpThreadGroup|BlockThreadGroup"
        r"|I[fd]E)",
        symbol,
    )
    words = {"Unaligned": "off boundaries", "Lb0": "", "Lb1": "device key", "StageE0": "whole",
             "StageE1": "reduce", "StageE2": "finish", "WarpThreadGroup": "warp",
             "BlockThreadGroup": "block", "IfE": "float", "IdE": "double",
             "GateKindE0": "soft", "GateKindE1": "hard concrete", "GateKindE2": "hard",
             "GateKindE3": "kept", "GateKindE4": "backward",
             "GateKindE5": "recomputed"}  # fmt: skip
    shown = [words.get(a, a.replace("Li", "").lower()) for a in arguments]
    return name, " ".join(s for s in shown if s)


FAST = "(_(row|looped|tile|spatial|cluster)|gate)_kernel"


def reads_rows(symbol):
    """The second launch of a hard choice of several blocks reads no logits."""
    return re.search(FAST, symbol) and not re.search("hard_looped.*StageE2|Unaligned", symbol)


def writes_rows(symbol):
    """An argmax writes none, nor does the first launch of rows of several blocks."""
    return re.search(f"{FAST}|noise_run", symbol) and not re.search("argmax|StageE1", symbol)


def budget():
    """{"goals": {hot path: instructions}, "instructions": {hot path: at most}}."""
    return json.loads(BUDGET.read_text())


def over_budget(report):
    """The excesses over the budget, as sentences."""
    limits = budget()["instructions"]
    found = {path.key: path.counts["all"] for path in report.paths()}
    faults = [f"no hot path named {key}" for key in limits if key not in found]
    for key, most in limits.items():
        if key in found and found[key] > most:
            faults.append(f"{key}: {found[key]:.2f} instructions, budget {most}")
    for kernel in report.kernels.values():
        name = " ".join(label(kernel.symbol))
        if kernel.spills():
            faults.append(f"{name}: {kernel.spills()} spills")
        if reads_rows(kernel.symbol) and 128 not in kernel.widths("LDG"):
            faults.append(f"{name}: no 128-bit loads")
        if writes_rows(kernel.symbol) and 128 not in kernel.widths("STG"):
            faults.append(f"{name}: no 128-bit stores")
    return faults
