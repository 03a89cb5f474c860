# SPDX-License-Identifier: Apache-2.0
"""Cases of the kernels of filtered draws, beside the CPU op."""

from functools import partial

import torch
from inputs import KEY, normal
from interpreter import ORDERS
from reference import OPS


def cases(device):
    """(name, call, elements)"""
    for dtype in [torch.float32, torch.float64]:
        for what in ("draws", "logits"):
            run = partial(check, device, dtype, what == "draws")
            yield f"filtered, {what} {dtype}", run, 105


def check(device, dtype, draws):
    """Ties at the edges, masks, undefined rows, and one value per row of each parameter."""
    x = normal(5, 21, dtype=dtype).mul(2).round().div(2)
    x[0, 3], x[1, 7] = -torch.inf, torch.nan
    top_k = torch.tensor([5, 5, -1, 0, 3])[:, None]
    top_p = torch.tensor([0.8, 0.8, 0.6, 1, 0.9], dtype=torch.float64)[:, None]
    min_p = torch.tensor([0, 0, 0.01, 0.2, 0], dtype=torch.float64)[:, None]
    tau = torch.tensor([0.7, 1, 1.3, 2, 0], dtype=torch.float64)[:, None]
    filters = (top_k, top_p, min_p)
    given = {"input": x, "tau": tau, "key": KEY}
    given |= dict(zip(["top_k", "top_p", "min_p"], filters, strict=True))
    if draws:
        key = torch.tensor(KEY, dtype=torch.uint64)
        want = OPS._sample_logits(x, tau, key, 1, *filters, True, True)
        made = {"index": torch.empty(5, 1, dtype=torch.int64)}
        made |= {name: torch.empty(5, 1, dtype=dtype) for name in ("row_value", "entropy")}
    else:
        want = [OPS._filter_logits(x, tau, 1, *filters)]
        made = {"output": torch.empty_like(x)}
    for order in ORDERS:
        device.filtered(1, order, **given, **made)
        for (name, got), right in zip(made.items(), want, strict=True):
            assert name != "index" or torch.equal(got, right)
            torch.testing.assert_close(got, right, atol=1e-6, rtol=1e-5, equal_nan=True, msg=name)
