# SPDX-License-Identifier: Apache-2.0
"""log_prob_entropy against float64 references."""

import math

import pytest
import torch
from common import DTYPES, assert_same_bits, assert_same_results, compute_type, layouts, ops
from test_kl import GRADIENTS, SHAPES, TOLERANCES, some_logits
from test_registration import opcheck

from torch_gumbel import gumbel_argmax, key, log_prob_entropy

NAN, INF = torch.nan, torch.inf


def rows_of(x, dim):
    return [n for i, n in enumerate(x.shape) if i != dim % x.dim()]


def some_index(x, dim):
    """Classes that are not masked by some_logits."""
    index = torch.randint(x.size(dim), rows_of(x, dim))
    return index.masked_fill(index == 2, 0)


def formula(x, index, tau, dim):
    """The definition in the precision of x, by differentiable ops, masked classes left out."""
    masked = x == -INF
    log_p = (x.masked_fill(masked, 0) / tau).masked_fill(masked, -INF).log_softmax(dim)
    p, log_p = log_p.exp(), log_p.masked_fill(masked, 0)
    return log_p.gather(dim, index.unsqueeze(dim)).squeeze(dim), -(p * log_p).sum(dim)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_values_are_those_of_the_definition(shape, dim, dtype):
    x = some_logits(shape, dim, dtype)
    index, rows = some_index(x, dim), torch.rand(rows_of(x, dim)) + 0.5
    for tau in (1.0, 0.3, rows):
        along = tau.unsqueeze(dim).double() if isinstance(tau, torch.Tensor) else tau
        wanted = formula(x.double(), index, along, dim)
        for view in layouts(x).values():
            got = log_prob_entropy(view, index, dim, temperature=tau)
            for ours, right in zip(got, wanted, strict=True):
                assert ours.dtype == compute_type(dtype)
                torch.testing.assert_close(ours.double(), right, **TOLERANCES[dtype])
            assert (got[0] <= 0).all() and (got[1] >= 0).all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_gradients_are_those_of_float64_and_zero_at_masks(shape, dim, dtype):
    x = some_logits(shape, dim, dtype)
    index, rows = some_index(x, dim), torch.rand(rows_of(x, dim)) + 0.5
    weights = [torch.randn(rows_of(x, dim)) for _ in range(2)]
    wide, t = x.double().requires_grad_(), rows.double().requires_grad_()
    right = formula(wide, index, t.unsqueeze(dim), dim)
    wanted = torch.autograd.grad(right, (wide, t), [w.double() for w in weights])
    for view in layouts(x).values():
        leaf, tau = view.detach().requires_grad_(), rows.clone().requires_grad_()
        got = log_prob_entropy(leaf, index, dim, temperature=tau)
        at_x, at_tau = torch.autograd.grad(got, (leaf, tau), [w.to(got[0]) for w in weights])
        assert at_x.dtype == dtype and at_x.shape == x.shape
        torch.testing.assert_close(at_x.double(), wanted[0], **GRADIENTS[dtype])
        torch.testing.assert_close(at_tau.double(), wanted[1], rtol=1e-4, atol=1e-5)
        assert (at_x[x == -INF] == 0).all()


def test_known_numbers():
    x = torch.tensor([[0.5, 0.3, 0.2]], dtype=torch.float64).log().requires_grad_()
    log_prob, entropy = log_prob_entropy(x, torch.tensor([1]))
    (at_entropy,) = torch.autograd.grad(entropy, x)
    torch.testing.assert_close(log_prob.item(), math.log(0.3))
    torch.testing.assert_close(entropy.item(), 1.02965301, rtol=0, atol=5e-9)
    wanted = torch.tensor([[-0.16825292, 0.05229594, 0.11595698]], dtype=torch.float64)
    torch.testing.assert_close(at_entropy, wanted, rtol=0, atol=5e-9)
    for dtype in DTYPES:  # uniform: log K, and a gradient of 0 at it
        x = torch.full((3, 1000), 5.0, dtype=dtype, requires_grad=True)
        entropy = log_prob_entropy(x, torch.tensor([0, 1, 999]))[1]
        torch.testing.assert_close(entropy, torch.full_like(entropy, math.log(1000)))
        assert torch.autograd.grad(entropy.sum(), x)[0].abs().max() < 1e-6
    assert [r.item() for r in log_prob_entropy(torch.tensor([[7.0]]), torch.tensor([0]))] == [0, 0]
    assert [r.item() for r in log_prob_entropy(torch.tensor(7.0), torch.tensor(0))] == [0, 0]


def test_long_rows_and_large_logits_keep_their_precision():
    """151,936 classes: values within 2e-6 of float64, gradients within 1e-5."""
    classes = 151_936
    for shift in (0.0, 1e4):
        x = (3 * torch.randn(2, classes) + shift).requires_grad_()
        index, weights = torch.tensor([17, classes - 1]), torch.randn(2, 2)
        wide = x.detach().double().requires_grad_()
        wanted, got = formula(wide, index, 1.0, 1), log_prob_entropy(x, index)
        for ours, right in zip(got, wanted, strict=True):
            torch.testing.assert_close(ours.double(), right, rtol=2e-6, atol=0)
        (right,) = torch.autograd.grad(wanted, wide, list(weights.double()))
        (ours,) = torch.autograd.grad(got, x, list(weights))
        torch.testing.assert_close(ours.double(), right, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_special_rows(dtype):
    x = torch.zeros(7, 40, dtype=dtype)
    x[0, 3], x[1, 5], x[2], x[3, :39], x[4, 8] = NAN, INF, -INF, -INF, -INF
    index = torch.tensor([0, 0, 0, 39, 8, 1, 1])
    tau = torch.ones(7)
    tau[5] = 0
    x.requires_grad_(), tau.requires_grad_()
    log_prob, entropy = log_prob_entropy(x, index, temperature=tau)
    undefined = torch.tensor([True, True, True, False, False, True, False])
    assert torch.equal(log_prob.isnan(), undefined) and torch.equal(entropy.isnan(), undefined)
    assert log_prob[3] == 0 and entropy[3] == 0 and log_prob[4] == -INF
    torch.testing.assert_close(entropy[4].item(), math.log(39))
    at_x, at_tau = torch.autograd.grad(log_prob.sum(), (x, tau), retain_graph=True)
    assert at_x[undefined].isnan().all() and torch.equal(at_tau.isnan(), undefined)
    assert (at_x[3:5] == 0).all() and (at_tau[3:5] == 0).all()
    (at_x,) = torch.autograd.grad(entropy.sum(), x)
    assert at_x[undefined].isnan().all() and at_x[~undefined].isfinite().all()


def test_derivatives_of_every_kind_are_right():
    x = torch.randn(3, 5, dtype=torch.float64)
    x[:, 2] = -INF
    index, rest = torch.tensor([0, 4, 1]), x.clone()
    free = torch.arange(5) != 2
    t = (torch.rand(3, 1, dtype=torch.float64) + 0.5).requires_grad_()

    def call(values, t):
        masked = rest.masked_scatter(free.expand(3, 5), values)
        return log_prob_entropy(masked, index, temperature=t)

    values = x[:, free].requires_grad_()
    torch.autograd.gradcheck(call, (values, t), check_forward_ad=True, check_batched_grad=True)
    torch.autograd.gradgradcheck(call, (values, t))
    for one in (0, 1):  # the gradient of one result alone
        torch.autograd.gradcheck(lambda v, t, one=one: call(v, t)[one], (values, t))


def test_second_derivatives_are_finite_with_masks():
    x = some_logits((3, 6), 1, torch.float64).requires_grad_()
    both = log_prob_entropy(x, torch.tensor([2, 0, 1]))  # class 2 is masked
    (grad,) = torch.autograd.grad(both, x, [torch.ones(3).double()] * 2, create_graph=True)
    (second,) = torch.autograd.grad((grad * torch.randn_like(grad)).sum(), x)
    assert second.isfinite().all() and (second[:, 2] == 0).all()


def test_results_may_be_edited_before_the_backward():
    """`entropy *= 0.01` of a training loop."""
    x = torch.randn(4, 9, requires_grad=True)
    log_prob, entropy = log_prob_entropy(x, torch.arange(4))
    (wanted,) = torch.autograd.grad((log_prob + 0.5 * entropy).sum(), x, retain_graph=True)
    entropy *= 0.5
    log_prob += entropy
    (got,) = torch.autograd.grad(log_prob.sum(), x)
    torch.testing.assert_close(got, wanted)


def test_the_log_probability_of_a_draw_is_that_of_its_class():
    x = torch.randn(200, 30)
    index = gumbel_argmax(x, temperature=0.7, key=key(0))
    got = log_prob_entropy(x, index, temperature=0.7)[0]
    torch.testing.assert_close(got, (x / 0.7).log_softmax(1).gather(1, index[:, None])[:, 0])


def test_a_wrong_index_is_refused_in_words():
    x = torch.zeros(3, 4)
    for error, words, index in [
        (IndexError, r"index must be in \[0, 4\), got 4 for row 1", torch.tensor([0, 4, 1])),
        (IndexError, r"index must be in \[0, 4\), got -1 for row 2", torch.tensor([0, 3, -1])),
        (TypeError, "index must be an int64 tensor, got Int", torch.zeros(3, dtype=torch.int32)),
        (TypeError, "index must be an int64 tensor, got Float", torch.zeros(3)),
        (ValueError, r"index must have shape \[3\].*got \[3, 1\]", torch.zeros(3, 1).long()),
        (ValueError, r"index must have shape \[3\].*got \[2\]", torch.zeros(2).long()),
        (ValueError, "index must be on cpu, got meta", torch.zeros(3, device="meta").long()),
    ]:
        with pytest.raises(error, match=f"^log_prob_entropy: {words}"):
            log_prob_entropy(x, index)


def test_the_formula_of_other_devices_agrees_with_the_kernel():
    """The CompositeExplicitAutograd kernel, by excluding the CPU from dispatch."""
    x, tau = some_logits((6, 50), 1, torch.float32), torch.rand(6, 1) + 0.5
    x[4], x[5, 1] = -INF, NAN
    index, grads = torch.tensor([[0], [49], [2], [5], [3], [3]]), torch.randn(2, 6, 1)
    alone = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)

    def both_ways(op, *args, **options):
        yield op.redispatch(alone, *args, **options)
        yield op(*args, **options)

    close = {"rtol": 1e-5, "atol": 1e-5, "equal_nan": True}
    forward = [*both_ways(ops._log_prob_entropy.default, x, index, tau, 1)]
    for other, ours in zip(*forward, strict=True):
        torch.testing.assert_close(other[:5], ours[:5], **close)
    assert [f[2][4].item() for f in forward] == [-INF] * 2
    args = (*grads, x, index, tau, *forward[1][2:], 1)
    backward = ops._log_prob_entropy_backward.default
    for other, ours in zip(*both_ways(backward, *args, temperature_grad=True), strict=True):
        torch.testing.assert_close(other, ours, **close)
    outside = ops._log_prob_entropy.default.redispatch(alone, x, index + 50, tau, 1)
    assert outside[0].isnan().all() and outside[1].isnan().all()


def test_private_ops_pass_opcheck():
    x, tau = torch.randn(3, 4, 5).requires_grad_(), (torch.rand(3, 1, 5) + 0.5).requires_grad_()
    index = torch.randint(4, (3, 1, 5))
    rows = [r.detach() for r in ops._log_prob_entropy(x, index, tau, 1)]
    opcheck(ops._log_prob_entropy.default, (x, index, tau, 1))
    given = (rows[0] + 1, None, x.detach(), index, tau.detach(), *rows[2:], 1)
    for wanted in (False, True):
        opcheck(ops._log_prob_entropy_backward.default, given, {"temperature_grad": wanted})


def test_bits_do_not_depend_on_threads_or_strides():
    x, threads = torch.randn(9, 5001), torch.get_num_threads()
    index, grads = torch.arange(9), [torch.ones(9), torch.ones(9)]
    found = []
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            for view in layouts(x).values():
                leaf = view.detach().requires_grad_()
                both = log_prob_entropy(leaf, index)
                found.append([*both, torch.autograd.grad(both, leaf, grads)[0]])
    finally:
        torch.set_num_threads(threads)
    for other in found[1:]:
        assert_same_results(other, found[0])
    alone = log_prob_entropy(x[3:4], index[3:4])
    assert_same_bits(alone[0], found[0][0][3:4])
