# SPDX-License-Identifier: Apache-2.0
"""Instructions per element of the CPU kernels: counts, which do not depend on load.

    python benchmarks/instructions.py [--check] [--build build/cmake]

AVX2 is counted as it runs, by valgrind's callgrind (which knows no AVX-512): two runs that differ
in rows only, so that what is not per element cancels. AVX-512 is counted in the machine code: the
steady loops of each stage, by the instructions that work on vectors. Writes instructions.json;
with --check, compares with it and fails where a count has grown by more than 3 %.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).parent
KEPT = HERE / "instructions.json"
GROWTH = 1.03

#: Cases of callgrind: op, classes, temperature.
CASES = [
    *(("soft", k, 0.7) for k in (2, 10, 33, 100, 1024, 32000)),
    ("soft", 1024, 1.0),
    *(("hard", k, 0.7) for k in (10, 1024)),
    *(("index", k, 1.0) for k in (10, 1024, 32000)),
    *(("backward", k, 0.7) for k in (10, 1024)),
    *(("hard backward", k, 0.7) for k in (10, 1024)),
]

#: Stages of AVX-512: functions of the library that hold it, an instruction that tells its loop from
#: others there, and elements for each time that it stands in the loop. Loops that reduce what they
#: make are counted with it: scores with their maximum, quotients and exponentials with their sum,
#: bounds with both.
STAGES = {
    "random words": ("fill_words", "vpmuludq", 32 / 17),
    "word to E": ("fill_exp1", "vgetmantps", 16),
    "score": ("group_weights<float", "vcvtdq2ps", 16),
    "quotient": ("divide_rows|load_quotients|load_weights", "vdivps", 16),
    "exponential": ("exponentiate<float>", "vscalefps", 16),
    "bound": ("bound_scores|prune_parts", "vcvtdq2ps", 8),
}


def executed(program: Path, op: str, classes: int, tau: float, rows: int) -> int:
    """Instructions of one run of the program, by callgrind."""
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program)]
    command += [op, str(classes), str(tau), str(rows)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    assert found is not None, done.stderr[-2000:]
    return int(found.group(1))


def executed_per_element(program: Path) -> dict[str, float]:
    counts = {}
    for op, classes, tau in tqdm(CASES, desc="callgrind, avx2"):
        few = max(2, 8192 // classes)
        more = 5 * few
        difference = executed(program, op, classes, tau, more) - executed(
            program, op, classes, tau, few
        )
        counts[f"{op}, K {classes}, tau {tau:g}"] = round(difference / ((more - few) * classes), 3)
    return counts


def functions(library: Path) -> dict[str, list[tuple[int, str]]]:
    """{demangled name: [(address, instruction)]} of the AVX-512 build."""
    command = ["objdump", "-d", "-C", "--no-show-raw-insn", str(library)]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found: dict[str, list[tuple[int, str]]] = {}
    name = ""
    for line in text.splitlines():
        if heading := re.fullmatch(r"[0-9a-f]+ <(.*)>:", line):
            name = heading.group(1)
        elif "::avx512::" in name and (code := re.match(r" *([0-9a-f]+):\t(.*)", line)):
            found.setdefault(name, []).append((int(code.group(1), 16), code.group(2)))
    return found


def loops(code: list[tuple[int, str]]) -> list[list[str]]:
    """Loops that work on whole 512-bit registers of float32, without those around them."""
    begin = code[0][0]
    spans = []
    for end, (address, text) in enumerate(code):
        jump = re.match(r"j\w+ +([0-9a-f]+) ", text)
        if jump and begin <= (target := int(jump.group(1), 16)) < address:
            start = next(i for i, (at, _) in enumerate(code) if at >= target)
            body = [text for _, text in code[start : end + 1]]
            if sum("zmm" in t for t in body) >= 3 and not any(
                re.match(r"v\w+pd ", t) for t in body
            ):
                spans.append((start, end, body))
    return [
        body
        for s, e, body in spans
        if not any((s, e) != (o, u) and s <= o and u <= e for o, u, _ in spans)
    ]


def counted_per_element(library: Path) -> dict[str, dict[str, float]]:
    """The steady loop of each stage: all instructions, and those on full registers."""
    code = functions(library)
    arithmetic = re.compile(r"vfn?m|v(mul|add|sub|div|scalef|rndscale|getexp|getmant)ps|vpmuludq")
    counts = {}
    for stage, (pattern, marker, per_marker) in STAGES.items():
        named = [
            body
            for name, lines in code.items()
            if re.search(pattern, name)
            for body in loops(lines)
        ]
        steady = [b for b in named if any(t.startswith(marker) and "zmm" in t for t in b)]
        if not steady:
            raise SystemExit(f"instructions: no loop of {pattern} with {marker} in {library}")
        # The steady loop is the one that does most in a turn, and that with least code: of others,
        # a part lies outside of it, for what is left at the end of a row.
        marks = [sum(t.startswith(marker) and "zmm" in t for t in b) for b in steady]
        most = max(marks)
        body = min((b for b, n in zip(steady, marks, strict=True) if n == most), key=len)
        elements = most * per_marker
        counts[stage] = {
            "instructions": round(len(body) / elements, 3),
            "on vectors": round(sum("zmm" in t for t in body) / elements, 3),
            "floating point and products": round(
                sum(bool(arithmetic.match(t)) for t in body) / elements, 3
            ),
        }
    return counts


def grown(now: dict[str, object], kept: dict[str, object], where: str = "") -> list[str]:
    worse = []
    for name, value in now.items():
        before = kept.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            worse += grown(value, before, f"{where}{name}, ")
        elif isinstance(value, float) and isinstance(before, float) and value > before * GROWTH:
            worse.append(f"{where}{name}: {value} instructions per element, kept {before}")
    return worse


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--check", action="store_true", help="compare with instructions.json")
    parser.add_argument("--build", type=Path, default=HERE.parent / "build" / "cmake")
    options = parser.parse_args()
    for tool in ("valgrind", "objdump"):
        if shutil.which(tool) is None:
            raise SystemExit(f"instructions: {tool} is not installed")
    library = options.build / "csrc" / "libtorch_gumbel_kernels.so"
    now = {
        "avx2, executed": executed_per_element(options.build / "benchmarks" / "run_kernel"),
        "avx512, in the code": counted_per_element(library),
    }
    print(json.dumps(now, indent=1))
    if not options.check:
        KEPT.write_text(json.dumps(now, indent=1) + "\n")
    elif worse := grown(now, json.loads(KEPT.read_text())):
        sys.exit("\n".join(worse))


if __name__ == "__main__":
    main()
