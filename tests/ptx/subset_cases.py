# SPDX-License-Identifier: Apache-2.0
"""Cases of the kernels of relaxed k-hot samples, beside the CPU op."""

from functools import partial

import torch
from inputs import normal
from interpreter import ORDERS
from reference import OPS


def cases(device):
    """(name, call, elements)"""
    for dtype in [torch.float32, torch.float64]:
        for what in ("forward", "backward"):
            run = partial(check, device, dtype, what == "backward")
            yield f"subset, {what} {dtype}", run, 105


def check(device, dtype, backward):
    """Masks, a row without a k-hot, and rows of strided classes."""
    for k, dim, tau in ((3, 1, 1.3), (2, 0, torch.linspace(0.5, 2, 21)[None])):
        x = normal(5, 21, dtype=dtype)
        x[2, 4], x[0, 3] = -torch.inf, torch.nan
        t = torch.as_tensor(tau, dtype=None if torch.is_tensor(tau) else torch.float64)
        given = {"input": x, "tau": tau}
        made = {"output": torch.empty_like(x)}
        want = [OPS._gumbel_subset(x, t, k, dim)]
        if backward:
            given["grad"] = normal(5, 21, dtype=dtype, seed=5)
            want = OPS._gumbel_subset_backward(given["grad"], x, t, k, dim, tau_grad=True)
            made["row_value"] = torch.empty_like(want[1])
        for order in ORDERS:
            device.subset(k, dim, order, **given, **made)
            for (name, got), right in zip(made.items(), want, strict=True):
                torch.testing.assert_close(
                    got, right, atol=1e-5, rtol=1e-5, equal_nan=True, msg=name
                )
