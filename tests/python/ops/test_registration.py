# SPDX-License-Identifier: Apache-2.0
"""How the ops are registered: opcheck, tags, meta and fake tensors, traced graphs."""

import pytest
import torch
from common import DTYPES, FORMS, make_key, ops, tau_of
from compiling import count, targets
from operation import tensors
from operations import PRIVATE
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from torch_gumbel import gumbel_argmax, gumbel_softmax, new_key

KEY = make_key(5)
EVERY_CHECK = (
    "test_schema",
    "test_autograd_registration",
    "test_faketensor",
    "test_aot_dispatch_static",
    "test_aot_dispatch_dynamic",
)


def opcheck(op, args, options=None):
    results = torch.library.opcheck(op, args, options or {}, test_utils=EVERY_CHECK)
    assert results == dict.fromkeys(EVERY_CHECK, "SUCCESS")


def samples(dtype, requires_grad):
    """Private ops: a shard with temperatures of rows, one temperature, batched keys."""
    one, keys = tau_of(0.7), torch.randint(0, 2**60, (2, 2))
    for changes in [
        {"place": {"full_shape": [4, 3, 8], "start": [1, 0, 3]}},
        {"tau": one, "flag": False},
        {"tau": one, "key": keys, "dim": 2, "flag": False, "dtype": torch.float32},
    ]:
        given = tensors(dtype, requires_grad, **changes)
        yield from ((getattr(ops, name), *make(given)) for name, make in PRIVATE.items())


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_private_ops_pass_opcheck(dtype, requires_grad):
    for op, args, options in samples(dtype, requires_grad):
        opcheck(op.default, args, options)


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_public_ops_pass_opcheck(dtype, requires_grad, keyed):
    """Without a key they are random: opcheck seeds the default generator before each run."""
    x = torch.randn(2, 3, 4).to(dtype).requires_grad_(requires_grad)
    rows = torch.rand(2, 1, 4).add(0.5).requires_grad_(requires_grad)
    options = {"key": KEY} if keyed else {}
    for form in FORMS.values():
        again, hard = {"recompute": "recompute" in form}, "hard" in form
        opcheck(ops.gumbel_softmax.default, (x, 0.7, hard, 1), options | again)
        opcheck(ops.gumbel_softmax.tensor_tau, (x, rows, hard, 1), options | again)
    opcheck(ops.gumbel_argmax.default, (x, 1, True), options)
    opcheck(ops.gumbel_argmax.tensor_temperature, (x, rows.detach(), 1), options)


@pytest.mark.parametrize("dtype", [torch.int64, torch.uint64], ids=str)
def test_key_ops_pass_opcheck(dtype):
    keys = torch.randint(0, 2**60, (3, 2)).view(dtype)
    opcheck(ops._split_key.default, (keys, 4))
    opcheck(ops._fold_in_key.default, (keys, 4))
    opcheck(ops._fold_in_key.tensor, (keys, torch.tensor(4)))
    opcheck(ops._new_key.default, (torch.empty(0), None))


def every_op():
    names = [n for n in torch._C._dispatch_get_all_op_names() if n.startswith("torch_gumbel::")]
    assert len(names) >= 14
    for name in names:
        packet, _, overload = name.removeprefix("torch_gumbel::").partition(".")
        yield getattr(getattr(ops, packet), overload or "default")


def test_only_the_key_is_tagged_random_and_nothing_is_unsafe_in_a_cuda_graph():
    for op in every_op():
        assert torch.Tag.pt2_compliant_tag in op.tags
        assert torch.Tag.cudagraph_unsafe not in op.tags
        random = op is ops._new_key.default
        assert (torch.Tag.nondeterministic_seeded in op.tags) == random


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_meta_tensors_have_the_shapes_and_dtypes_of_real_ones(dtype):
    for op, args, options in samples(dtype, False):
        to_meta = [a.to("meta") if isinstance(a, torch.Tensor) else a for a in args]
        real, meta = op(*args, **options), op(*to_meta, **options)
        leaves = torch.utils._pytree.tree_leaves
        for r, m in zip(leaves(real), leaves(meta), strict=True):
            assert m.device.type == "meta"
            assert (m.shape, m.dtype, m.stride()) == (r.shape, r.dtype, r.stride())


@pytest.mark.parametrize("hard", [False, True])
def test_public_functions_accept_meta_tensors(hard):
    x = torch.randn(2, 3, 4, device="meta", requires_grad=True)
    y = gumbel_softmax(x, 0.5, hard, dim=1)
    assert y.shape == x.shape and y.device.type == "meta"
    assert torch.autograd.grad(y.sum(), x)[0].shape == x.shape
    assert gumbel_argmax(x, 1, True).shape == (2, 1, 4)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_traced_call_draws_its_key_in_the_graph(device, hard):
    """Fake CUDA tensors must not take the fast path with a host key."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, tau = torch.empty(3, 4, device=device), torch.empty((), device=device)
        for run in (
            lambda x, _: gumbel_softmax(x, 0.5, hard),
            lambda x, tau: gumbel_softmax(x, tau, hard),
            lambda x, _: gumbel_argmax(x),
            lambda x, _: new_key(device=x.device),
        ):
            drawn = [t for t in targets(make_fx(run)(x, tau)) if "_new_key" in t]
            assert drawn == ["torch_gumbel._new_key.default"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_traced_call_reads_neither_key_nor_temperature_on_the_host(device, hard):
    """Reading a value would synchronize, and make it a constant of a captured graph."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        x, tau = torch.empty(3, 4, device=device), torch.empty((), device=device)
        key = torch.empty(2, dtype=torch.uint64, device=device)
        runs = (
            lambda x, tau, key: gumbel_softmax(x, tau, hard),
            lambda x, tau, key: gumbel_softmax(x, tau, hard, key=key),
            lambda x, tau, key: ops.gumbel_argmax.tensor_temperature(x, tau, key=key),
        )
        for run in runs:
            assert count(make_fx(run)(x, tau, key), "torch_gumbel._gumbel") == 1
        with pytest.raises(Exception, match=r"_local_scalar_dense"):
            make_fx(lambda x, tau: x * tau.item())(x, tau)


def test_fake_cuda_tensors_keep_their_device():
    with FakeTensorMode():
        x = torch.empty(3, 4, device="cuda")
        assert gumbel_softmax(x, hard=True).device.type == "cuda"
        assert gumbel_argmax(x).device.type == "cuda"
        assert new_key(device="cuda").device.type == "cuda"


@pytest.mark.parametrize("hard", [False, True])
def test_a_cpu_key_serves_fake_cuda_tensors(hard):
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(3, 4, device="cuda")
        assert gumbel_softmax(x, 0.5, hard, key=KEY).device.type == "cuda"
        assert gumbel_argmax(x, key=KEY).device.type == "cuda"


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_trace_draws_anew_at_every_run():
    x = torch.zeros(3, 40)
    traced = torch.jit.trace(lambda x: gumbel_softmax(x, 0.5), x, check_trace=False)
    samples = {tuple(traced(x).flatten().tolist()) for _ in range(5)}
    assert len(samples) == 5


@pytest.mark.parametrize("tracing_mode", ["real", "symbolic"])
def test_a_traced_graph_draws_anew_at_every_run(tracing_mode):
    def draw(x):
        return gumbel_softmax(x, 0.5)

    graph = make_fx(draw, tracing_mode=tracing_mode)(torch.zeros(3, 40))
    assert not torch.equal(graph(torch.zeros(3, 40)), graph(torch.zeros(3, 40)))
