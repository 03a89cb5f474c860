# SPDX-License-Identifier: Apache-2.0
"""Autocast: PyTorch's dtypes on CPU and CUDA, and no widened copy of the logits.

CUDA is tested on fake tensors, with the flag set directly (torch.autocast refuses without a GPU)
and the node called directly (the engine needs a stream of the device).
"""

import contextlib

import pytest
import torch
import torch.nn.functional as F
from common import DTYPES, FORMS, HALVES, assert_same_bits, compute_type, make_key
from compiling import recorded, targets
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils._python_dispatch import TorchDispatchMode

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)
DEVICES = ["cpu", "cuda"]
both = pytest.mark.parametrize("hard", [False, True])
kinds = pytest.mark.parametrize("kind", FORMS)
inputs = pytest.mark.parametrize("dtype", DTYPES, ids=str)
autocasts = pytest.mark.parametrize("cast", HALVES, ids=str)
CASTS = ("_to_copy", "aten.to.", "convert_element_type")


@contextlib.contextmanager
def autocast(device, dtype):
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    torch.set_autocast_enabled(device, True)
    torch.set_autocast_dtype(device, dtype)
    try:
        yield
    finally:
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


class Casts(TorchDispatchMode):
    """Counts the casts of tensors as large as the logits."""

    def __init__(self, size):
        super().__init__()
        self.size, self.found = size, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        sizes = [a.numel() for a in args if isinstance(a, torch.Tensor)]
        if any(name in str(func) for name in CASTS) and self.size in sizes:
            self.found.append(str(func))
        return func(*args, **(kwargs or {}))


def temperature(form, device):
    return 0.5 if form == "number" else torch.full((4, 1), 0.5, device=device, requires_grad=True)


@kinds
@pytest.mark.parametrize("form", ["number", "per row"])
@pytest.mark.parametrize("device", DEVICES)
@autocasts
@inputs
def test_dtypes_are_those_of_pytorch_and_nothing_is_cast(dtype, cast, device, form, kind):
    with FakeTensorMode(), autocast(device, cast):
        x = torch.empty(4, 9, device=device, dtype=dtype).requires_grad_()
        tau = temperature(form, device)
        with Casts(x.numel()) as casts:
            y = gumbel_softmax(x, tau, **FORMS[kind])
            unused = [None] * (kind == "hard")  # the gradient of the saved soft sample
            gradient, of_tau = y.grad_fn(torch.empty_like(y), *unused)
        theirs = F.gumbel_softmax(x, 0.5, kind != "soft")
    assert y.dtype == theirs.dtype
    assert (y.device, gradient.device) == (x.device, x.device)
    assert gradient.dtype == dtype
    assert of_tau is None if form == "number" else of_tau.dtype == torch.float32
    assert casts.found == []


@autocasts
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_control_pytorch_does_cast_its_logits(dtype, cast):
    with FakeTensorMode(), autocast("cuda", cast):
        x = torch.empty(4, 9, device="cuda", dtype=dtype)
        with Casts(x.numel()) as casts:
            F.gumbel_softmax(x)
    assert casts.found


@kinds
@autocasts
@inputs
def test_on_the_cpu_values_are_those_of_the_widened_logits(dtype, cast, kind):
    x, weights = torch.randn(4, 9).to(dtype), torch.randn(4, 9)
    leaf, wide = x.clone().requires_grad_(), x.to(compute_type(dtype)).requires_grad_()
    with torch.autocast("cpu", cast):
        y = gumbel_softmax(leaf, 0.5, **FORMS[kind], key=KEY)
        index = gumbel_argmax(leaf, key=KEY)
    reference = gumbel_softmax(wide, 0.5, **FORMS[kind], key=KEY)
    assert_same_bits(y.detach(), reference.detach().to(dtype))
    assert torch.equal(index, gumbel_argmax(x, key=KEY))
    (got,) = torch.autograd.grad(y, leaf, weights.to(dtype))
    (wanted,) = torch.autograd.grad(reference, wide, weights.to(dtype).to(wide.dtype))
    assert got.dtype == dtype
    # A backward from the sample reads it rounded to the half type.
    tolerance = (8 if kind == "hard again" else 64) * torch.finfo(dtype).eps
    assert (got - wanted).abs().max() < tolerance * wanted.abs().max()


def amp_model():
    linear, weights = torch.nn.Linear(6, 9), torch.randn(4, 9)

    def loss(x, hard):
        z = gumbel_softmax(linear(x), 0.5, hard, key=KEY)
        return z, (weights * z).sum()

    return linear, loss


@both
@pytest.mark.parametrize("inside", [False, True], ids=["autocast outside", "autocast inside"])
@autocasts
def test_compiled_under_autocast_equals_eager_without_a_cast_of_the_logits(cast, inside, hard):
    linear, loss = amp_model()
    x = torch.randn(4, 6)

    def cast_inside(x):
        with torch.autocast("cpu", cast):
            return loss(x, hard)

    run, graphs = recorded(cast_inside if inside else lambda x: loss(x, hard))
    with contextlib.nullcontext() if inside else torch.autocast("cpu", cast):
        z, value = run(x)
    wanted, reference = cast_inside(x)
    assert z.dtype == wanted.dtype == cast
    assert_same_bits(z.detach(), wanted.detach())
    assert_same_bits(*(torch.autograd.grad(v, linear.weight)[0] for v in (value, reference)))
    draw = next(n for n in graphs.forwards[0].graph.nodes if "_gumbel_softmax" in str(n.target))
    assert draw.args[0].meta["val"].dtype == cast  # the dtype of the linear layer
    assert not any(name in str(draw.args[0].target) for name in CASTS)


@both
@autocasts
@inputs
def test_a_graph_for_cuda_has_no_cast_of_the_logits(dtype, cast, hard):
    with FakeTensorMode(allow_non_fake_inputs=True), autocast("cuda", cast):
        x = torch.empty(4, 9, device="cuda", dtype=dtype)
        graph = make_fx(lambda x: gumbel_softmax(x, 0.5, hard))(x)
    assert not any(cast in target for cast in CASTS for target in targets(graph))
    (drawn,) = [n for n in graph.graph.nodes if "_gumbel_softmax" in str(n.target)]
    assert drawn.meta["val"].dtype == compute_type(dtype)


@inputs
def test_a_compiled_call_sees_autocast_come_and_go(dtype):
    """The two states have different graphs."""
    run, _ = recorded(lambda x: F.linear(gumbel_softmax(x, 0.5, key=KEY), torch.eye(9).to(x.dtype)))
    x = torch.randn(4, 9).to(dtype)
    plain = run(x)
    with torch.autocast("cpu", torch.bfloat16):
        half = run(x)
    assert plain.dtype == run(x).dtype == dtype
    assert half.dtype == (dtype if dtype == torch.float64 else torch.bfloat16)
