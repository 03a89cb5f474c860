# SPDX-License-Identifier: Apache-2.0
"""Checks of rows sharded by class over two ranks (run by test_distributed.py)."""

import torch
from common import DTYPES, assert_same_bits, compute_type, make_key
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor

from torch_gumbel import gumbel_argmax, gumbel_softmax
from torch_gumbel.distributed import vocab_parallel_gumbel_softmax

KEY = make_key(5)
INF = float("inf")


def cut(x, dim=-1):
    """x with its class dimension sharded over the ranks."""
    return distribute_tensor(x, init_device_mesh("cpu", (2,)), [Shard(dim % x.dim())])


def refused(error, words, call):
    try:
        call()
    except error as raised:
        assert words in str(raised), raised
        return
    raise AssertionError(f"wanted: {words}")


# shape, class dimension: even, uneven, one class, more ranks than classes, long rows
SHAPES = [
    ((6, 8), 1),
    ((6, 7), -1),
    ((3, 1), 1),
    ((5, 4, 3), 1),
    ((9, 40), 0),
    ((7,), 0),
    ((2, 9001), 1),
    ((0, 8), 1),
]


def check_choices_have_the_bits_of_one_process(rank):
    for dtype in DTYPES:
        for shape, dim in SHAPES:
            x = torch.randn(shape).to(dtype)
            wanted = gumbel_softmax(x, 0.7, True, dim=dim, key=KEY)
            got = gumbel_softmax(cut(x, dim), 0.7, True, dim=dim, key=KEY)
            assert_same_bits(got.full_tensor(), wanted, f"{dtype} {shape} {dim}")
            for keepdim in (False, True):
                index = gumbel_argmax(cut(x, dim), dim, keepdim, temperature=0.7, key=KEY)
                wanted = gumbel_argmax(x, dim, keepdim, temperature=0.7, key=KEY)
                assert index.placements == (Replicate(),) and index.shape == wanted.shape
                assert torch.equal(index.to_local(), wanted), (dtype, shape, dim, keepdim)


def check_ties_go_to_the_first_class_of_all_ranks(rank):
    huge = torch.full((50, 8), 1e30)
    huge[:, [1, 6]] = 1e35  # the noise is below its rounding: two equal maxima, on two ranks
    assert gumbel_argmax(cut(huge), key=KEY).to_local().tolist() == [1] * 50
    assert gumbel_softmax(cut(huge), hard=True, key=KEY).full_tensor()[:, 1].tolist() == [1] * 50


def check_soft_samples_are_within_the_accuracy_bound(rank):
    for tau in (0.1, 1.0, 10.0):
        for dtype in (torch.float32, torch.float64):
            x = (torch.rand(40, 1001, dtype=dtype) - 0.5) * 60
            wanted = gumbel_softmax(x.double(), tau, key=KEY)
            if dtype == torch.float32:  # the noise of float32 logits
                noise = torch.ops.torch_gumbel._gumbel_noise(x, KEY)
                wanted = ((x + noise).double() / tau).softmax(-1)
            got = gumbel_softmax(cut(x), tau, key=KEY).full_tensor()
            kept = wanted > 1e-30
            error = ((got.double() - wanted).abs() / wanted)[kept].max().item()
            bound = 1.2e-5 * max(1, 1 / tau) if dtype == torch.float32 else 1e-11
            assert error < bound, (tau, dtype, error)


def check_half_samples_are_rounded_once(rank):
    for dtype in (torch.float16, torch.bfloat16):
        x = torch.randn(30, 101).to(dtype)
        exact = gumbel_softmax(x.float(), 0.7, key=KEY)
        got = gumbel_softmax(cut(x), 0.7, key=KEY).full_tensor()
        half_ulp = torch.finfo(dtype).eps / 2
        assert ((got.float() - exact).abs() <= exact * (half_ulp + 2e-5) + 1e-7).all()


def derivatives(leaf, tau, weights, draw):
    """Sample, gradients at logits and tau, and the gradients of a function of these."""
    temperature = tau.clone().requires_grad_()
    y = draw(leaf, temperature)
    first = torch.autograd.grad(y, (leaf, temperature), weights, create_graph=True)
    at = first[0] * weights.cos()
    if isinstance(at, DTensor):
        at = at.sum().full_tensor() + (first[1] * first[1]).sum()
    else:  # the loss of all ranks: sharded and replicated terms
        at = at.sum() + (first[1] * first[1]).sum()
    second = torch.autograd.grad(at, (leaf, temperature))
    return [t.detach() for t in (y, *first, *second)]


def double_taus():
    rows = torch.rand(4, 1, 3).double() + 0.5
    return [torch.tensor(0.7).double(), rows, rows[0]]


def check_first_and_second_derivatives_are_those_of_one_process(rank):
    for hard in (False, True):
        for tau in double_taus():
            x, grad = torch.randn(4, 8, 3).double(), torch.randn(4, 8, 3).double()
            place = slice(rank * 4, rank * 4 + 4)

            def whole(x, t, hard=hard):
                return gumbel_softmax(x, t, hard, dim=1, key=KEY)

            def part(x, t, hard=hard):
                return vocab_parallel_gumbel_softmax(x, t, hard, 1, key=KEY)

            wanted = derivatives(x.clone().requires_grad_(), tau, grad, whole)
            half = x[:, place].clone().requires_grad_()
            got = derivatives(half, tau, grad[:, place], part)
            wanted = [t[:, place] if t.shape == x.shape else t for t in wanted]
            for a, b in zip(got, wanted, strict=True):
                assert a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def differentiates_dtensors_twice():
    """On torch 2.11 even the conversion to a DTensor and back has no second derivative."""
    x = cut(torch.randn(4, 8)).requires_grad_()
    y = DTensor.from_local(x.to_local().pow(3), x.device_mesh, x.placements)
    (first,) = torch.autograd.grad(y.sum(), x, create_graph=True)
    try:
        torch.autograd.grad(first.sum().full_tensor(), x)
    except RuntimeError:
        return False
    return True


def check_second_derivatives_of_dtensors(rank):
    def draw(x, t):
        return gumbel_softmax(x, t, dim=1, key=KEY)

    possible = differentiates_dtensors_twice()
    assert possible or torch.__version__ < "2.12"
    for tau in double_taus():
        x, grad = torch.randn(4, 5, 3).double(), torch.randn(4, 5, 3).double()
        wanted = derivatives(x.clone().requires_grad_(), tau, grad, draw)
        leaf = cut(x, 1).requires_grad_()
        if not possible:
            refused(
                RuntimeError, "", lambda x=leaf, t=tau, g=grad: derivatives(x, t, cut(g, 1), draw)
            )
            continue
        got = derivatives(leaf, tau, cut(grad, 1), draw)
        for a, b in zip(got, wanted, strict=True):
            a = a.full_tensor() if isinstance(a, DTensor) else a
            assert a.shape == b.shape and torch.allclose(a, b, rtol=1e-9, atol=1e-12)


def check_gradients_in_every_dtype(rank):
    for dtype in DTYPES:
        x, grad = torch.randn(5, 33).to(dtype), torch.randn(5, 33).to(dtype)
        leaf = x.double().requires_grad_() if dtype == torch.float64 else x.float().requires_grad_()
        exact = gumbel_softmax(leaf, 0.7, key=KEY)
        (wanted,) = torch.autograd.grad(exact, leaf, grad.to(compute_type(dtype)))
        for hard in (False, True):
            part = cut(x).requires_grad_()
            y = gumbel_softmax(part, 0.7, hard, key=KEY)
            (got,) = torch.autograd.grad(y, part, cut(grad))
            assert got.dtype == dtype
            eps = torch.finfo(dtype).eps
            assert torch.allclose(got.full_tensor().to(wanted.dtype), wanted, 4 * eps, 4 * eps)


SPECIAL = {
    "first rank masked": [-INF, -INF, 1.0, 2.0],
    "second rank masked": [1.0, 2.0, -INF, -INF],
    "all masked": [-INF] * 4,
    "one class left": [-INF, -INF, -INF, 0.0],
    "nan": [0.0, float("nan"), 1.0, 2.0],
    "inf": [0.0, 1.0, INF, 2.0],
    "ordinary": [0.0, 1.0, 2.0, 3.0],
    "of another tau": [0.0, 1.0, 2.0, 3.0],
    "masked by the lowest number": [torch.finfo(torch.float32).min] * 4,
    "the lowest number on one rank": [torch.finfo(torch.float32).min] * 2 + [0.0, 1.0],
    "huge": [3e38, 3e38, -3e38, 3e38],
}


def check_special_rows_are_those_of_one_process(rank):
    x = torch.tensor(list(SPECIAL.values()))
    tau = torch.tensor([0.7] * 6 + [-1.0, INF] + [0.7] * 3).view(-1, 1)
    grad = torch.randn(x.shape)
    for temperature in (0.7, 1e-3, 1e-37, 1e30, tau):
        for hard in (False, True):
            leaf, part = x.clone().requires_grad_(), cut(x).requires_grad_()
            wanted = gumbel_softmax(leaf, temperature, hard, key=KEY)
            y = gumbel_softmax(part, temperature, hard, key=KEY)
            (at,) = torch.autograd.grad(wanted, leaf, grad)
            (got_at,) = torch.autograd.grad(y, part, cut(grad))
            for a, b in ((y.full_tensor(), wanted), (got_at.full_tensor(), at)):
                assert torch.equal(a.isnan(), b.isnan()), (temperature, hard, a, b)
                assert torch.allclose(a, b, rtol=1e-4, atol=1e-6, equal_nan=True)
            assert torch.equal(y.full_tensor() == 0, wanted == 0)
    index = gumbel_argmax(cut(x), key=KEY).to_local()
    assert torch.equal(index, gumbel_argmax(x, key=KEY))
    assert index[2] == index[4] == index[5] == 0


def check_the_gradient_of_a_masked_class_is_zero(rank):
    x = torch.tensor([SPECIAL["first rank masked"], SPECIAL["one class left"]])
    for hard in (False, True):
        part = cut(x).requires_grad_()
        y = gumbel_softmax(part, 0.7, hard, key=KEY)
        (got,) = torch.autograd.grad(y, part, cut(torch.randn(2, 4)))
        everywhere = got.full_tensor()
        assert (everywhere[x == -INF] == 0).all() and everywhere.isfinite().all()


def check_logits_of_a_hard_sample_may_be_edited_before_its_backward(rank):
    """Rows and classes sharded; shards of classes save the soft sample even with recompute=True."""
    x, weights = torch.randn(4, 6), torch.randn(4, 6)
    for dim in (0, 1):
        for options in [{}] if dim == 0 else [{}, {"recompute": True}]:
            found = []
            for edited in (False, True):
                leaf = cut(x, dim).requires_grad_()
                h = leaf * 1
                y = gumbel_softmax(h, 0.5, True, key=KEY, **options)
                loss = (y * cut(weights, dim)).sum()
                if edited:
                    with torch.no_grad():
                        h.zero_()
                        leaf.to_local().data.add_(7)
                loss.backward()
                found.append(leaf.grad.full_tensor())
            assert_same_bits(found[1], found[0], f"{dim} {options}")


def check_soft_samples_merge_from_the_scores_that_one_process_takes(rank):
    """Unrounded at tau 1, rounded elsewhere: at logits of 1e5 they differ by .4 %."""
    for k in (40, 25, 8):  # shards of many classes, a shard of few, few classes in all
        x = torch.randn(300, k) + 1e5
        taus = torch.tensor([0.5, 1.0, 1.0]).repeat(100).view(-1, 1)
        for tau in (0.5, 1.0, taus):
            wanted = gumbel_softmax(x, tau, key=KEY)
            got = gumbel_softmax(cut(x), tau, key=KEY).full_tensor()
            assert (got - wanted).abs().max() < 2e-6, (k, tau)
        wanted = gumbel_softmax(x.t().contiguous(), 1.0, dim=0, key=KEY)
        got = gumbel_softmax(cut(x.t().contiguous(), 0), 1.0, dim=0, key=KEY).full_tensor()
        assert (got - wanted).abs().max() < 2e-6
    keys = torch.ops.torch_gumbel._split_key(KEY, 5)
    x = torch.randn(5, 3, 40) + 1e5
    wanted = gumbel_softmax(x, key=keys)
    got = vocab_parallel_gumbel_softmax(x[..., rank * 20 : rank * 20 + 20], key=keys)
    assert (got - wanted[..., rank * 20 : rank * 20 + 20]).abs().max() < 2e-6


def check_the_gradient_of_a_hard_sample_is_that_of_one_process_at_large_logits(rank):
    x, grad = torch.randn(300, 40) + 1e5, torch.randn(300, 40)
    for tau in (0.5, 1.0):
        leaf, part = x.clone().requires_grad_(), cut(x).requires_grad_()
        (wanted,) = torch.autograd.grad(gumbel_softmax(leaf, tau, True, key=KEY), leaf, grad)
        (got,) = torch.autograd.grad(gumbel_softmax(part, tau, True, key=KEY), part, cut(grad))
        assert (got.full_tensor() - wanted).abs().max() < 1e-5
