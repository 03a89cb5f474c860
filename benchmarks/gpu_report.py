# SPDX-License-Identifier: Apache-2.0
"""The page of the GPU benchmark: what was measured, beside what the instruction counts predict."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from cases import BACKWARD, LABELS, SOFT, Task
from gpu_model import EAGER_PASSES, predicted_share
from tables import table

Record = dict[str, Any]
ENOUGH = 0.9  # of a prediction
ONE_ROW_US = 8.0  # a soft sample of one row of 128,256 classes: launches, not bytes, take the time
KEYS = {"ours": "device", "host key": "host"}  # where the key lies in a graph


def microseconds(record: Record, who: str, how: str) -> float | None:
    found: float | None = record["times"].get(who, {}).get(how)
    return found


def ratio(record: Record, who: str, how: str = "graph", to: str = "ours") -> float | None:
    """Time relative to torch_gumbel's."""
    ours, other = microseconds(record, to, how), microseconds(record, who, how)
    return other / ours if ours and other else None


def share_of_copy(record: Record, who: str = "ours", how: str = "graph") -> float | None:
    """Bytes per second in percent of a copy."""
    as_long = ratio(record, "copy", how, who)
    if as_long is None:
        return None
    return 100 * as_long * record["bytes"][who] / record["bytes"]["copy"]


def is_training(record: Record) -> bool:
    return "backward" in record["kind"] and record["kind"] != BACKWARD


def predicted(record: Record, who: str, multiprocessors: int) -> float | None:
    """The share of a copy by the instruction counts, at this copy's rate."""
    copy = microseconds(record, "copy", "graph")
    if not copy or is_training(record) or who not in record["times"]:
        return None
    task = Task(record["kind"], tuple(record["shape"]), record["dim"], record["dtype"])
    rate = record["bytes"]["copy"] / copy * 1e6
    return predicted_share(task, KEYS[who], rate, record["bytes"][who], multiprocessors)


def shown(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def result_table(records: list[Record]) -> list[str]:
    header = ["what", "shape", "dtype", "us, graph", "host key", "us, plain", "GB/s", "of a copy"]
    baselines = ("eager", "compiled", "softmax", "multinomial", "argmax")
    rows = []
    for record in records:
        ours = microseconds(record, "ours", "graph")
        rate = record["bytes"]["ours"] / ours / 1e3 if ours else None
        rows.append(
            [
                record["kind"],
                " x ".join(map(str, record["shape"])),
                record["dtype"],
                shown(ours, "{:.1f}"),
                shown(microseconds(record, "host key", "graph"), "{:.1f}"),
                shown(microseconds(record, "ours", "plain"), "{:.1f}"),
                "" if is_training(record) else shown(rate, "{:.0f}"),
                "" if is_training(record) else shown(share_of_copy(record), "{:.0f} %"),
                *(shown(ratio(record, who), "{:.1f}x") for who in baselines),
            ]
        )
    return table([*header, *(LABELS[who] for who in baselines)], rows)


def goals(records: list[Record], multiprocessors: int = 132) -> list[list[str]]:
    """[what, predicted, measured, met]. A goal is 90 % of what the counts predict: of a copy, and,
    where PyTorch's sampler moves so many times the bytes, of its time."""
    found = []

    def add(what: str, wanted: float, got: float | None, form: str) -> None:
        if got is not None:
            yes = got >= ENOUGH * wanted
            found.append([what, form.format(wanted), form.format(got), "yes" if yes else "**no**"])

    for record in records:
        shape = " x ".join(map(str, record["shape"]))
        what = f"{record['kind']}, {shape}, {record['dtype']}"
        for who, key in KEYS.items():
            share = predicted(record, who, multiprocessors)
            where = "" if record["kind"] == BACKWARD else f", key on the {key}"
            if share is not None:
                add(f"{what}{where}: of a copy", share, share_of_copy(record, who), "{:.0f} %")
        share, passes = predicted(record, "ours", multiprocessors), EAGER_PASSES.get(record["kind"])
        if share is not None and passes and record["shape"][-1] >= 1000:
            add(f"{what}: eager", passes / 2 * share / 100, ratio(record, "eager"), "{:.1f}x")
        ours = microseconds(record, "ours", "graph")
        if (record["kind"], tuple(record["shape"])) == (SOFT, (1, 128256)) and ours:
            yes = "yes" if ours <= ONE_ROW_US else "**no**"
            found.append([what, f"{ONE_ROW_US} us", f"{ours:.1f} us", yes])
    return found


def multiprocessors_of(results: Record) -> int:
    return int(results["machine"].get("multiprocessors", 132))


def met(results: Record) -> str:
    rows = goals(results["cases"], multiprocessors_of(results))
    return f"{sum(row[-1] == 'yes' for row in rows)} of {len(rows)} met"


def absences(results: Record) -> Iterator[str]:
    found = {
        f"- {LABELS[who]}, {r['kind']}: {times.get('absent') or times['reason']}"
        for r in results["cases"]
        for who, times in r["times"].items()
        if times.get("absent") or times.get("reason")
    }
    found |= {f"- {failure}" for failure in results.get("failed", [])}
    if found:
        yield from ["", "Left out:", "", *sorted(found)]


def markdown(results: Record, description: str) -> str:
    machine = [f"- {name}: {value}" for name, value in results["machine"].items()]
    notes = description.split("\n\n")[2].strip()
    header = ["goal", "predicted", "measured", f"at least {math.floor(100 * ENOUGH)} % of it"]
    rows = goals(results["cases"], multiprocessors_of(results))
    lines = ["# On a GPU", "", notes, "", *machine, "", f"## Goals: {met(results)}"]
    lines += [*table(header, rows), "", "## All", ""]
    lines += [*result_table(results["cases"]), *absences(results)]
    return "\n".join(lines) + "\n"
