# SPDX-License-Identifier: Apache-2.0
"""CUDA against the CPU: bits, gradients, keys, memory, and no synchronization.

`make gpu` (tests/gpu/run.py) runs this file with REQUIRE_CUDA=1. C++ tests of the same:
tests/cpp/gpu_*_test.cpp.
"""

import pytest
import torch
from common import DTYPES, HALVES, assert_same_bits, layouts, make_key, ops, tau_of

from torch_gumbel import fold_in, gumbel_argmax, gumbel_softmax, new_key, split
from torch_gumbel import key as key_of

pytestmark = pytest.mark.cuda

KEY = make_key(5, 3)
SHAPES = [
    ((700, 7), -1),
    ((90, 33), -1),
    ((33, 1000), -1),
    ((5, 5000), 1),
    ((2, 40000), -1),
    ((1, 131072), 1),
    ((3, 21, 6, 10), 1),
    ((40, 3), 0),
]


def normal(shape, dtype=torch.float32):
    return (3 * torch.randn(shape, dtype=torch.float64)).to(dtype)


def near(got, wanted, relative, what="", absolute=1e-7):
    """Within `relative` of the values and the rounding of the result; the same NaNs."""
    x, y = got.double().cpu(), wanted.double()
    error = (x - y).abs() - y.abs() * (relative + torch.finfo(got.dtype).eps)
    assert torch.equal(x.isnan(), y.isnan()), what
    assert (error.nan_to_num(0) <= absolute).all(), (
        f"{what}: off by {error.nan_to_num(0).max():.3g}"
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_hard_samples_and_indices_have_the_bits_of_the_cpu(shape, dim, dtype):
    x = normal(shape, dtype)
    for tau in [1.0, 0.4]:
        hard = gumbel_softmax(x.cuda(), tau, True, dim=dim, key=KEY).cpu()
        assert_same_bits(hard, gumbel_softmax(x, tau, True, dim=dim, key=KEY))
        index = gumbel_argmax(x.cuda(), dim, temperature=tau, key=KEY).cpu()
        assert torch.equal(index, gumbel_argmax(x, dim, temperature=tau, key=KEY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_a_hard_sample_with_a_gradient_keeps_its_bits_and_the_soft_sample(shape, dim, dtype):
    x = normal(shape, dtype)
    hard, soft = ops._gumbel_softmax_hard_soft(x.cuda(), tau_of(0.4), KEY, dim % x.dim())
    assert_same_bits(hard.cpu(), gumbel_softmax(x, 0.4, True, dim=dim, key=KEY))
    near(soft, gumbel_softmax(x, 0.4, dim=dim, key=KEY), 1e-2 if dtype in HALVES else 2e-4)
    with_gradient = gumbel_softmax(x.cuda().requires_grad_(), 0.4, True, dim=dim, key=KEY)
    assert_same_bits(with_gradient.detach(), hard)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_a_temperature_of_0_is_greedy(shape, dim, dtype):
    x = normal(shape, dtype).round()  # with ties
    rows = [1 if i == dim % len(shape) else n for i, n in enumerate(shape)]
    some = torch.randint(0, 2, rows).float()
    for temperature in [0.0, some]:
        there = temperature.cuda() if isinstance(temperature, torch.Tensor) else temperature
        index = gumbel_argmax(x.cuda(), dim, temperature=there, key=KEY).cpu()
        assert torch.equal(index, gumbel_argmax(x, dim, temperature=temperature, key=KEY))


@pytest.mark.parametrize("shape", [(6, 5, 40), (2, 3, 300), (3, 36, 8, 4)])
def test_strides_do_not_change_the_noise(shape):
    x = normal(shape)
    wanted = gumbel_softmax(x, 1.0, True, dim=1, key=KEY)
    for name, view in layouts(x.cuda()).items():
        assert_same_bits(gumbel_softmax(view, 1.0, True, dim=1, key=KEY).cpu(), wanted, name)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_shard_draws_its_part_of_the_global_sample(dtype):
    x = normal((8, 1200), dtype)
    whole = ops._gumbel_softmax(x.cuda(), tau_of(1.0), KEY, 1, False)
    for first in [0, 4, 401]:
        where = {"full_shape": [8, 1200], "start": [0, first]}
        there = x.cuda()[:, first : first + 300]  # moving a part would put it at a boundary
        part = x[:, first : first + 300]
        value, index = ops._gumbel_max(there, tau_of(1.0), KEY, 1, False, **where)
        wanted = ops._gumbel_max(part, tau_of(1.0), KEY, 1, False, **where)
        assert_same_bits(value.cpu(), wanted[0])
        assert torch.equal(index.cpu(), wanted[1])
        alone = ops._gumbel_softmax(there, tau_of(1.0), KEY, 1, False, **where).double()
        cut = whole[:, first : first + 300].double()
        sums = cut.sum(1, keepdim=True)
        # Small halves lie 2^-24 apart, and are divided by the part's sum.
        absolute = 1e-7 + (2.0**-24 / sums.min().item() if dtype == torch.float16 else 0)
        near(alone, (cut / sums).cpu(), 1e-2 if dtype in HALVES else 1e-4, "", absolute)


def magnitudes(x, grad, tau, dim):
    """Of what the gradients at logits and at tau add up: y (grad - sum y grad) / tau of a row, and
    the sum over its classes of that times log y. Where one class dominates a row, or incoming
    gradients are alike, the gradients are far smaller, and their relative errors larger."""
    y = gumbel_softmax(x.double(), tau, dim=dim, key=KEY)
    terms = y * grad.double().abs().amax(dim, keepdim=True) / tau
    at_tau = terms * y.clamp(min=1e-300).log().abs()
    return terms.amax(dim, keepdim=True), at_tau.sum(dim, keepdim=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize(("shape", "dim"), SHAPES)
def test_gradients_are_near_those_of_the_cpu(shape, dim, hard, dtype):
    x, grad = normal(shape, dtype), normal(shape, dtype)
    rows = [1 if i == dim % len(shape) else n for i, n in enumerate(shape)]
    tau = torch.rand(rows, dtype=torch.float64) + 0.5

    def gradients(device):
        logits = x.to(device).requires_grad_()
        temperature = tau.to(device, torch.float32).requires_grad_()
        y = gumbel_softmax(logits, temperature, hard, dim=dim, key=KEY)
        return torch.autograd.grad(y, (logits, temperature), grad.to(device))

    tolerance = 2e-2 if dtype in HALVES else 5e-4
    scales = magnitudes(x, grad, tau, dim)
    for got, wanted, scale in zip(gradients("cuda"), gradients("cpu"), scales, strict=True):
        error = (got.double().cpu() - wanted.double()).abs()
        assert (error <= tolerance * (scale + 1e-6)).all(), f"off by {(error / scale).max():.3g}"


def test_special_rows_are_those_of_the_cpu():
    for classes in [6, 300, 40000]:
        x = normal((7, classes))
        x[1, ::2] = x[2] = x[5, 1:] = -torch.inf
        x[3, 4], x[4, 5] = torch.nan, torch.inf
        for hard in [False, True]:
            got = gumbel_softmax(x.cuda(), 0.5, hard, key=KEY).cpu()
            wanted = gumbel_softmax(x, 0.5, hard, key=KEY)
            near(got, wanted, 1e-4, f"{classes} {hard}")
            assert torch.equal(got == 0, wanted == 0)
        one_hot, soft = ops._gumbel_softmax_hard_soft(x.cuda(), tau_of(0.5), KEY, 1)
        assert_same_bits(one_hot.cpu(), gumbel_softmax(x, 0.5, True, key=KEY))
        assert torch.equal(soft.isnan(), one_hot.isnan())
        assert torch.equal(gumbel_argmax(x.cuda(), key=KEY).cpu(), gumbel_argmax(x, key=KEY))


def test_keys_are_the_same_on_every_device():
    one = fold_in(key_of(5), 7)
    assert torch.equal(split(one.cuda(), 100).cpu(), split(one, 100))
    assert torch.equal(fold_in(one.cuda(), torch.tensor(9).cuda()).cpu(), fold_in(one, 9))
    x, keys = normal((64, 100)), split(one, 64)
    hard = gumbel_softmax(x.cuda(), 1.0, True, key=keys.cuda()).cpu()
    assert_same_bits(hard, gumbel_softmax(x, 1.0, True, key=keys))


def test_a_generator_decides_and_moves_on():
    x = normal((64, 100)).cuda()
    source = torch.Generator("cuda").manual_seed(3)
    state = source.get_state()
    first, second = (gumbel_softmax(x, generator=source) for _ in range(2))
    assert not torch.equal(first, second)
    source.set_state(state)
    assert_same_bits(gumbel_softmax(x, generator=source), first)
    source.set_state(state)
    assert_same_bits(gumbel_softmax(x, key=new_key(source)), first)
    with pytest.raises(ValueError, match="generator must be on cuda"):
        gumbel_softmax(x, generator=torch.Generator())


def test_no_call_synchronizes_with_the_gpu():
    x, tau = normal((64, 1000)).cuda().requires_grad_(), torch.rand(64, 1, device="cuda") + 0.5
    tau.requires_grad_()
    for mode in ["default", "error"]:  # the first round loads kernels
        torch.cuda.set_sync_debug_mode(mode)
        try:
            for hard in [False, True]:
                gumbel_softmax(x, tau, hard).sum().backward()
            gumbel_argmax(x.detach())
            new_key(device="cuda")
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hard", [False, True])
def test_nothing_but_the_result_is_allocated(hard, dtype):
    x = normal((512, 1000), dtype).cuda()
    gumbel_softmax(x, 0.7, hard, key=KEY)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a cached block is not split where less than 1 MB would be left
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    y = gumbel_softmax(x, 0.7, hard, key=KEY)
    size = (y.numel() * y.element_size() + 511) // 512 * 512
    assert torch.cuda.max_memory_allocated() - before <= size
    if not hard:
        return
    del y
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    kept = ops._gumbel_softmax_hard_soft(x, tau_of(0.7), KEY, 1)
    assert torch.cuda.max_memory_allocated() - before <= len(kept) * size


def test_autocast_gives_float32_with_the_same_noise():
    x = normal((64, 100), torch.float16)
    with torch.autocast("cuda"):
        y = gumbel_softmax(x.cuda(), 0.7, key=KEY)
    assert y.dtype == torch.float32
    near(y, gumbel_softmax(x.float(), 0.7, key=KEY), 1e-4)


def test_a_python_graph_draws_anew_at_every_replay():
    x = normal((64, 1000)).cuda()
    stream, graph = torch.cuda.Stream(), torch.cuda.CUDAGraph()
    with torch.cuda.stream(stream):
        gumbel_softmax(x, 0.7, True)
    torch.cuda.synchronize()
    with torch.cuda.graph(graph):
        y = gumbel_softmax(x, 0.7, True)
    drawn = []
    torch.manual_seed(11)
    for _ in range(3):
        graph.replay()
        drawn.append(y.clone())
    torch.manual_seed(11)
    for each in drawn:
        assert_same_bits(gumbel_softmax(x, 0.7, True), each)
    assert not torch.equal(drawn[0], drawn[1])


@pytest.mark.parametrize("mode", ["default", "reduce-overhead"])
def test_compiled_calls_draw_anew_and_keep_the_bits_of_a_key(mode):
    x = normal((64, 1000)).cuda()
    keyed = torch.compile(lambda t, k: gumbel_softmax(t, 0.7, True, key=k), mode=mode)
    drawn = torch.compile(lambda t: gumbel_softmax(t, 0.7, True), mode=mode)
    key = KEY.cuda()
    for _ in range(3):
        assert_same_bits(keyed(x, key).clone(), gumbel_softmax(x, 0.7, True, key=KEY))
    first, second = drawn(x).clone(), drawn(x).clone()
    assert not torch.equal(first, second)


def test_more_than_two_to_the_31_elements():
    """Expanded rows, so that only the results take memory; the last rows are compared."""
    classes, rows = 1024, 2**21 + 5
    row = normal((1, classes), torch.bfloat16)
    where = {"full_shape": [rows, classes], "start": [rows - 3, 0]}
    wanted = ops._gumbel_max(row.expand(3, -1), tau_of(1.0), KEY, 1, False, **where)[1]
    index = gumbel_argmax(row.cuda().expand(rows, -1), key=KEY)
    assert torch.equal(index[-3:].cpu(), wanted)
    assert index.min() >= 0 and index.max() < classes
    hard = gumbel_softmax(row.cuda().expand(rows, -1), 1.0, True, key=KEY)
    assert torch.equal(hard[-3:].argmax(1).cpu(), wanted)
    assert torch.equal(hard.argmax(1), index)
