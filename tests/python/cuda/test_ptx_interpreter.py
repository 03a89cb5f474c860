# SPDX-License-Identifier: Apache-2.0
"""The PTX interpreter of tests/ptx on small programs whose results are known."""

import pathlib
import struct
import sys

import numpy as np
import pytest

sys.path.append(str(pathlib.Path(__file__).resolve().parents[2] / "ptx"))
import interpreter

NAN, INF = float("nan"), float("inf")
REGISTERS = (".reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<30>; .reg .f32 %f<9>; "
             ".reg .b64 %rd<30>; .reg .f64 %fd<9>;")  # fmt: skip
# %r0: the thread's number in the launch; %rd9: the address of its 8 bytes of `out`.
PROLOGUE = """
    ld.param.u64 %rd8, [out];
    mov.u32 %r1, %tid.x; mov.u32 %r2, %ctaid.x; mov.u32 %r3, %ntid.x;
    mad.lo.s32 %r0, %r2, %r3, %r1;
    mul.wide.u32 %rd7, %r0, 8; add.s64 %rd9, %rd8, %rd7;"""


def launch(body, *, blocks=1, threads=1, order="all", declarations="", **options):
    """Runs a kernel `body`; gives its `out`, eight bytes per thread, as uint64."""
    text = f""".version 9.0 .target sm_90
{declarations}
.visible .entry k(.param .u64 out)
.maxntid 128, 1, 1
{{ {REGISTERS} {PROLOGUE} {body} ret; }}"""
    out = np.zeros(blocks * threads, np.uint64)
    interpreter.Module(text).launch("k", (blocks,), (threads,), ["out"], {"out": out},
                                    order=order, **options)  # fmt: skip
    return out


def bits(value, code):
    """A Python number as the bits of a C type (a code of struct)."""
    data = struct.pack(code, value)
    return int.from_bytes(data, "little")


def constant(value, code):
    """A Python number as an immediate operand."""
    written = {"f": "0f{:08X}", "d": "0d{:016X}"}.get(code)
    return written.format(bits(value, code)) if written else str(value)


def evaluate(instruction, *operands):
    """The result's bits of `instruction d, operands`, from registers and from immediates.

    instruction: "add.f32 f fff": the opcode, the type of the result, those of the operands.
    """
    name, result, types = instruction.split(" ")
    register = {"h": "%h", "e": "%h", "H": "%h", "f": "%f", "d": "%fd", "q": "%rd", "Q": "%rd"}
    width = {"e": 16, "h": 16, "H": 16, "i": 32, "I": 32, "f": 32, "q": 64, "Q": 64, "d": 64}

    def name_of(code, number):
        return f"{register.get(code, '%r')}{number + 4}"

    moves, names = "", []
    for k, (value, code) in enumerate(zip(operands, types, strict=True)):
        names.append(name_of(code, k))
        moves += f"mov.b{width[code]} {names[-1]}, {bits(value, code)};"
    to, store = name_of(result, 4), f"st.global.b{width[result]} [%rd9], {name_of(result, 4)};"
    from_registers = int(launch(f"{moves} {name} {to}, {', '.join(names)}; {store}")[0])
    if not set("eh") & set(types):
        immediates = [constant(v, code) for v, code in zip(operands, types, strict=True)]
        assert int(launch(f"{name} {to}, {', '.join(immediates)}; {store}")[0]) == from_registers
    return from_registers


@pytest.mark.parametrize("instruction, operands, result", [
    ("add.s32 I II", (2**32 - 1, 2), 1),
    ("sub.s64 q qq", (5, -3), 8),
    ("mul.lo.s32 i ii", (70000, 70000), 4900000000 - 2**32),
    ("mul.hi.u32 I II", (2**31, 6), 3),
    ("mul.wide.u32 Q II", (2**32 - 1, 2**32 - 1), (2**32 - 1) ** 2),
    ("mul.wide.s32 q ii", (-3, 7), -21),
    ("mad.lo.s32 i iii", (3, -4, 5), -7),
    ("div.s32 i ii", (-7, 2), -3),
    ("rem.s32 i ii", (-7, 2), -1),
    ("div.u32 I II", (7, 0), 2**32 - 1),
    ("min.s32 i ii", (-1, 1), -1),
    ("min.u32 I II", (2**32 - 1, 1), 1),
    ("add.rn.f32 f ff", (1.0, 2.0**-24), 1.0),
    ("fma.rn.f32 f fff", (1 + 2.0**-12, 1 + 2.0**-12, -1 - 2.0**-11), 2.0**-24),
    ("fma.rn.f32 f fff", (1 + 2.0**-23, 2.0**-24, 1.0), 1 + 2.0**-23),
    ("fma.rn.f64 d ddd", (1 + 2.0**-27, 1 + 2.0**-27, -1 - 2.0**-26), 2.0**-54),
    ("div.rn.f32 f ff", (1.0, 3.0), np.float32(1) / np.float32(3)),
    ("rcp.rn.f64 d d", (0.0,), INF),
    ("max.f32 f ff", (NAN, 1.0), 1.0),
    ("max.f32 f ff", (-0.0, 0.0), 0.0),
    ("min.f32 f ff", (0.0, -0.0), -0.0),
    ("ex2.approx.ftz.f32 f f", (-127.0,), 0.0),
    ("lg2.approx.ftz.f32 f f", (2.0**-130,), -INF),
    ("lg2.approx.ftz.f32 f f", (8.0,), 3.0),
    ("neg.f64 d d", (0.0,), -0.0),
    # One NaN on every CPU: its sign must not depend on the index of a thread.
    ("sub.rn.f64 d dd", (INF, INF), NAN),
    ("add.rn.f64 d dd", (-NAN, 1.0), NAN),
])  # fmt: skip
def test_arithmetic(instruction, operands, result):
    assert evaluate(instruction, *operands) == bits(result, instruction.split(" ")[1])


@pytest.mark.parametrize("instruction, operands, result", [
    ("xor.b32 I II", (0b1100, 0b1010), 0b0110),
    ("not.b32 I I", (0xF,), 0xFFFFFFF0),
    ("shl.b32 I II", (3, 31), 2**31),
    ("shl.b32 I II", (3, 32), 0),
    ("shr.u64 Q QI", (2**63, 200), 0),
    ("shr.s32 i iI", (-8, 1), -4),
    ("shr.s32 i iI", (-8, 99), -1),
    ("bfi.b32 I IIII", (0xAB, 0xFFFFFFFF, 8, 8), 0xFFFFABFF),
    ("bfi.b32 I IIII", (0xAB, 0x12345678, 0, 32), 0xAB),
    ("bfi.b32 I IIII", (0xAB, 0x12345678, 32, 8), 0x12345678),
    ("bfi.b32 I IIII", (0xFF, 0, 28, 8), 0xF0000000),
    ("bfi.b64 Q QQII", (0x89ABCDEF, 0x01234567, 32, 32), 0x89ABCDEF01234567),
    ("bfi.b64 Q QQII", (7, 9, 5, 0), 9),
    ("bfe.u32 I III", (0x12345678, 8, 12), 0x456),
    ("bfe.s32 i iII", (0x00000F80, 7, 5), -1),
    ("bfe.s32 i iII", (-(2**31), 30, 9), -2),
    ("bfe.u64 Q QII", (2**63, 63, 9), 1),
    ("bfe.u32 I III", (5, 0, 0), 0),
    ("prmt.b32 I III", (0x33221100, 0xF7665544, 0xF740), 0xFFF74400),
    ("bfind.shiftamt.u32 I I", (1,), 31),
    ("bfind.u32 I I", (0,), 2**32 - 1),
    ("clz.b32 I I", (0xFFFF,), 16),
    ("popc.b32 I I", (0xF0F0,), 8),
    ("brev.b32 I I", (0x80000003,), 0xC0000001),
])  # fmt: skip
def test_bits(instruction, operands, result):
    assert evaluate(instruction, *operands) == bits(result, instruction.split(" ")[1])


@pytest.mark.parametrize("instruction, operands, result", [
    ("cvt.u32.u64 I Q", (2**40 + 5,), 5),
    ("cvt.s64.s32 q i", (-5,), -5),
    ("cvt.u64.u32 Q I", (2**32 - 5,), 2**32 - 5),
    ("cvt.s32.s8 i i", (0xFF,), -1),
    ("cvt.sat.u32.s32 I i", (-4,), 0),
    ("cvt.rn.f32.u32 f I", (2**24 + 1,), 2.0**24),
    ("cvt.rn.f32.u32 f I", (2**24 + 3,), 2.0**24 + 4),
    ("cvt.rn.f32.u64 f Q", (2**64 - 1,), 2.0**64),
    ("cvt.rn.f32.f64 f d", (1 + 2.0**-24,), 1.0),
    ("cvt.f64.f32 d f", (0.1,), float(np.float32(0.1))),
    ("cvt.rzi.s32.f32 i f", (-2.7,), -2),
    ("cvt.rni.s32.f32 i f", (2.5,), 2),
    ("cvt.rzi.u32.f32 I f", (-1.0,), 0),
    ("cvt.rzi.s32.f32 i f", (1e20,), 2**31 - 1),
    ("cvt.rzi.s32.f32 i f", (NAN,), 0),
    ("cvt.rmi.f32.f32 f f", (-1.5,), -2.0),
    # Half: ties to even, the largest number, overflow, the smallest, half of it.
    ("cvt.rn.f16.f32 e f", (1 + 2.0**-11,), 1.0),
    ("cvt.rn.f16.f32 e f", (1 + 3 * 2.0**-11,), 1 + 2.0**-9),
    ("cvt.rn.f16.f32 e f", (65519.0,), 65504.0),
    ("cvt.rn.f16.f32 e f", (65520.0,), INF),
    ("cvt.rn.f16.f32 e f", (2.0**-24,), 2.0**-24),
    ("cvt.rn.f16.f32 e f", (-(2.0**-25),), -0.0),
    ("cvt.f32.f16 f e", (2.0**-24,), 2.0**-24),
    ("cvt.rn.f16x2.f32 I ff", (1.0, 2.0), 0x3C004000),
    ("cvt.rn.bf16x2.f32 I ff", (1.0, -2.0), 0x3F80C000),
    ("cvt.rn.bf16.f32 H f", (1 + 2.0**-8,), 0x3F80),
    ("cvt.rn.bf16.f32 H f", (1 + 3 * 2.0**-8,), 0x3F82),
    ("cvt.f32.bf16 f H", (0x3F82,), 1 + 2.0**-6),
])  # fmt: skip
def test_conversions(instruction, operands, result):
    assert evaluate(instruction, *operands) == bits(result, instruction.split(" ")[1])


@pytest.mark.parametrize("comparison, numbers, with_nan", [
    ("eq", [False, True, False], False), ("ne", [True, False, True], False),
    ("lt", [True, False, False], False), ("geu", [False, True, True], True),
    ("neu", [True, False, True], True), ("num", [True] * 3, False), ("nan", [False] * 3, True),
])  # fmt: skip
def test_comparisons_of_numbers_and_nan(comparison, numbers, with_nan):
    """1, 2, 3, and NaN with 2; and the opposite, combined with another predicate."""
    for value, true in zip([1.0, 2.0, 3.0, NAN], [*numbers, with_nan], strict=True):
        a, b = constant(value, "f"), constant(2.0, "f")
        (got,) = launch(f"""
            mov.pred %p3, 1; setp.{comparison}.and.f32 %p1|%p2, {a}, {b}, %p3;
            selp.b32 %r4, 1, 0, %p1; selp.b32 %r5, 2, 0, %p2; or.b32 %r4, %r4, %r5;
            setp.{comparison}.or.f32 %p1, {a}, {b}, !%p3;
            selp.b32 %r5, 4, 0, %p1; or.b32 %r4, %r4, %r5; st.global.u32 [%rd9], %r4;""")
        assert got == (5 if true else 2)
