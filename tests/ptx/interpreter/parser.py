# SPDX-License-Identifier: Apache-2.0
"""PTX text to kernels: parameters, registers, shared memory, labels, instructions."""

import re
from collections.abc import Collection
from dataclasses import dataclass, field

from .data_types import DTYPES, align, size_of
from .errors import PtxError

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_ENTRY = re.compile(r"^(?:\.visible |\.weak )?\.entry\s+([\w$]+)\s*\((.*?)\)([^{]*)\{", re.M | re.S)
_EXTERN = re.compile(r"\.extern\s+\.shared\s+(?:\.align\s+\d+\s+)?\.\w+\s+([\w$]+)\[\]")
_MODULE_SHARED = re.compile(r"^(?:\.weak )?(\.shared [^;]*?([\w$]+)\[\d+\]);", re.M)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+(\d+)\s+)?\.(\w+)\s+(?:\.ptr[^%]*?\s)?([\w$]+)(?:\[(\d+)\])?"
)
_SHARED = re.compile(r"\.shared (?:\.align (\d+) )?\.(\w+) ([\w$]+)(?:\[(\d+)\])?")
_REGISTERS = re.compile(r"\.reg \.(\w+) (.*)")
_REGISTER = re.compile(r"(%?[\w$]+)(?:<(\d+)>)?")
_LABEL = re.compile(r"([\w$]+):(?!:)")
_INSTRUCTION = re.compile(r"(?:@(!?)(%?[\w$]+) )?([a-z][\w.:]*)\s*(.*)")
_OPERAND = re.compile(r"(?:\{[^}]*\}|\[[^\]]*\]|[^,])+")


@dataclass(frozen=True)
class Instruction:
    """One instruction: `@guard opcode.modifiers operands;`."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[str, ...]
    guard: str = ""  # predicate register; "": every thread runs it
    negated: bool = False  # runs where the guard is false

    @property
    def type(self) -> str:
        """The last modifier, which is the type of most instructions."""
        return self.modifiers[-1]

    def allow(self, *names: str) -> None:
        """Raises if a modifier is neither a type nor among `names`."""
        unknown = [m for m in self.modifiers if m not in DTYPES and m not in names]
        if unknown:
            raise PtxError(f"unknown modifier .{unknown[0]}")

    def chosen(self, names: Collection[str]) -> str:
        """The modifier that is one of `names`; raises if there is none."""
        for modifier in self.modifiers:
            if modifier in names:
                return modifier
        raise PtxError(f"none of the modifiers {', '.join(names)}")

    def __str__(self) -> str:
        guard = f"@{'!' * self.negated}{self.guard} " if self.guard else ""
        return f"{guard}{'.'.join((self.opcode, *self.modifiers))} {', '.join(self.operands)}"


@dataclass(frozen=True)
class Parameter:
    """A kernel parameter and its place in parameter space."""

    name: str
    type: str
    offset: int
    size: int


@dataclass
class Kernel:
    """A kernel as written; `labels` are positions in `instructions`."""

    name: str
    most_threads: int
    parameters: list[Parameter] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)  # types
    shared: dict[str, int] = field(default_factory=dict)  # offsets
    shared_bytes: int = 0  # of what is declared with a size
    labels: dict[str, int] = field(default_factory=dict)
    instructions: list[Instruction] = field(default_factory=list)

    @property
    def parameter_bytes(self) -> int:
        return self.parameters[-1].offset + self.parameters[-1].size if self.parameters else 0


@dataclass(frozen=True)
class ModuleText:
    """A module cut into entries, which are parsed when they are needed."""

    entries: dict[str, re.Match[str]]
    shared: list[tuple[str, str]]  # (declaration, name) of shared memory of inlined functions
    dynamic_shared: list[str]  # names of the arrays without a size


def split_module(text: str) -> ModuleText:
    """Finds the entries and the declarations outside them."""
    entries = {match[1]: match for match in _ENTRY.finditer(text)}
    shared = [(match[1], match[2]) for match in _MODULE_SHARED.finditer(text)]
    return ModuleText(entries, shared, _EXTERN.findall(text))


def parse_kernel(module: ModuleText, name: str) -> Kernel:
    """The kernel of that name, with the module's shared memory that it uses."""
    entry = module.entries[name]
    body = _COMMENT.sub(" ", _body(entry))
    bound = re.search(r"\.maxntid\s+(\d+)", entry[3])
    kernel = Kernel(name, int(bound[1]) if bound else 1024)
    _parse_parameters(kernel, _COMMENT.sub(" ", entry[2]))
    for declaration, symbol in module.shared:
        if symbol in body:
            _parse_statement(kernel, declaration)
    _parse_body(kernel, body)
    kernel.instructions.append(Instruction("ret", (), ()))
    kernel.shared_bytes = align(kernel.shared_bytes, 16)
    for symbol in module.dynamic_shared:  # dynamic shared memory follows the static
        kernel.shared[symbol] = kernel.shared_bytes
    return kernel


def _body(entry: re.Match[str]) -> str:
    """The text between an entry's braces."""
    depth = 1
    for brace in re.compile(r"[{}]").finditer(entry.string, entry.end()):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return entry.string[entry.end() : brace.start()]
    raise PtxError(f"{entry[1]}: no closing brace")


def _parse_parameters(kernel: Kernel, text: str) -> None:
    offset = 0
    for declaration in filter(None, (part.strip() for part in text.split(","))):
        match = _PARAMETER.fullmatch(declaration)
        if not match:
            raise PtxError(f"unknown parameter {declaration}")
        alignment, type_, name, count = match.groups()
        size = size_of(type_) * int(count or 1)
        offset = align(offset, int(alignment or size_of(type_)))
        kernel.parameters.append(Parameter(name, type_, offset, size))
        offset += size


def _parse_body(kernel: Kernel, body: str) -> None:
    """Statements up to a semicolon; a brace at the start of one opens or closes a scope."""
    for statement in body.split(";"):
        text = " ".join(statement.split()).lstrip("{} ")
        while match := _LABEL.match(text):
            kernel.labels[match[1]] = len(kernel.instructions)
            text = text[match.end() :].lstrip("{} ")
        if text:
            _parse_statement(kernel, text)


def _parse_statement(kernel: Kernel, text: str) -> None:
    if not text.startswith("."):
        kernel.instructions.append(_parse_instruction(text))
    elif match := _REGISTERS.fullmatch(text):
        _declare_registers(kernel, match[1], match[2])
    elif match := _SHARED.fullmatch(text):
        alignment, type_, name, count = match.groups()
        offset = align(kernel.shared_bytes, int(alignment or size_of(type_)))
        kernel.shared[name] = offset
        kernel.shared_bytes = offset + size_of(type_) * int(count or 1)
    elif not text.startswith(".pragma"):
        raise PtxError(f"{kernel.name}: unknown directive {text}")


def _declare_registers(kernel: Kernel, type_: str, names: str) -> None:
    """`.reg .b32 %r<4>, %other`: %r0 to %r3, and %other."""
    for declaration in names.split(","):
        match = _REGISTER.fullmatch(declaration.strip())
        if not match:
            raise PtxError(f"{kernel.name}: unknown register {declaration}")
        name, count = match.groups()
        numbered = [f"{name}{k}" for k in range(int(count))] if count else [name]
        kernel.registers.update(dict.fromkeys(numbered, type_))


def _parse_instruction(text: str) -> Instruction:
    match = _INSTRUCTION.fullmatch(text)
    if not match:
        raise PtxError(f"unknown statement {text}")
    negated, guard, name, rest = match.groups()
    opcode, *modifiers = name.split(".")
    operands = tuple(operand.strip() for operand in _OPERAND.findall(rest))
    return Instruction(opcode, tuple(modifiers), operands, guard or "", bool(negated))
