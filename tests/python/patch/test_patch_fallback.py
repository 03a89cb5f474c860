# SPDX-License-Identifier: Apache-2.0
"""Arguments that patch() leaves to PyTorch's own function, and differences in the others."""

import types
import warnings

import pytest
import torch
import torch.distributed as dist
import torch.nn.functional as F
from common import assert_same_bits
from patching import ORIGINAL, every_test_leaves_the_original, is_on, way  # noqa: F401
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.testing._internal.two_tensor import TwoTensor

from torch_gumbel import _patch, gumbel_softmax, patch


def outcome(call, *args, **options):
    """Type and message of an error, or shape and dtype of a result."""
    try:
        result = call(*args, **options)
    except Exception as error:
        return type(error), str(error)
    return type(result), result.shape, result.dtype


def nested(*shapes):
    return torch.nested.nested_tensor([torch.ones(shape) for shape in shapes])


REFUSED = {
    "complex": lambda: torch.randn(3, 4, dtype=torch.complex64),
    "integer": lambda: torch.ones(3, 4, dtype=torch.int64),
    "eight bits": lambda: torch.randn(3, 4).to(torch.float8_e4m3fn),
    "sparse": lambda: torch.randn(3, 4).to_sparse(),
    "nested": lambda: nested((2, 4), (3, 4)),
    "list": lambda: [0.5, 0.5],
    "none": lambda: None,
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", REFUSED)
def test_arguments_that_the_fused_op_refuses_go_to_pytorch(kind):
    x = REFUSED[kind]()
    wanted = outcome(ORIGINAL, x)
    assert issubclass(wanted[0], Exception) and outcome(gumbel_softmax, x) != wanted
    with patch():
        assert outcome(F.gumbel_softmax, x) == wanted


@pytest.mark.parametrize("hard", [False, True])
def test_a_device_without_a_kernel_is_up_to_pytorch(hard, monkeypatch):
    ways = {"cpu": "fused", "meta": "fused", "xpu": "torch", "mps": "torch"}
    for built_for, cuda in [("13.0", "fused"), ("", "torch")]:
        info = types.SimpleNamespace(build_info=lambda cuda=built_for: {"cuda": cuda})
        monkeypatch.setattr(_patch, "_C", info)
        with patch(), FakeTensorMode():
            for device, wanted in {**ways, "cuda": cuda}.items():
                x = torch.empty(3, 4, device=device)
                assert way(F.gumbel_softmax, x, 0.5, hard) == wanted, device
                assert F.gumbel_softmax(x, 0.5, hard).device.type == device


@pytest.fixture
def mesh():
    from torch.testing._internal.distributed.fake_pg import FakeStore

    dist.init_process_group("fake", rank=0, world_size=2, store=FakeStore())
    yield dist.init_device_mesh("cpu", (2,))
    dist.destroy_process_group()


def test_distributed_tensors_are_fused(mesh):
    from torch.distributed.tensor import DTensor, Replicate, Shard

    x = DTensor.from_local(torch.randn(3, 4), mesh, [Shard(0)])
    tau = DTensor.from_local(torch.rand(6, 1) + 1, mesh, [Replicate()])

    def draw(x):
        return F.gumbel_softmax(x, 0.5, True)

    compiled = torch.compile(draw, fullgraph=True, backend="aot_eager")
    with patch():
        samples = []
        for run in (draw, compiled):
            torch.manual_seed(3)
            samples.append(run(x))
        fused = {way(F.gumbel_softmax, x, t) for t in (0.5, torch.rand(6, 1) + 1, tau)}
        mixed = torch.randn(6, 4), tau
        assert outcome(F.gumbel_softmax, *mixed) == outcome(ORIGINAL, *mixed)
    assert fused == {"fused"}
    assert torch.equal(samples[0].to_local(), samples[1].to_local())
    for y in samples:
        assert type(y) is DTensor and y.shape == (6, 4) and y.placements == (Shard(0),)
        assert torch.equal(y.to_local().sum(1), torch.ones(3))


def test_a_subclass_that_takes_ops_one_by_one_is_up_to_pytorch():
    x = TwoTensor(torch.randn(3, 4), torch.randn(3, 4))
    with patch():
        assert way(F.gumbel_softmax, x, 0.5, True) == "torch"
        assert type(F.gumbel_softmax(x)) is TwoTensor
        tau = torch.randn(3, 4), TwoTensor(torch.ones(3, 1), torch.ones(3, 1))
        assert way(F.gumbel_softmax, *tau) == "torch"


TEMPERATURES = {
    "number": (lambda: 2, "fused"),
    "0-d, of another type": (lambda: torch.tensor(2.0, dtype=torch.float64), "fused"),
    "one value": (lambda: torch.full((1,), 2.0), "fused"),
    "per row": (lambda: torch.rand(3, 1) + 1, "fused"),
    "per class": (lambda: torch.rand(4) + 1, "torch"),
    "one more dimension": (lambda: torch.rand(1, 1, 1) + 1, "torch"),
    "more rows than logits": (lambda: torch.rand(4, 1, 1) + 1, "torch"),
    "widens the result": (lambda: torch.rand(3, 1, dtype=torch.float64) + 1, "torch"),
    "boolean": (lambda: torch.tensor(True), "torch"),
}


@pytest.mark.parametrize("kind", TEMPERATURES)
def test_every_temperature_of_pytorch_gives_its_shape_and_dtype(kind):
    x, (make, wanted) = torch.randn(3, 4), TEMPERATURES[kind]
    tau = make()
    with patch():
        assert way(F.gumbel_softmax, x, tau) == wanted
        for hard in (False, True):
            assert outcome(F.gumbel_softmax, x, tau, hard) == outcome(ORIGINAL, x, tau, hard)


BAD_TEMPERATURES = {
    "complex": lambda: 1j,
    "complex tensor": lambda: torch.tensor(1j),
    "string": lambda: "hot",
    "none": lambda: None,
    "list": lambda: [1.0],
    "of another device": lambda: torch.ones(3, 1, device="meta"),
    "sparse": lambda: torch.ones(3, 1).to_sparse(),
    "nested": lambda: nested((3, 1)),
}


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("kind", BAD_TEMPERATURES)
def test_a_bad_temperature_is_up_to_pytorch(kind):
    x, tau = torch.randn(3, 4), BAD_TEMPERATURES[kind]()
    wanted = outcome(ORIGINAL, x, tau)
    assert issubclass(wanted[0], Exception) and outcome(gumbel_softmax, x, tau) != wanted
    with patch():
        assert outcome(F.gumbel_softmax, x, tau) == wanted


@pytest.mark.parametrize("hard", [False, True])
def test_the_fallback_gets_every_argument(hard):
    x, tau, samples = torch.randn(4, 4), torch.rand(4, 1) + 1, []
    with patch():
        for draw in (F.gumbel_softmax, ORIGINAL):
            torch.manual_seed(1)
            samples.append(draw(x, tau, hard, dim=0))
    assert_same_bits(*samples)


@pytest.mark.parametrize("tau", [0, -1.0, float("nan"), float("inf")])
def test_a_bad_number_is_our_value_error(tau):
    with patch(), pytest.raises(ValueError, match="tau must be > 0 and finite"):
        F.gumbel_softmax(torch.randn(3, 4), tau)


@pytest.mark.parametrize("tau", [1.0, torch.tensor(True)], ids=["fused", "torch"])
def test_eps_warns_once_and_at_the_caller(tau):
    with patch(), warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        F.gumbel_softmax(torch.randn(3, 4), tau, eps=1e-3)
    assert [w.filename for w in seen] == [__file__] and "`eps`" in str(seen[0].message)
