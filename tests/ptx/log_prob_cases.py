# SPDX-License-Identifier: Apache-2.0
"""Cases of the kernels of log-probabilities and entropies, beside the CPU op."""

from functools import partial

import torch
from inputs import normal
from interpreter import ORDERS
from reference import OPS

NAMES = ["log_prob", "entropy", "max", "sum", "mean"]


def cases(device):
    """(name, call, elements)"""
    for dtype in [torch.float32, torch.float64]:
        for what in ("forward", "backward"):
            run = partial(check, device, dtype, what == "backward")
            yield f"log_prob, {what} {dtype}", run, 105


def check(device, dtype, backward):
    """On rows of strided classes too."""
    for dim, tau in ((1, 1.3), (0, torch.linspace(0.5, 2, 21)[None])):
        x = normal(5, 21, dtype=dtype)
        x[2, 4] = -torch.inf
        index = (normal(5, 21).argmax(dim, keepdim=True) + 1) % x.shape[dim]
        t = torch.as_tensor(tau, dtype=None if torch.is_tensor(tau) else torch.float64)
        want = OPS._log_prob_entropy(x, index, t, dim)
        given = {"input": x, "index": index, "tau": tau}
        made = {name: torch.empty(index.shape, dtype=dtype) for name in NAMES}
        if backward:
            grads = [normal(*index.shape, dtype=dtype, seed=seed) for seed in (5, 6)]
            given |= dict(zip(NAMES[2:], want[2:], strict=True))
            given |= {"grad_log_prob": grads[0], "grad_entropy": grads[1]}
            want = OPS._log_prob_entropy_backward(
                *grads, x, index, t, *want[2:], dim, temperature_grad=True
            )
            made = {"output": torch.empty_like(x), "row_value": made["max"]}
        for order in ORDERS:
            device.log_prob(backward, dim, order, **given, **made)
            for (name, got), right in zip(made.items(), want, strict=True):
                torch.testing.assert_close(got, right, atol=1e-5, rtol=1e-5, msg=name)
