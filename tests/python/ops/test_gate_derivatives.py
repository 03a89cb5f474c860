# SPDX-License-Identifier: Apache-2.0
"""Derivatives of gates, and what is kept for them."""

import pytest
import torch
from common import HALVES, assert_same_bits
from gates import FORMS, KEY, dtypes, forms, scores_of, some
from torch.autograd import gradcheck, gradgradcheck

from torch_gumbel import gumbel_sigmoid


@forms
@pytest.mark.parametrize("shape", [(), (1, 5), (4, 1)], ids=str)
def test_derivatives_of_every_kind_are_right(form, shape):
    """Of a hard sample those of the soft one."""
    x = some(4, 5, dtype=torch.float64, scale=0.7).requires_grad_()
    tau = (torch.rand(shape, dtype=torch.float64) + 0.7).requires_grad_()
    call = FORMS[form]
    if form in ("hard", "recompute"):
        y, soft = call(x, tau, key=KEY), gumbel_sigmoid(x, tau, key=KEY)
        for leaf in (x, tau):
            got, wanted = (
                torch.autograd.grad(
                    s.cos().sum() if s is soft else (s * -soft.detach().sin()).sum(),
                    leaf,
                    retain_graph=True,
                )[0]
                for s in (y, soft)
            )
            torch.testing.assert_close(got, wanted)
        grads = [torch.autograd.grad(s.sum(), (x, tau), create_graph=True) for s in (y, soft)]
        seconds = [torch.autograd.grad(sum(g.sin().sum() for g in gs), (x, tau)) for gs in grads]
        for got, wanted in zip(*seconds, strict=True):
            torch.testing.assert_close(got, wanted)
        return
    assert gradcheck(lambda x, t: call(x, t, key=KEY), (x, tau), check_forward_ad=True)
    assert gradgradcheck(lambda x, t: call(x, t, key=KEY), (x, tau), check_fwd_over_rev=True)


@forms
def test_forward_mode_is_reverse_mode_transposed(form):
    x, tau = some(4, 5, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    tangents = (torch.randn_like(x), torch.randn_like(tau))
    weights = torch.randn_like(x)

    def call(x, t):
        return FORMS[form](x, t, key=KEY)

    _, tangent = torch.func.jvp(call, (x, tau), tangents)
    _, pull = torch.func.vjp(call, x, tau)
    at = sum((a * b).sum() for a, b in zip(pull(weights), tangents, strict=True))
    torch.testing.assert_close((weights * tangent).sum(), at)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@forms
def test_gradients_of_half_types_are_right_where_y_rounds_to_0_or_1(form, dtype):
    """From a bfloat16 y, y (1 - y) is 1.6 times right at logit 6, and 0 from 7."""
    logits = torch.tensor([-14.0, -9, -6, 0, 3, 6, 7, 9, 14]).repeat_interleave(200)
    x, tau = logits.to(dtype).requires_grad_(), torch.tensor(0.875, requires_grad=True)
    FORMS[form](x, tau, key=KEY).sum().backward()
    z = scores_of(logits) / 0.875
    lower, upper = {"concrete": (-0.1, 1.1), "concrete to 1": (-0.2, 1.0)}.get(form, (0.0, 1.0))
    width = upper - lower
    inside = (z.sigmoid() * width + lower > 1e-6) & (-z).sigmoid().mul(width).gt(upper - 1 + 1e-6)
    slope = z.sigmoid() * (-z).sigmoid() * width / 0.875
    seen = inside & (slope > 64 * torch.finfo(dtype).tiny)
    ratio = x.grad.double()[seen] / slope[seen]
    assert (ratio - 1).abs().max() < 4 * torch.finfo(dtype).eps and seen.sum() > 100
    at_tau = -(slope * z)[inside].sum().item()
    assert tau.grad.item() == pytest.approx(at_tau, rel=0.02, abs=0.5)


@dtypes
def test_a_recomputed_gate_has_the_same_values_and_gradient(dtype):
    for hard in (False, True):
        x = [some(30, 7, dtype=dtype).requires_grad_() for _ in range(2)]
        tau = [torch.tensor(0.7, requires_grad=True) for _ in range(2)]
        y = [
            gumbel_sigmoid(x[i], tau[i], hard, recompute=bool(i), key=KEY).mul(2) for i in range(2)
        ]
        assert_same_bits(*y)
        for each in y:
            each.sum().backward()
        rtol = 2e-5 if dtype in (torch.float32, torch.float64) else 2e-2
        torch.testing.assert_close(x[1].grad, x[0].grad, rtol=rtol, atol=1e-6)
        torch.testing.assert_close(tau[1].grad, tau[0].grad, rtol=rtol, atol=1e-4)


def test_what_is_kept_is_no_tensor_of_the_caller_unless_it_is_recomputed():
    for hard in (False, True):
        x = some(3, 4).requires_grad_()
        y = gumbel_sigmoid(x * 1, hard=hard, key=KEY)
        with torch.no_grad():
            x.zero_()
        y.sum().backward()
        h = x * 1
        y = gumbel_sigmoid(h, hard=hard, recompute=True, key=KEY)
        h.zero_()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_saved_tensors_are_what_is_stated(dtype):
    def saved(**options):
        x, sizes = some(100, 100, dtype=dtype).requires_grad_(), []
        pack = lambda t: sizes.append(t.numel() * t.element_size()) or t  # noqa: E731
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
            y = gumbel_sigmoid(x, 0.5, key=KEY, **options)
        return sum(s for s in sizes if s > 100), y

    n = 100 * 100 * (4 if dtype == torch.float32 else 2)
    for options in ({}, {"hard": True}, {"recompute": True}, {"hard": True, "recompute": True}):
        assert saved(**options)[0] == n
    assert not gumbel_sigmoid(some(3).requires_grad_(), hard=True).grad_fn.name().startswith("No")
