# SPDX-License-Identifier: Apache-2.0
"""Checks of rows cut by class over two ranks (run by test_distributed.py)."""

import torch
import torch.distributed as dist
from common import DTYPES, assert_same_bits, compute_type, make_key
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode

from torch_gumbel import fold_in, gumbel_argmax, gumbel_softmax, new_key
from torch_gumbel.distributed import (
    rank_key,
    shared_key,
    vocab_parallel_gumbel_argmax,
    vocab_parallel_gumbel_softmax,
)

KEY = make_key(5)
INF = float("inf")


def cut(x, dim=-1):
    """x with its class dimension cut over the ranks."""
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
    huge[:, [1, 6]] = 1e35  # noise is lost beside it: two equal best scores, on two ranks
    assert gumbel_argmax(cut(huge), key=KEY).to_local().tolist() == [1] * 50
    assert gumbel_softmax(cut(huge), hard=True, key=KEY).full_tensor()[:, 1].tolist() == [1] * 50


def check_soft_samples_are_within_the_accuracy_bound(rank):
    for tau in (0.1, 1.0, 10.0):
        for dtype in (torch.float32, torch.float64):
            x = (torch.rand(40, 1001, dtype=dtype) - 0.5) * 60
            wanted = gumbel_softmax(x.double(), tau, key=KEY)
            if dtype == torch.float32:  # of the noise that float32 logits have
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


def whole(x):
    return x.full_tensor() if isinstance(x, DTensor) else x


def derivatives(x, tau, grad, hard, distribute):
    """Sample, gradients at logits and tau, and the gradients of a function of those."""
    leaf, temperature = distribute(x).requires_grad_(), tau.clone().requires_grad_()
    y = gumbel_softmax(leaf, temperature, hard, dim=1, key=KEY)
    weights = distribute(grad)
    first = torch.autograd.grad(y, (leaf, temperature), weights, create_graph=True)
    at = whole((first[0] * weights.cos()).sum()) + (first[1] * first[1]).sum()
    second = torch.autograd.grad(at, (leaf, temperature))
    return [whole(t).detach() for t in (y, *first, *second)]


def check_first_and_second_derivatives_are_those_of_one_process(rank):
    for hard in (False, True):
        for tau in (torch.tensor(0.7), torch.rand(4, 1, 3) + 0.5, torch.rand(1, 3) + 0.5):
            x, grad = torch.randn(4, 5, 3, dtype=torch.float64), torch.randn(4, 5, 3).double()
            wanted = derivatives(x, tau.double(), grad, hard, torch.clone)
            got = derivatives(x, tau.double(), grad, hard, lambda t: cut(t, 1))
            for a, b in zip(got, wanted, strict=True):
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
}


def check_special_rows_are_those_of_one_process(rank):
    x = torch.tensor(list(SPECIAL.values()))
    tau = torch.tensor([0.7] * 6 + [-1.0]).view(7, 1)
    for temperature in (0.7, tau):
        for hard in (False, True):
            wanted = gumbel_softmax(x, temperature, hard, key=KEY)
            got = gumbel_softmax(cut(x), temperature, hard, key=KEY).full_tensor()
            assert torch.equal(got.isnan(), wanted.isnan()), (got, wanted)
            assert torch.equal(got == 0, wanted == 0)
            assert torch.allclose(got, wanted, rtol=1e-5, equal_nan=True)
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


def collectives(call):
    with CommDebugMode() as counted:
        result = call()
    counts = {str(op).split(".")[-1]: n for op, n in counted.get_comm_counts().items()}
    return result, sum(counts.values()), counts


def check_the_number_of_collectives(rank):
    x = torch.randn(6, 4)

    def draw(leaf, hard, tau=0.7):
        return vocab_parallel_gumbel_softmax(leaf, tau, hard, key=KEY)

    assert collectives(lambda: draw(x, False))[1] == 1
    assert collectives(lambda: draw(x, True))[1] == 1
    assert collectives(lambda: vocab_parallel_gumbel_argmax(x, key=KEY))[1] == 1
    leaf, tau = x.clone().requires_grad_(), torch.tensor(0.7, requires_grad=True)
    for hard, forward in ((False, 1), (True, 2)):
        y, sent, _ = collectives(lambda hard=hard: draw(leaf, hard, tau))
        assert sent == forward
        back = collectives(lambda y=y: torch.autograd.grad(y, (leaf, tau), torch.ones_like(y)))
        assert back[1] == 1
    # with a key, rows that are not cut by class say nothing to each other
    rows = distribute_tensor(x, init_device_mesh("cpu", (2,)), [Shard(0)]).requires_grad_()
    assert collectives(lambda: gumbel_softmax(rows, key=KEY).sum().to_local())[1] == 0


UNEVEN = (3, 5)


def mine(x, rank):
    begin = rank * UNEVEN[0]
    return x[..., begin : begin + UNEVEN[rank]].contiguous(), begin


def check_plain_tensors_over_a_process_group(rank):
    x = torch.randn(6, 8)
    index = gumbel_argmax(x, temperature=0.7, key=KEY)
    for hard in (False, True):
        wanted = gumbel_softmax(x, 0.7, hard, key=KEY)
        half = x[:, rank * 4 : rank * 4 + 4]
        got = vocab_parallel_gumbel_softmax(half, 0.7, hard, key=KEY)
        assert torch.allclose(got, wanted[:, rank * 4 : rank * 4 + 4], rtol=1e-5)
        part, begin = mine(x, rank)
        place = {"first_class": begin, "classes": 8, "group": dist.group.WORLD}
        got = vocab_parallel_gumbel_softmax(part, 0.7, hard, key=KEY, **place)
        assert torch.allclose(got, mine(wanted, rank)[0], rtol=1e-5)
        chosen = vocab_parallel_gumbel_argmax(part, temperature=0.7, key=KEY, **place)
        assert torch.equal(chosen, index)
    kept = vocab_parallel_gumbel_argmax(half, keepdim=True, temperature=0.7, key=KEY)
    assert torch.equal(kept, index.unsqueeze(-1))


def check_classes_in_the_other_order_of_ranks(rank):
    x = torch.randn(6, 8)
    begin = 4 * (1 - rank)
    place = {"first_class": begin, "classes": 8}
    chosen = vocab_parallel_gumbel_argmax(x[:, begin : begin + 4], key=KEY, **place)
    assert torch.equal(chosen, gumbel_argmax(x, key=KEY))


def check_batches_of_keys_over_a_process_group(rank):
    x, keys = torch.randn(3, 2, 8), torch.randint(0, 2**60, (3, 2))
    half = x[..., rank * 4 : rank * 4 + 4]
    for given in (keys, keys.view(3, 1, 1, 2)):
        chosen = vocab_parallel_gumbel_argmax(half, key=given)
        assert torch.equal(chosen, gumbel_argmax(x, key=keys))


def check_a_keyless_call_is_that_of_the_first_rank(rank):
    x = torch.randn(6, 8)
    half = x[:, rank * 4 : rank * 4 + 4]
    torch.manual_seed(0)
    wanted = gumbel_argmax(x), gumbel_softmax(x, hard=True), new_key()
    torch.manual_seed(rank)
    assert torch.equal(vocab_parallel_gumbel_argmax(half), wanted[0])
    hard = vocab_parallel_gumbel_softmax(half, hard=True)
    assert torch.equal(hard, wanted[1][:, rank * 4 : rank * 4 + 4])
    assert torch.equal(shared_key(), wanted[2])


def check_ranks_get_keys_of_their_own(rank):
    assert torch.equal(rank_key(KEY), fold_in(KEY, rank))
    assert not torch.equal(rank_key(KEY), fold_in(KEY, 1 - rank))


def check_wrong_arguments_are_refused(rank):
    x, before = torch.randn(6, 4), torch.get_rng_state()
    softmax, argmax = vocab_parallel_gumbel_softmax, vocab_parallel_gumbel_argmax
    both = "wanted both first_class and classes, or neither"
    refused(ValueError, both, lambda: softmax(x, first_class=0))
    refused(ValueError, both, lambda: argmax(x, classes=8))
    place = "classes [first_class, first_class + 4) must lie in [0, classes), got first_class 5"
    refused(ValueError, place, lambda: softmax(x, first_class=5, classes=8))
    refused(ValueError, "tau must be > 0", lambda: softmax(x, 0))
    refused(ValueError, "temperature must be > 0", lambda: argmax(x, temperature=-1.0))
    refused(IndexError, "dim must be in [-2, 1], got 2", lambda: softmax(x, dim=2))
    refused(TypeError, "logits must be a tensor, got list", lambda: softmax([1.0]))
    refused(TypeError, "logits must be float32", lambda: argmax(x.long()))
    refused(
        ValueError,
        "wanted a key or a generator",
        lambda: softmax(x, key=KEY, generator=torch.default_generator),
    )
    assert torch.equal(torch.get_rng_state(), before)
