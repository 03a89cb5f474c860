# SPDX-License-Identifier: Apache-2.0
"""Reading results.json: medians, ratios, and finding cases."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

Case = dict[str, Any]
Entry = dict[str, Any]


def entry_of(case: Case, label: str) -> Entry | None:
    return next((e for e in case["entries"] if e["label"] == label), None)


def first_of(case: Case) -> Entry:
    """The entry that the others of a case are compared with."""
    entry: Entry = case["entries"][0]
    return entry


def elements(entry: Entry) -> int:
    return math.prod(entry["shape"])


def classes(entry: Entry) -> int:
    found: int = entry["shape"][entry["dim"]]
    return found


def seconds(entry: Entry) -> float:
    return float(statistics.median(entry["seconds"]))


def nanoseconds(entry: Entry) -> float:
    """Nanoseconds per element."""
    return seconds(entry) / elements(entry) * 1e9


def over_rounds(case: Case, figure: Callable[..., float], *labels: str) -> float | None:
    """Median over the rounds of a figure of the seconds of some entries; None if one is absent."""
    entries = [entry_of(case, label) for label in labels]
    rounds = [e["seconds"] for e in entries if e is not None]
    if len(rounds) < len(labels):
        return None
    return statistics.median(figure(*r) for r in zip(*rounds, strict=True))


def ratio(case: Case, label: str, under: str | None = None) -> float | None:
    """Time per element of an entry relative to that of another (the first)."""
    below = under or first_of(case)["label"]
    top, bottom = entry_of(case, label), entry_of(case, below)
    if top is None or bottom is None:
        return None
    size = elements(bottom) / elements(top)
    return over_rounds(case, lambda a, b: a / b * size, label, below)


def select(results: dict[str, Any], section: str, **wanted: object) -> list[Case]:
    """Cases of a section whose first entry has that kind, dtype, tau, or number of classes."""

    def fits(case: Case) -> bool:
        first = first_of(case)
        known = {**first, "classes": classes(first), "shape": tuple(first["shape"])}
        return case["section"] == section and all(known[k] == v for k, v in wanted.items())

    return [case for case in results["cases"] if fits(case)]
