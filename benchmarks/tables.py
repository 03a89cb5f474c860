# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of cases."""

from __future__ import annotations

from collections.abc import Callable

from cases import LABELS
from results import Case, Entry, entry_of, first_of, nanoseconds, ratio

Lines = list[str]
Columns = dict[str, Callable[[Entry], str]]


def short(x: float) -> str:
    return f"{x:.2f}" if x < 9.995 else f"{x:.1f}" if x < 999.5 else f"{x:.0f}"


def table(header: list[str], rows: list[list[str]]) -> Lines:
    lines = [header, ["---"] * len(header), *rows]
    return ["", *("| " + " | ".join(line) + " |" for line in lines), ""]


def shape_of(entry: Entry) -> str:
    return "(" + ", ".join(map(str, entry["shape"])) + ")"


def labels_of(cases: list[Case]) -> list[str]:
    """Labels of all implementations, absent ones too, in the order of LABELS."""
    found: dict[str, None] = {}
    for case in cases:
        found.update(dict.fromkeys([e["label"] for e in case["entries"]] + list(case["absent"])))
    order = list(LABELS.values())
    return sorted(found, key=lambda label: order.index(label) if label in order else 0)


def cell(case: Case, label: str, unit: Callable[[Entry], float]) -> str:
    entry, times = entry_of(case, label), ratio(case, label)
    if entry is None or times is None:
        return "absent" if label in case["absent"] else ""
    mark = " †" if "note" in entry else ""
    return f"**{short(times)}x** ({short(unit(entry))}){mark}"


def side_by_side(
    cases: list[Case],
    first_columns: Columns,
    unit: Callable[[Entry], float] = nanoseconds,
    unit_name: str = "ns",
) -> Lines:
    """Ratios to the first entry of each case."""
    if not cases:
        return ["", "Not measured in this run.", ""]
    first, *others = labels_of(cases)
    rows = [
        [*(column(first_of(c)) for column in first_columns.values()), short(unit(first_of(c)))]
        + [cell(c, label, unit) for label in others]
        for c in cases
    ]
    return table([*first_columns, f"{first}, {unit_name}", *others], rows)
