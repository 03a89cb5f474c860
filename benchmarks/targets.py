# SPDX-License-Identifier: Apache-2.0
"""The performance targets on a CPU, and whether a run meets them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from cases import (
    BACKWARD,
    HARD,
    HARD_TRAINING,
    INDEX,
    LABELS,
    MAIN_CLASSES,
    ODD_CLASSES,
    OURS,
    SOFT,
    SOFT_TRAINING,
)
from results import Case, classes, first_of, nanoseconds, over_rounds, ratio, seconds, select

Results = dict[str, Any]
Figure = Callable[[Case], float | None]
SMALL_K = tuple(k for k in (2, *ODD_CLASSES) if k < 10)
MEDIUM_K = tuple(sorted({10, 31, 32, 33, 100}))


@dataclass(frozen=True)
class Target:
    """`figure` of each case must be at least, or at most, `limit`."""

    text: str
    limit: float
    unit: str
    cases: list[Case]
    figure: Figure
    at_most: bool = False
    needs: str = ""  # an instruction set

    def line(self, instruction_set: str) -> str:
        sign = "<=" if self.at_most else ">="
        figures = [(name_of(case), self.figure(case)) for case in self.cases]
        shown = ", ".join(f"{n}: {'-' if x is None else f'{x:.2f}'}" for n, x in figures) or "-"
        found = self.verdict([x for _, x in figures], instruction_set)
        return f"| {self.text} | {sign} {self.limit:g}{self.unit} | {shown} | {found} |"

    def verdict(self, figures: list[float | None], instruction_set: str) -> str:
        if self.needs and self.needs != instruction_set:
            return f"not measured: needs {self.needs}"
        if not figures or None in figures:
            return "not measured"
        right = [x <= self.limit if self.at_most else x >= self.limit for x in figures if x]
        return "met" if all(right) else f"**not met** ({right.count(False)} of {len(right)})"


def name_of(case: Case) -> str:
    first = first_of(case)
    rows, kind = first["shape"][0], first["kind"]
    k = classes(first)
    where = f"1 row of {k}" if rows == 1 else f"K {k}"
    return f"{kind}, {where}" if case["section"] in ("scaling", "dim=1") else where


def per_element(case: Case) -> float:
    return nanoseconds(first_of(case))


def against(who: str) -> Figure:
    return lambda case: ratio(case, LABELS[who])


def microseconds(case: Case) -> float:
    return seconds(first_of(case)) * 1e6


def speed_up(case: Case) -> float | None:
    return ratio(case, f"{OURS}, 1 threads", under=f"{OURS}, 2 threads")


def share_of_copy_scaling(case: Case) -> float | None:
    labels = [f"{who}, {n} threads" for who in (OURS, LABELS["copy"]) for n in (1, 2)]
    return over_rounds(case, lambda a1, a2, c1, c2: (a1 / a2) / (c1 / c2) * 100, *labels)


def share_of_copy_bandwidth(case: Case) -> float | None:
    """The backward moves 12 bytes per float32 element, a copy 8."""
    times = ratio(case, LABELS["copy"])
    return None if times is None else times * 12 / 8 * 100


def bfloat16_over_float32(case: Case) -> float | None:
    return ratio(case, f"{OURS}, bfloat16")


def against_own(what: str) -> Figure:
    """Time relative to torch_gumbel on another layout or number of classes."""

    def figure(case: Case) -> float | None:
        beside = ratio(case, f"{OURS}, {what}")
        return None if beside is None else 1 / beside

    return figure


def targets(results: Results) -> list[Target]:
    def cases(section: str, kind: str, wanted: Iterable[int] | None = None) -> list[Case]:
        found = select(results, section, kind=kind)
        return [c for c in found if wanted is None or classes(first_of(c)) in wanted]

    return [
        *main_targets(cases),
        *hard_training(cases),
        *index_targets(cases),
        *shape_targets(cases),
        *small(cases),
    ]


Cases = Callable[..., list[Case]]


def main_targets(cases: Cases) -> list[Target]:
    def main(section: str, kind: str) -> list[Case]:
        return cases(section, kind, MAIN_CLASSES)

    def times(what: str, limit: float, kind: str, who: str) -> Target:
        text = f"{what}, against {LABELS[who]}"
        return Target(text, limit, "x", main("classes", kind), against(who), needs="avx512")

    def fast(what: str, limit: float, section: str, needs: str) -> Target:
        found = main(section, SOFT)
        return Target(what, limit, " ns/element", found, per_element, at_most=True, needs=needs)

    return [
        fast("soft", 1.1, "classes", "avx512"),
        fast("soft, tau 1", 0.95, "tau 1", "avx512"),
        times("soft", 20, SOFT, "eager"),
        times("soft", 11, SOFT, "compiled"),
        times("soft", 14, SOFT, "jax"),
        times("hard", 25, HARD, "eager"),
        times(SOFT_TRAINING, 12, SOFT_TRAINING, "eager"),
        times(HARD_TRAINING, 12, HARD_TRAINING, "eager"),
        fast("soft, AVX2 forced", 1.45, "avx2", ""),
    ]


def hard_training(cases: Cases) -> list[Target]:
    limits = {10: 3.1, 32: 2.2, 1024: 1.65, 32000: 1.7}
    return [
        Target(
            f"{HARD_TRAINING}, K {k}",
            limit,
            " ns/element",
            cases("classes", HARD_TRAINING, (k,)),
            per_element,
            True,
            "avx512",
        )
        for k, limit in limits.items()
    ]


def index_targets(cases: Cases) -> list[Target]:
    found = cases("classes", INDEX, MAIN_CLASSES)
    return [
        Target("index", 0.5, " ns/element", found, per_element, True, "avx512"),
        Target("index, against softmax + multinomial", 40, "x", found, against("multinomial")),
        Target("index, against torch.argmax", 1, "x", found, against("argmax")),
    ]


def shape_targets(cases: Cases) -> list[Target]:
    def everywhere(wanted: Iterable[int]) -> list[Case]:
        known = list(wanted)
        both = cases("classes", SOFT, known) + cases("odd classes", SOFT, known)
        return sorted(both, key=lambda case: classes(first_of(case)))

    forward = cases("scaling", SOFT) + cases("scaling", HARD)
    layouts = [c for k in (SOFT, HARD, SOFT_TRAINING, HARD_TRAINING) for c in cases("dim=1", k)]
    eager = f"against {LABELS['eager']}"
    back, half = cases("scaling", BACKWARD), (SOFT, HARD_TRAINING)
    return [
        Target(f"soft, K >= 10, {eager}", 12, "x", everywhere(MEDIUM_K), against("eager")),
        Target(f"soft, K < 10, {eager}", 8, "x", everywhere(SMALL_K), against("eager")),
        Target(
            "soft, rows that end within cache lines, against K 1024",
            1.08,
            "x",
            cases("partial lines", SOFT),
            against_own("K 1024"),
            True,
        ),
        *(
            Target(
                f"{kind}, bfloat16 against float32",
                1.25,
                "x",
                cases("bfloat16", kind),
                bfloat16_over_float32,
                True,
            )
            for kind in half
        ),
        Target("forward, 2 threads against 1", 1.8, "x", forward, speed_up),
        Target(
            "backward, share of a copy's 2-thread scaling", 90, " %", back, share_of_copy_scaling
        ),
        Target("dim=1 against the last dim", 1.5, "x", layouts, against_own("last dim"), True),
        Target(
            "backward from y, bytes per second against a copy's",
            80,
            " %",
            cases("memory", BACKWARD),
            share_of_copy_bandwidth,
        ),
    ]


def small(cases: Cases) -> list[Target]:
    limits = {SOFT: 5, HARD: 5.5, SOFT_TRAINING: 27, HARD_TRAINING: 28}
    return [
        Target(f"(4, 10), {kind}", limit, " us", cases("small", kind), microseconds, True)
        for kind, limit in limits.items()
    ]
