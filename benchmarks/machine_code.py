# SPDX-License-Identifier: Apache-2.0
"""Reads the GPU machine code in a library: resources, and the instructions of hot paths by pipe.

The hot path of a kernel is the shortest way through its code that makes a given number of 128-bit
loads, 128-bit stores, and shuffles: no rare branch is on it. Loops are taken round once.
"""

import collections
import dataclasses
import heapq
import pathlib
import re
import shutil
import subprocess
import sysconfig
import tempfile


def tool(name):
    """A program of the CUDA toolkit or of its package on PyPI; None if there is none."""
    site = pathlib.Path(sysconfig.get_paths()["purelib"])
    packaged = sorted(site.glob(f"nvidia/*/bin/{name}"))
    return str(packaged[-1]) if packaged else shutil.which(name)


def run(name, *arguments, cwd=None):
    return subprocess.run([tool(name), *map(str, arguments)], cwd=cwd, text=True,
                          capture_output=True, check=True).stdout  # fmt: skip


@dataclasses.dataclass
class Instruction:
    predicated: bool
    opcode: str
    rest: str

    @property
    def base(self):
        return self.opcode.split(".")[0]

    @property
    def target(self):
        found = re.search(r"`\((\.L\w+)\)", self.rest)
        return found[1] if found else None

    def counts(self):
        """Global accesses count if they are of 128 bits."""
        return self.base not in ("LDG", "STG") or "128" in self.opcode.split(".")

    @property
    def conditional(self):
        return self.predicated or bool(re.search(r"\bU?P\d", self.rest.split("`")[0]))


def pipe(instruction):
    """The unit of a multiprocessor that an instruction needs, in addition to an issue slot."""
    base = instruction.base
    if instruction.opcode.startswith("IMAD.WIDE"):
        return "wide"
    if base in ("FFMA", "FMUL", "FADD", "IMAD"):
        return "fma"
    if base == "MUFU":
        return "mufu"
    if base in ("LDG", "STG", "LDS", "STS", "LD", "SHFL", "LDC"):
        return "memory"
    return "alu"


class Kernel:
    """One kernel's code and resources."""

    def __init__(self, symbol, text):
        self.symbol, self.code, self.labels = symbol, [], {}
        self.registers = self.stack = self.shared = 0
        for line in text.splitlines():
            label = re.match(r"\s*(\.L\w+):", line)
            if label:
                self.labels[label[1]] = len(self.code)
            found = re.search(r"/\*[0-9a-f]{4,6}\*/\s+(@!?U?P\w+)?\s*([A-Z][\w.]*)(.*?);", line)
            if found:
                self.code.append(Instruction(bool(found[1]), found[2], found[3]))

    def spills(self):
        return sum(i.base in ("LDL", "STL") for i in self.code)

    def widths(self, base):
        """Bits of its global loads (LDG) or stores (STG), each that occurs."""
        found = {re.search(r"\.(U?8|U?16|64|128)\b", i.opcode) for i in self.code if i.base == base}
        return sorted({int(f[1].strip("U")) if f else 32 for f in found})

    def _next(self, pc):
        instruction = self.code[pc]
        if instruction.base == "EXIT":
            return [pc + 1] if instruction.predicated else []
        if instruction.base == "BRA":
            then = [self.labels[instruction.target]]
            return [*then, pc + 1] if instruction.conditional else then
        # A call is the slow path of a division, for extreme operands.
        return [pc + 1] if instruction.base not in ("RET", "BRX", "BPT", "CALL") else []

    def path(self, begin=0, end=None, **wanted):
        """The shortest way from `begin` to `end`, or to an exit; None if there is none.

        wanted: how many instructions of a kind it has; of LDG and STG, 128-bit ones.
        """
        kinds, goal = tuple(wanted), tuple(wanted.values())
        start = (begin, *[0] * len(kinds))
        queue, came_from, done = [(0, start)], {start: None}, set()
        while queue:
            length, state = heapq.heappop(queue)
            if state in done:
                continue
            done.add(state)
            instruction = self.code[state[0]]
            after = tuple(
                n + (kind == instruction.base and instruction.counts())
                for kind, n in zip(kinds, state[1:], strict=True)
            )
            if any(n > most for n, most in zip(after, goal, strict=True)):
                continue
            following = self._next(state[0])
            finished = end in following if end is not None else instruction.base == "EXIT"
            if finished and after == goal:
                return self._walk(came_from, state)
            for target in following:
                further = (target, *after)
                if target < len(self.code) and further not in done and target != end:
                    came_from.setdefault(further, state)
                    heapq.heappush(queue, (length + 1, further))
        return None

    def _walk(self, came_from, state):
        path = []
        while state is not None:
            path.append(self.code[state[0]])
            state = came_from[state]
        return path[::-1]

    def loop(self, least_wide=0, **wanted):
        """The shortest way round a loop with so many instructions; None if there is none.

        least_wide: of the wide multiplications, of which random words are made.
        """
        heads = set()
        for pc, instruction in enumerate(self.code):
            if instruction.base == "BRA" and self.labels[instruction.target] <= pc:
                heads.add(self.labels[instruction.target])
        found = [self.path(head, head, **wanted) for head in sorted(heads)]
        found = [path for path in found if path and pipes(path)["wide"] >= least_wide]
        return min(found, key=len, default=None)


def pipes(path):
    """{pipe: instructions} of a path, with "all"."""
    counts = collections.Counter(pipe(instruction) for instruction in path)
    return collections.Counter({**counts, "all": len(path)})


def cubins(library, folder, architecture):
    """The device code of a library, object, or cubin for one architecture."""
    library = pathlib.Path(library).resolve()
    if library.suffix == ".cubin":
        return [library]
    run("cuobjdump", "-xelf", "all", library, cwd=folder)
    return sorted(pathlib.Path(folder).glob(f"*{architecture}*.cubin"))


def read(library, architecture="sm_90"):
    """{symbol: Kernel} of a library."""
    kernels = {}
    with tempfile.TemporaryDirectory() as folder:
        for cubin in cubins(library, folder, architecture):
            text = run("nvdisasm", "-c", cubin)
            for section in re.split(r"\n//-+ \.text\.", text)[1:]:
                symbol = section.split()[0]
                kernels[symbol] = Kernel(symbol, section)
            usage = run("cuobjdump", "-res-usage", cubin)
            for symbol, registers, stack, shared in re.findall(
                r"Function (\S+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", usage
            ):
                if symbol in kernels:
                    kernel = kernels[symbol]
                    kernel.registers, kernel.stack = int(registers), int(stack)
                    kernel.shared = int(shared)
    return kernels
