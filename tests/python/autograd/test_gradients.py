# SPDX-License-Identifier: Apache-2.0
"""Derivatives: numerical checks in float64, straight-through gradients, and the autograd graph."""

import pytest
import torch
from common import DTYPES, FORMS, assert_same_bits, make_key, noise, ops
from torch.autograd import forward_ad, gradcheck, gradgradcheck

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)


def double(*shape):
    return torch.randn(shape, dtype=torch.float64)


def tau_form(form, shape, dim):
    rows = [1 if i == dim % len(shape) else n for i, n in enumerate(shape)]
    values = {
        "number": 0.7,
        "0-d": torch.tensor(0.7, dtype=torch.float64),
        "per row": torch.rand(rows, dtype=torch.float64) + 0.5,
        "one value": torch.tensor([0.9], dtype=torch.float64),
    }
    tau = values[form]
    return tau.requires_grad_() if isinstance(tau, torch.Tensor) else tau


def as_function(tau, dim, key=KEY):
    """A function of tensors alone, and its arguments after the logits."""
    if isinstance(tau, torch.Tensor):
        return lambda x, t: gumbel_softmax(x, t, dim=dim, key=key), (tau,)
    return lambda x: gumbel_softmax(x, tau, dim=dim, key=key), ()


SHAPES = [
    ((3, 1), -1),
    ((3, 2), 1),
    ((4, 5), 0),
    ((2, 3, 4), 1),
    ((2, 3, 4), -3),
    ((7,), 0),
    ((2, 33), -1),
]


@pytest.mark.parametrize("form", ["number", "0-d", "per row", "one value"])
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_first_and_second_derivatives_are_right(shape, dim, form):
    x = double(*shape).requires_grad_()
    function, rest = as_function(tau_form(form, shape, dim), dim)
    assert gradcheck(function, (x, *rest), check_forward_ad=True)
    assert gradgradcheck(function, (x, *rest), gen_non_contig_grad_outputs=True)


@pytest.mark.parametrize("form", ["number", "per row"])
@pytest.mark.parametrize("k", [*range(1, 18), 31, 32, 33])
def test_derivatives_are_right_for_every_small_k(k, form):
    x = double(2, k).requires_grad_()
    function, rest = as_function(tau_form(form, (2, k), 1), 1)
    assert gradcheck(function, (x, *rest), fast_mode=True)
    assert gradgradcheck(function, (x, *rest), fast_mode=True)


@pytest.mark.parametrize("form", ["number", "0-d", "per row"])
def test_batched_and_forward_over_reverse_derivatives_are_right(form):
    x = double(3, 4).requires_grad_()
    function, rest = as_function(tau_form(form, (3, 4), 1), 1)
    assert gradcheck(
        function,
        (x, *rest),
        check_batched_grad=True,
        check_forward_ad=True,
        check_batched_forward_grad=True,
        check_undefined_grad=True,
    )
    assert gradgradcheck(function, (x, *rest), check_fwd_over_rev=True, check_rev_over_rev=True)


@pytest.mark.parametrize("dim", [0, 1, 2])
def test_derivatives_are_right_for_strided_logits(dim):
    x = double(4, 3, 6)[:, :, ::2].transpose(0, 1).requires_grad_()
    function, rest = as_function(tau_form("per row", x.shape, dim), dim)
    assert gradcheck(function, (x, *rest))
    assert gradgradcheck(function, (x, *rest))


def test_derivatives_are_right_where_classes_are_masked():
    values = double(3, 5)
    mask = torch.tensor([[0, 1, 0, 0, 1], [1, 1, 1, 1, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    tau = tau_form("per row", (3, 5), 1)

    def function(x, t):
        return gumbel_softmax(x.masked_fill(mask, -torch.inf), t, key=KEY)

    x = values.requires_grad_()
    assert gradcheck(function, (x, tau), check_forward_ad=True)
    assert gradgradcheck(function, (x, tau))


@pytest.mark.parametrize("batched", [False, True])
def test_derivatives_are_right_with_batched_keys(batched):
    keys = torch.randint(0, 2**60, (3, 2)) if batched else KEY
    function, rest = as_function(tau_form("per row", (3, 2, 4), 2), 2, keys)
    assert gradcheck(function, (double(3, 2, 4).requires_grad_(), *rest))


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("form", ["0-d", "per row"])
def test_sample_with_log_sum_exp_has_right_derivatives(form, dim):
    x, tau = double(3, 4).requires_grad_(), tau_form(form, (3, 4), dim)

    def function(x, t):
        return ops._gumbel_softmax_lse(x, t, KEY, dim)

    assert gradcheck(function, (x, tau), check_undefined_grad=True, check_forward_ad=True)
    assert gradgradcheck(function, (x, tau))
    y, lse = function(x, tau)
    scores = (x + noise(x, KEY)) / tau
    assert torch.allclose(lse, scores.logsumexp(dim, keepdim=True), rtol=1e-13)
    assert torch.allclose(y, scores.softmax(dim), rtol=1e-12)


def pair_of_gradients(x, tau, dim, grad):
    """Gradients of the soft sample, and of a hard one that recomputes it (test_hard_samples.py
    has the one that keeps it, for every dtype and length)."""
    results = []
    for form in ("soft", "hard again"):
        leaf, t = x.clone().requires_grad_(), tau.clone().requires_grad_()
        y = gumbel_softmax(leaf, t, **FORMS[form], dim=dim, key=KEY)
        results.append(torch.autograd.grad(y, (leaf, t), grad))
    return results


@pytest.mark.parametrize("k", [1, 2, 5, 16, 33, 300, 8192])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_straight_through_gradient_is_the_soft_one_in_bits(dtype, dim, k):
    x = torch.randn(6, k, dtype=dtype).movedim(1, dim)
    rows = [1 if i == dim else n for i, n in enumerate(x.shape)]
    soft, hard = pair_of_gradients(
        x, torch.rand(rows, dtype=dtype) + 0.5, dim, torch.randn(x.shape, dtype=dtype)
    )
    for got, wanted in zip(hard, soft, strict=True):
        assert_same_bits(got, wanted)


@pytest.mark.parametrize("k", [8193, 50_000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_straight_through_gradient_of_a_long_row_is_the_soft_one_but_for_rounding(dtype, k):
    # Long rows take their dot product before the weights are scaled: the bits differ.
    x, grad = torch.randn(3, k, dtype=dtype), torch.randn(3, k, dtype=dtype)
    soft, hard = pair_of_gradients(x, torch.rand(3, 1, dtype=dtype) + 0.5, 1, grad)
    small = 20 * torch.finfo(dtype).eps
    for got, wanted in zip(hard, soft, strict=True):
        assert torch.allclose(got, wanted, rtol=small, atol=small * float(wanted.abs().max()))


def test_straight_through_has_the_soft_second_and_forward_derivatives():
    x, tau, grad, tangent = (double(3, 5) for _ in range(4))
    tau = tau[:, :1].abs() + 0.5
    results = []
    for form in FORMS.values():
        leaf, t = x.clone().requires_grad_(), tau.clone().requires_grad_()
        y = gumbel_softmax(leaf, t, **form, key=KEY)
        first = torch.autograd.grad(y, (leaf, t), grad, create_graph=True)
        second = torch.autograd.grad(first, (leaf, t), (tangent, tau))
        with forward_ad.dual_level():
            dual = forward_ad.make_dual(x, tangent), forward_ad.make_dual(tau, tau)
            forward = forward_ad.unpack_dual(
                gumbel_softmax(dual[0], dual[1], **form, key=KEY)
            ).tangent
            logits_alone = forward_ad.unpack_dual(
                gumbel_softmax(dual[0], 0.5, **form, key=KEY)
            ).tangent
        results.append((*first, *second, forward, logits_alone))
    for wanted, *others in zip(*results, strict=True):
        for got in others:
            assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-14)


def test_a_published_gradient_is_met():
    p = torch.tensor([0.1339, 0.1746, 0.6375, 0.0120, 0.0408])
    x = (p.log() - noise(p, KEY)).requires_grad_()
    (gradient,) = torch.autograd.grad(gumbel_softmax(x, 1, key=KEY)[0], x)
    wanted = torch.tensor([0.1158, -0.0234, -0.0854, -0.0016, -0.0055])
    assert (gradient - wanted).abs().max() < 5e-4


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_gradient_of_the_logits_sums_to_zero(dtype, hard):
    x = torch.randn(20, 300, dtype=dtype, requires_grad=True)
    (gradient,) = torch.autograd.grad(
        gumbel_softmax(x, 0.5, hard), x, torch.randn(20, 300, dtype=dtype)
    )
    assert gradient.sum(1).abs().max() < 64 * torch.finfo(dtype).eps


@pytest.mark.parametrize("hard", [False, True])
def test_the_backward_draws_nothing_and_does_not_mind_a_moved_generator(hard):
    x, grad = torch.randn(4, 9, requires_grad=True), torch.randn(4, 9)
    generator = torch.Generator().manual_seed(1)
    y = gumbel_softmax(x, 0.5, hard, generator=generator)
    generator.manual_seed(99)
    torch.manual_seed(99)
    before = torch.get_rng_state(), generator.get_state()
    (got,) = torch.autograd.grad(y, x, grad)
    assert torch.equal(torch.get_rng_state(), before[0])
    assert torch.equal(generator.get_state(), before[1])
    again = gumbel_softmax(x, 0.5, hard, generator=generator.manual_seed(1))
    assert_same_bits(got, torch.autograd.grad(again, x, grad)[0])


@pytest.mark.parametrize("hard", [False, True])
def test_a_graph_is_kept_on_request_and_freed_otherwise(hard):
    x, grad = torch.randn(4, 9, requires_grad=True), torch.randn(4, 9)
    y = gumbel_softmax(x, 0.5, hard)
    first = torch.autograd.grad(y, x, grad, retain_graph=True)[0]
    assert_same_bits(torch.autograd.grad(y, x, grad)[0], first)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(y, x, grad)


@pytest.mark.parametrize("hard", [False, True])
def test_two_uses_of_one_sample_add_their_gradients(hard):
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    a, b = double(4, 9), double(4, 9)
    y = gumbel_softmax(x, 0.5, hard, key=KEY)
    ((y * a).sum() + (y * b).sum()).backward()
    (wanted,) = torch.autograd.grad(gumbel_softmax(x, 0.5, hard, key=KEY), x, a + b)
    assert torch.allclose(x.grad, wanted, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("hard", [False, True])
def test_saved_tensors_pass_through_hooks(hard):
    x, grad = torch.randn(4, 9, requires_grad=True), torch.randn(4, 9)
    (wanted,) = torch.autograd.grad(gumbel_softmax(x, 0.5, hard, key=KEY), x, grad)
    packed = []

    def pack(tensor):
        packed.append(tensor.shape)
        return tensor.clone()

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        y = gumbel_softmax(x, 0.5, hard, key=KEY)
    assert (4, 9) in packed
    assert_same_bits(torch.autograd.grad(y, x, grad)[0], wanted)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_a_checkpointed_call_has_the_same_gradient(hard, reentrant):
    x, grad = torch.randn(4, 9, requires_grad=True), torch.randn(4, 9)
    torch.manual_seed(1)
    (wanted,) = torch.autograd.grad(gumbel_softmax(x * 1, 0.5, hard), x, grad)
    torch.manual_seed(1)
    y = torch.utils.checkpoint.checkpoint(
        lambda x: gumbel_softmax(x * 1, 0.5, hard), x, use_reentrant=reentrant
    )
    y.backward(grad)
    assert_same_bits(x.grad, wanted)


def test_only_inputs_that_require_one_get_a_gradient():
    tau = torch.rand(4, 1).requires_grad_()
    x = torch.randn(4, 9)
    y = gumbel_softmax(x, tau)
    assert torch.autograd.grad(y, tau, torch.randn(4, 9))[0].shape == (4, 1)
    with torch.no_grad():
        assert not gumbel_softmax(x, tau).requires_grad
    with torch.inference_mode():
        assert gumbel_softmax(x, tau, True).is_inference()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (4, 1), (1, 1)])
def test_the_gradient_of_tau_has_its_own_shape_and_dtype(shape, dtype):
    tau = torch.full(shape, 0.5, dtype=dtype, requires_grad=True)
    for hard in (False, True):
        y = gumbel_softmax(torch.randn(4, 9), tau, hard)
        (gradient,) = torch.autograd.grad(y, tau, torch.randn(4, 9))
        assert (
            gradient.shape == shape and gradient.dtype == dtype and torch.isfinite(gradient).all()
        )


def test_an_index_and_the_noise_have_no_gradient():
    x = torch.randn(4, 9, requires_grad=True)
    assert not gumbel_argmax(x).requires_grad
    assert not noise(x, KEY).requires_grad
    value, index = ops._gumbel_max(x, torch.tensor(1.0), KEY, 1, False)
    assert not value.requires_grad and not index.requires_grad
