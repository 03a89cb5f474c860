# SPDX-License-Identifier: Apache-2.0
"""Semantics of F.gumbel_softmax: shapes, dtypes, dims, modes, and the hard sample."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from common import DTYPES, FORMS, assert_same_bits, compute_type, make_key, noise
from torch.overrides import TorchFunctionMode

import torch_gumbel
from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)
SHAPES = [(), (1,), (7,), (4, 1), (5, 13), (2, 3, 5, 7), (0, 4), (3, 0, 4), (2, 1, 1, 2, 1, 3)]


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_shape_and_dtype_are_kept_and_the_output_is_contiguous(shape, dtype, hard):
    x = torch.randn(shape).to(dtype).requires_grad_()
    y = gumbel_softmax(x, 0.5, hard)
    theirs = F.gumbel_softmax(x, 0.5, hard)
    assert y.shape == theirs.shape and y.dtype == theirs.dtype == dtype
    assert y.is_contiguous() and y.device == x.device and y.requires_grad
    (gradient,) = torch.autograd.grad(y.sum(), x)
    assert gradient.shape == x.shape and gradient.dtype == dtype


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dim", [-4, -3, -2, -1, 0, 1, 2, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dim_is_a_distribution(dtype, dim, hard):
    y = gumbel_softmax(torch.randn(4, 5, 6, 7).to(dtype), 0.5, hard, dim=dim)
    sums = y.double().sum(dim)
    assert (y >= 0).all()
    assert torch.allclose(sums, torch.ones_like(sums), atol=7 * torch.finfo(dtype).eps, rtol=0)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (1,), (5, 1), (0, 1)])
def test_one_class_is_always_one(shape, dtype, hard):
    x = torch.randn(shape).to(dtype)
    assert torch.equal(gumbel_softmax(x, 0.3, hard), torch.ones(shape, dtype=dtype))
    assert gumbel_argmax(x).sum() == 0


def test_a_scalar_is_one_class():
    x = torch.tensor(0.7, requires_grad=True)
    for dim in (0, -1):
        y = gumbel_softmax(x, hard=True, dim=dim)
        assert y.shape == () and y == 1
        assert torch.autograd.grad(y, x)[0] == 0
        assert gumbel_argmax(x, dim).shape == gumbel_argmax(x, dim, True).shape == ()


@pytest.mark.parametrize("shape", [(0, 5), (3, 0, 5)])
def test_no_rows_give_empty_results(shape):
    for hard in (False, True):
        assert gumbel_softmax(torch.empty(shape), hard=hard).shape == shape
    assert gumbel_argmax(torch.empty(shape)).shape == shape[:-1]
    assert gumbel_argmax(torch.empty(shape), keepdim=True).shape == (*shape[:-1], 1)


def test_no_classes_are_empty_when_soft_and_an_index_error_when_hard():
    x = torch.empty(3, 0, requires_grad=True)
    y = gumbel_softmax(x)
    assert y.shape == (3, 0) and torch.autograd.grad(y.sum(), x)[0].shape == (3, 0)
    with pytest.raises(IndexError):
        F.gumbel_softmax(x, hard=True)
    with pytest.raises(IndexError, match="gumbel_softmax: wanted at least one class, got size 0"):
        gumbel_softmax(x, hard=True)
    with pytest.raises(IndexError, match="gumbel_argmax: wanted at least one class, got size 0"):
        gumbel_argmax(x)


@pytest.mark.parametrize("k", [2, 5, 16, 33, 300, 9000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_hard_is_exactly_one_one_at_the_index(dtype, k):
    x = (2 * torch.randn(50, k)).to(dtype)
    y, soft = gumbel_softmax(x, 0.5, True, key=KEY), gumbel_softmax(x, 0.5, key=KEY)
    index = gumbel_argmax(x, key=KEY)
    assert torch.equal(y, F.one_hot(index, k).to(dtype))
    best = soft.gather(1, index.unsqueeze(1))
    assert torch.equal(best, soft.max(1, keepdim=True).values)


@pytest.mark.parametrize("keepdim", [False, True])
@pytest.mark.parametrize("dim", [0, 1, 2, -1])
def test_index_has_the_shape_and_position_of_argmax(dim, keepdim):
    x = torch.randn(4, 5, 6)
    index = gumbel_argmax(x, dim, keepdim, key=KEY)
    wanted = (x + noise(x, KEY)).argmax(dim, keepdim)
    assert index.dtype == torch.int64 and not index.requires_grad
    assert torch.equal(index, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_temperature_of_the_index_divides_only_the_logits(dtype):
    x = torch.randn(300, 40).to(dtype)
    for temperature in (0.3, 3, 7.7):
        wide = x.double() if dtype == torch.float64 else x.float()
        inverse = 1 / torch.tensor(temperature, dtype=wide.dtype)
        wanted = (wide * inverse + noise(x, KEY)).argmax(1)
        assert torch.equal(gumbel_argmax(x, temperature=temperature, key=KEY), wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("tau", [1e-6, 1e-3, 1, 1e3, 1e6, 1e-40, 1e300, 5e-324, 1.7e308])
def test_tiny_and_huge_temperatures_stay_finite(tau, dtype):
    x = (5 * torch.randn(20, 60)).to(dtype)
    x[:, 7] = -torch.inf
    for form in (tau, torch.tensor(tau, dtype=torch.float64)):
        leaf = x.clone().requires_grad_()
        y = gumbel_softmax(leaf, form, key=KEY)
        assert torch.isfinite(y).all() and (y[:, 7] == 0).all()
        sums = y.detach().double().sum(1)
        assert torch.allclose(sums, torch.ones_like(sums), atol=60 * torch.finfo(dtype).eps, rtol=0)
        hard = gumbel_softmax(x, form, True, key=KEY)
        assert torch.equal(hard.argmax(1), gumbel_argmax(x, key=KEY))


@pytest.mark.parametrize("bad", [0.0, -1.0, torch.nan, torch.inf, -torch.inf, -0.0])
@pytest.mark.parametrize("hard", [False, True])
def test_a_bad_entry_of_a_tau_tensor_makes_only_its_rows_nan(bad, hard):
    x = torch.randn(5, 30)
    tau = torch.full((5, 1), 0.5)
    clean = gumbel_softmax(x, tau, hard, key=KEY)
    tau[2] = bad
    leaf = x.clone().requires_grad_()
    y = gumbel_softmax(leaf, tau, hard, key=KEY)
    (gradient,) = torch.autograd.grad(y, leaf, torch.randn(5, 30))
    others = [0, 1, 3, 4]
    assert y[2].isnan().all() and gradient[2].isnan().all()
    assert_same_bits(y[others], clean[others])
    assert not gradient[others].isnan().any()


@pytest.mark.parametrize("form", ["soft", "hard again"])
def test_editing_a_saved_tensor_raises(form):
    """Hard samples need an unshared tensor: test_hard_samples.py."""
    x = torch.randn(3, 4, requires_grad=True)
    logits = x * 1
    y = gumbel_softmax(logits, **FORMS[form])
    if form == "hard again":
        logits.add_(1)
    else:
        y.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hard", [False, True])
def test_autocast_gives_the_dtype_of_pytorch(dtype, hard):
    x = torch.randn(4, 5).to(dtype)
    with torch.autocast("cpu", torch.bfloat16):
        leaf = x.clone().requires_grad_()
        ours, theirs = gumbel_softmax(leaf, 0.5, hard, key=KEY), F.gumbel_softmax(x, 0.5, hard)
    assert ours.dtype == theirs.dtype
    (gradient,) = torch.autograd.grad(ours.sum(), leaf)
    assert gradient.dtype == dtype
    widened = gumbel_softmax(x.to(compute_type(dtype)), 0.5, hard, key=KEY)
    assert_same_bits(ours.detach(), widened.to(ours.dtype))


def test_eps_is_ignored_with_the_warning_of_pytorch():
    x = torch.randn(3, 4)
    with pytest.warns(UserWarning, match="`eps` parameter is deprecated and has no effect"):
        got = gumbel_softmax(x, 1, False, 1e-3, key=KEY)
    assert_same_bits(got, gumbel_softmax(x, key=KEY))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gumbel_softmax(x, 1, False, 1e-10, -1)


class Tagged(torch.Tensor):
    pass


def test_a_tensor_subclass_is_honoured():
    x = torch.randn(3, 4).as_subclass(Tagged)
    assert type(gumbel_softmax(x, key=KEY)) is Tagged
    assert type(gumbel_argmax(x, key=KEY)) is Tagged
    tau = torch.ones(3, 1).as_subclass(Tagged)
    assert type(gumbel_softmax(torch.randn(3, 4), tau)) is Tagged
    plain = x.as_subclass(torch.Tensor)
    assert_same_bits(
        gumbel_softmax(x, 0.3, True, dim=0, key=KEY).as_subclass(torch.Tensor),
        gumbel_softmax(plain, 0.3, True, dim=0, key=KEY),
    )


class Recorder(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_a_torch_function_mode_sees_the_call():
    x = torch.randn(3, 4)
    with Recorder() as recorder:
        gumbel_softmax(x, key=KEY)
        gumbel_argmax(x, key=KEY)
    assert gumbel_softmax in recorder.seen and gumbel_argmax in recorder.seen


def test_fx_traces_the_call_as_one_node():
    def model(x):
        return gumbel_softmax(x, tau=0.5, hard=True) * 2

    graph = torch.fx.symbolic_trace(model).graph
    assert any(node.target is gumbel_softmax for node in graph.nodes)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dim", [0, 7, 13])
def test_fourteen_dimensions_in_an_odd_order(dim, hard):
    order = [13, 1, 11, 3, 9, 5, 7, 6, 8, 4, 10, 2, 12, 0]
    shape = [2, 1, 2, 2, 1, 2, 2, 2, 2, 2, 1, 2, 2, 3]
    base = torch.randn([shape[i] for i in order])
    x = base.permute([order.index(i) for i in range(14)])[..., ::2]
    shape[13] = 2
    assert list(x.shape) == shape and not x.is_contiguous()
    tau = torch.rand([1 if i == dim else n for i, n in enumerate(shape)]) + 0.5
    grad = torch.randn(shape[::-1]).permute(list(range(13, -1, -1)))
    results = []
    for logits, g, t in [(x, grad, tau), (x.contiguous(), grad.contiguous(), tau)]:
        leaf = logits.detach().requires_grad_()
        y = gumbel_softmax(leaf, t, hard, dim=dim, key=KEY)
        index = gumbel_argmax(leaf, dim, key=KEY)
        results.append((y, *torch.autograd.grad(y, leaf, g), index))
    for got, wanted in zip(*results, strict=True):
        assert_same_bits(got, wanted)


def test_functions_are_documented_and_exported():
    for name in torch_gumbel.__all__:
        assert hasattr(torch_gumbel, name)
        assert name == "__version__" or getattr(torch_gumbel, name).__doc__
