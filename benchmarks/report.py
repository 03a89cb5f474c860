# SPDX-License-Identifier: Apache-2.0
"""RESULTS.md from a run's results.

python benchmarks/report.py FOLDER writes it (and the plot) again from FOLDER/results.json.
"""

from __future__ import annotations

import json
import statistics
import sys
from pathlib import Path
from typing import Any

from cases import BACKWARD, FULL_GAIN, KINDS, LABELS, OURS
from results import (
    Entry,
    classes,
    elements,
    entry_of,
    first_of,
    nanoseconds,
    ratio,
    seconds,
    select,
)
from tables import Columns, Lines, shape_of, short, side_by_side, table
from targets import share_of_copy_bandwidth, share_of_copy_scaling, speed_up, targets

Results = dict[str, Any]

METHOD = """\
All implementations of a case get the same random logits and the same number of threads, and are
timed in turn, in an order that changes, in {rounds} rounds of at least {least} ms each. A figure
is the median of the rounds, a ratio the median of the rounds' ratios: the time of the
implementation over that of torch_gumbel; its ns per element follow in brackets. Results are
checked first: those of torch_gumbel against formulas in float64, others for their form (finite,
rows that sum to 1 or are one-hot, new at every call); a † marks a failed check, listed below.
Every call allocates its output, except `copy`, which is `out.copy_(logits)`; the C library keeps
freed memory (`MALLOC_TRIM_THRESHOLD_`), so that no call includes page faults. Every implementation
is compiled and warmed up first.

Threads are those of `torch.set_num_threads` with `OMP_NUM_THREADS` and `MKL_NUM_THREADS`; XLA's
pool has as many by `NPROC`, Paddle's by `FLAGS_paddle_num_threads` and `core.set_num_threads`;
[Cores in use](#cores-in-use) shows what each used. JAX is jitted
`softmax((x + jax.random.gumbel) / tau)` in its default mode and `jax.random.categorical`, Paddle
`gumbel_softmax` and `softmax` with `multinomial`. tau is 0.7 unless stated otherwise."""


K = {"K": lambda entry: str(classes(entry))}
KIND = {"what": lambda entry: str(entry["kind"])}
SHAPE = {"shape": shape_of}
DTYPE = {"dtype": lambda entry: str(entry["dtype"])}


def by_kind(results: Results, section: str, columns: Columns) -> Lines:
    lines: Lines = []
    for kind in KINDS:
        cases = select(results, section, kind=kind)
        if cases:
            lines += ["", f"### {section_title(section)}, {kind}", *side_by_side(cases, columns)]
    return lines or ["", "Not measured in this run.", ""]


def section_title(section: str) -> str:
    return {"classes": "float32", "many threads": "N threads", "dtypes": "Other dtypes"}[section]


def scaling(results: Results) -> Lines:
    rows = []
    for case in select(results, "scaling"):
        one, two = (entry_of(case, f"{OURS}, {n} threads") for n in (1, 2))
        copy, control = (
            ratio(case, f"{who}, 1 threads", under=f"{who}, 2 threads")
            for who in ("copy", "arithmetic")
        )
        ours, share = speed_up(case), share_of_copy_scaling(case)
        if one and two and ours and copy and control and share:
            figures = [short(nanoseconds(one)), short(nanoseconds(two)), f"**{ours:.2f}x**"]
            others = [f"{control:.2f}x", f"{copy:.2f}x", f"{share:.0f} %"]
            rows.append([one["kind"], shape_of(one), *figures, *others])
    ours_header = ["what", "shape", "1 thread, ns", "2 threads, ns", "speed-up"]
    header = [*ours_header, "of arithmetic", "of a copy", "share of a copy's"]
    if not rows:
        return ["", "Not measured in this run.", ""]
    how = [
        "",
        "Arithmetic is `torch.lgamma` of values that stay in the caches, timed in the same rounds:",
        f"what the machine's cores gave just then. Where that was less than {FULL_GAIN}x, the",
        "rounds of all were taken again.",
    ]
    return [*how, *table(header, rows)]


def memory(results: Results) -> Lines:
    rows = []
    for case in select(results, "memory", kind=BACKWARD):
        ours, copy, share = first_of(case), entry_of(case, "copy"), share_of_copy_bandwidth(case)
        if copy and share:
            speed = [f"{bytes_ / nanoseconds(e):.1f}" for bytes_, e in ((12, ours), (8, copy))]
            rows.append([shape_of(ours), short(nanoseconds(ours)), *speed, f"{share:.0f} %"])
    return table(["shape", "ns per element", "GB/s", "copy, GB/s", "share"], rows)


def ending(record: dict[str, Any]) -> str:
    ends = record["at_top"] >= 3
    return f"ends at {record['largest']:.2f}" if ends else "no end seen"


def noise(results: Results) -> Lines:
    header = ["library", "draws", "largest seen", "rows that end there", "infinite rows", ""]
    rows = [
        [r["noise"], f"2^{r['draws'].bit_length() - 1}"]
        + (
            ["absent", "", "", r["absent"]]
            if "absent" in r
            else [f"**{r['largest']:.2f}**", str(r["at_top"]), str(r["infinite"]), ending(r)]
        )
        for r in results["noise"]
    ]
    exact = results["noise"][0]["exact"] if results["noise"] else "?"
    return [
        "",
        "Seen through each sampler (`noise.py`): of as many draws from a true Gumbel distribution,",
        f"the largest is about {exact} (give or take 1.3), and no two rows share it. Where several",
        "rows of 2^22 draws end at one value, the uniform behind them ends there. Ours ends at",
        "45.05, which `make prove-noise` shows over all words.",
        *table(header, rows),
    ]


def cores_in_use(results: Results) -> Lines:
    """How many cores an implementation uses, in the median of the cases that are not tiny."""
    found: dict[tuple[str, str], list[float]] = {}
    for case in results["cases"]:
        for entry in case["entries"]:
            threads = f"{entry['threads']} thread" + ("s" if entry["threads"] > 1 else "")
            if elements(entry) > 1000:
                found.setdefault((LABELS[entry["who"]], threads), []).append(entry["cores"])
    counts = sorted({count for _, count in found})
    median = {key: f"{statistics.median(values):.2f}" for key, values in found.items()}
    names = list(dict.fromkeys(name for name, _ in found))
    rows = [[n, *(median.get((n, c), "") for c in counts)] for n in names]
    return ["", "Processor time over time, the median of the cases.", *table(["", *counts], rows)]


def left_out(results: Results) -> Lines:
    """Implementations that were absent or wrong, why, and where."""
    found: dict[tuple[str, str], list[str]] = {}
    for case in results["cases"]:
        first = first_of(case)
        where = f"{first['kind']} {shape_of(first)} {first['dtype']}"
        for label, why in case["absent"].items():
            found.setdefault((label, f"absent: {why}"), []).append(where)
        for entry in case["entries"]:
            if "note" in entry:
                found.setdefault((entry["label"], f"† {entry['note']}"), []).append(where)
    for record in results["died"]:
        found.setdefault((record["setting"], f"process ended by {record['died']}"), []).append("")
    rows = [
        [
            label,
            why.replace("|", "/"),
            str(len(where)),
            "; ".join(where[:3]) + "; ..." * (len(where) > 3),
        ]
        for (label, why), where in found.items()
    ]
    return table(["who", "why", "cases", "where"], rows) if rows else ["", "None.", ""]


def target_table(results: Results) -> Lines:
    lines = [t.line(results["machine"]["instruction set"]) for t in targets(results)]
    verdicts = [line.rsplit("|", 2)[1] for line in lines]
    met = sum(v.strip() == "met" for v in verdicts)
    missed = sum("not met" in v for v in verdicts)
    return [
        "",
        f"{met} met, {missed} not met, {len(lines) - met - missed} not measured in this run.",
        "",
        "| what (float32, 1 thread unless said) | target | this run | |",
        "|---|---|---|---|",
        *lines,
        "",
    ]


def header(results: Results) -> Lines:
    first = results["cases"][0]["entries"][0]["seconds"]
    method = METHOD.format(rounds=len(first), least=2 if results["quick"] else 20)
    quick = ["", "**A quick run: few rounds, small tensors. Not for quoting.**"]
    rows = [[name, value] for name, value in results["machine"].items()]
    return [
        "# Measured on a CPU",
        "",
        f"Generated by `make bench` on {results['machine']['processor']}. No GPU was measured.",
        *(quick if results["quick"] else []),
        *table(["", ""], rows),
        "![ns per element against K](results.png)",
        "",
        "## Method",
        "",
        method,
    ]


def markdown(results: Results) -> str:
    def one(section: str, **columns: Any) -> Lines:
        return side_by_side(select(results, section), columns)

    def us(entry: Entry) -> float:
        return seconds(entry) * 1e6

    small = select(results, "small")
    size = elements(results["cases"][0]["entries"][0])
    sections: dict[str, Lines] = {
        f"By number of classes: float32, 1 thread, about {size / 2**20:.3g} M elements": by_kind(
            results, "classes", K
        ),
        "tau = 1: soft": one("tau 1", **K),
        "Other numbers of classes: soft": one("odd classes", **K),
        "Rows that end within cache lines: soft": one("partial lines", **K),
        "bfloat16 against float32": one("bfloat16", **KIND, **K),
        "Other dtypes, 1 thread": by_kind(results, "dtypes", {**DTYPE, **K}),
        "One row": one("one row", **KIND, **SHAPE),
        "dim=1": one("dim=1", **KIND, **SHAPE),
        "A small call: (4, 10)": side_by_side(small, KIND, us, "us"),
        "N threads, float32": by_kind(results, "many threads", {**SHAPE, "threads": threads_of}),
        "2 threads against 1": scaling(results),
        "Backward from y, out of cache": memory(results),
        "AVX2 forced, for torch too": one("avx2", **KIND, **K),
        "Noise caps": noise(results),
        "Cores in use": cores_in_use(results),
        "Absent or wrong": left_out(results),
        "Targets": target_table(results),
    }
    body = [line for title, lines in sections.items() for line in ("", f"## {title}", *lines)]
    text = "\n".join([*header(results), *body])
    while "\n\n\n" in text:
        text = text.replace("\n\n\n", "\n\n")
    return text.strip() + "\n"


def threads_of(entry: Entry) -> str:
    return str(entry["threads"])


def write(results: Results, folder: Path) -> None:
    import plot

    (folder / "RESULTS.md").write_text(markdown(results))
    plot.write(results, folder / "results.png")


if __name__ == "__main__":
    written_to = Path(sys.argv[1])
    write(json.loads((written_to / "results.json").read_text()), written_to)
