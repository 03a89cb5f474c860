# SPDX-License-Identifier: Apache-2.0
"""Registration, meta and fake tensors, tracing, and torch.compile."""

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key, ops, tau_of
from torch._dynamo.testing import CompileCounterWithBackend
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)


@pytest.fixture(autouse=True)
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def samples(dtype, requires_grad):
    """Arguments of every private op."""
    x = torch.randn(2, 3, 4).to(dtype).requires_grad_(requires_grad)
    y = x.detach().softmax(1).requires_grad_(requires_grad)
    grad = torch.randn(2, 3, 4).to(dtype)
    tau, rows = tau_of(0.7), torch.rand(2, 1, 4).add(0.5).requires_grad_(requires_grad)
    keys = torch.randint(0, 2**60, (2, 2))
    shard = {"full_shape": [4, 3, 8], "start": [1, 0, 3]}
    return [
        (ops._gumbel_softmax, (x, tau, KEY, 1, False), {}),
        (ops._gumbel_softmax, (x, rows, KEY, 1, True), shard),
        (ops._gumbel_softmax, (x, tau, keys, 2, False), {"dtype": torch.float32}),
        (ops._gumbel_softmax_lse, (x, rows, KEY, 1), {}),
        (ops._gumbel_softmax_backward, (grad, y, rows, 1), {"tau_grad": True}),
        (ops._gumbel_softmax_backward, (grad, y, tau, 1), {"dtype": torch.float32}),
        (ops._gumbel_softmax_hard_backward, (grad, x, rows, KEY, 1), {"tau_grad": True}),
        (ops._gumbel_softmax_hard_backward, (grad, x, tau, keys, 2), {}),
        (ops._gumbel_argmax, (x, tau, KEY, 1, False), {}),
        (ops._gumbel_argmax, (x, tau, keys, 2, True), {}),
        (ops._gumbel_noise, (x, KEY), shard),
    ]


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_private_ops_pass_opcheck(dtype, requires_grad):
    for op, args, options in samples(dtype, requires_grad):
        torch.library.opcheck(op.default, args, options)


@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_public_ops_with_a_key_pass_opcheck(dtype, requires_grad):
    x = torch.randn(2, 3, 4).to(dtype).requires_grad_(requires_grad)
    rows = torch.rand(2, 1, 4).add(0.5).requires_grad_(requires_grad)
    for hard in (False, True):
        torch.library.opcheck(ops.gumbel_softmax.default, (x, 0.7, hard, 1), {"key": KEY})
        torch.library.opcheck(ops.gumbel_softmax.tensor_tau, (x, rows, hard, 1), {"key": KEY})
    torch.library.opcheck(ops.gumbel_argmax.default, (x, 1, True), {"key": KEY})
    temperature = torch.rand(2, 1, 4) + 0.5
    torch.library.opcheck(ops.gumbel_argmax.tensor_temperature, (x, temperature, 1), {"key": KEY})


def test_key_ops_pass_opcheck():
    keys = torch.randint(0, 2**60, (3, 2))
    torch.library.opcheck(ops._split_key.default, (keys, 4))
    torch.library.opcheck(ops._fold_in_key.default, (keys, 4))
    torch.library.opcheck(ops._fold_in_key.tensor, (keys, torch.tensor(4)))
    checks = ("test_schema", "test_autograd_registration", "test_faketensor")
    torch.library.opcheck(ops._new_key.default, (torch.empty(0), None), test_utils=checks)


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


def targets(graph):
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("hard", [False, True])
def test_a_traced_call_draws_its_key_in_the_graph(device, hard):
    """Fake CUDA tensors stand for real ones: the eager shortcut of a host key must not be taken."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(3, 4, device=device)
        for run in (lambda x: gumbel_softmax(x, 0.5, hard), lambda x: gumbel_argmax(x)):
            graph = make_fx(run)(x)
            drawn = [t for t in targets(graph) if "_new_key" in t]
            assert drawn == ["torch_gumbel._new_key.default"]


def test_fake_cuda_tensors_keep_their_device():
    with FakeTensorMode():
        x = torch.empty(3, 4, device="cuda")
        assert gumbel_softmax(x, hard=True).device.type == "cuda"
        assert gumbel_argmax(x).device.type == "cuda"


@pytest.mark.parametrize("hard", [False, True])
def test_a_cpu_key_serves_fake_cuda_tensors(hard):
    with FakeTensorMode(allow_non_fake_inputs=True):
        x = torch.empty(3, 4, device="cuda")
        assert gumbel_softmax(x, 0.5, hard, key=KEY).device.type == "cuda"
        assert gumbel_argmax(x, key=KEY).device.type == "cuda"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_on_cuda_gives_float32_as_pytorch_does(dtype):
    with FakeTensorMode():
        x = torch.empty(3, 4, device="cuda", dtype=dtype)
        torch.set_autocast_enabled("cuda", True)  # torch.autocast declines without a GPU
        try:
            ours, theirs = gumbel_softmax(x), torch.nn.functional.gumbel_softmax(x)
        finally:
            torch.set_autocast_enabled("cuda", False)
        assert ours.dtype == theirs.dtype == torch.float32
        assert gumbel_softmax(x).dtype == dtype


@pytest.mark.filterwarnings("ignore")
def test_a_torchscript_trace_draws_anew_at_every_run():
    x = torch.zeros(3, 40)
    traced = torch.jit.trace(lambda x: gumbel_softmax(x, 0.5), x, check_trace=False)
    samples = {tuple(traced(x).flatten().tolist()) for _ in range(5)}
    assert len(samples) == 5


def test_a_traced_graph_draws_anew_at_every_run():
    graph = make_fx(lambda x: gumbel_softmax(x, 0.5))(torch.zeros(3, 40))
    assert not torch.equal(graph(torch.zeros(3, 40)), graph(torch.zeros(3, 40)))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("keyed", [False, True])
def test_compiled_training_equals_eager_under_one_seed(hard, keyed):
    x, w = torch.randn(3, 40, requires_grad=True), torch.randn(3, 40)
    key = KEY if keyed else None

    def loss(x, w):
        y = gumbel_softmax(x, 0.5, hard, key=key)
        return (y * w).sum(), y

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    results = []
    for function in (loss, compiled):
        torch.manual_seed(3)
        value, y = function(x, w)
        results.append((y.detach(), torch.autograd.grad(value, x)[0]))
    for got, wanted in zip(results[1], results[0], strict=True):
        assert_same_bits(got, wanted)
    again = compiled(x, w)[1]
    assert torch.equal(again.detach(), results[0][0]) == keyed


def test_two_draws_in_one_graph_are_not_merged():
    def pair(x):
        return gumbel_softmax(x, 0.5), gumbel_softmax(x, 0.5), gumbel_argmax(x), gumbel_argmax(x)

    compiled = torch.compile(pair, fullgraph=True, backend="aot_eager")
    a, b, i, j = compiled(torch.zeros(50, 40))
    assert not torch.equal(a, b) and not torch.equal(i, j)


@pytest.mark.parametrize("hard", [False, True])
def test_inductor_equals_eager_under_one_key(hard):
    x = torch.randn(3, 40, requires_grad=True)

    def loss(x):
        return (gumbel_softmax(x * 2, 0.5, hard, key=KEY) ** 2).sum()

    compiled = torch.compile(loss, fullgraph=True)
    (got,) = torch.autograd.grad(compiled(x), x)
    (wanted,) = torch.autograd.grad(loss(x), x)
    assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_an_annealed_tau_does_not_recompile():
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(lambda x, t: gumbel_softmax(x, t, key=KEY), fullgraph=True, backend=counter)
    x = torch.randn(3, 40)
    for tau in [1.0, 0.9, 0.81, 0.7, 0.6, 0.5]:
        assert_same_bits(run(x, tau), gumbel_softmax(x, tau, key=KEY))
    assert counter.frame_count <= 2


def test_an_annealed_temperature_of_the_index_does_not_recompile():
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(
        lambda x, t: gumbel_argmax(x, temperature=t, key=KEY), fullgraph=True, backend=counter
    )
    x = torch.randn(30, 40)
    for temperature in [1.0, 0.9, 0.81, 0.7, 0.6, 0.5]:
        wanted = gumbel_argmax(x, temperature=temperature, key=KEY)
        assert torch.equal(run(x, temperature), wanted)
    assert counter.frame_count <= 2


def test_a_bad_tau_shows_its_message_when_compiled():
    run = torch.compile(lambda x, t: gumbel_softmax(x, t), fullgraph=True, backend="aot_eager")
    with pytest.raises(Exception, match=r"gumbel_softmax: tau must be > 0 and finite, got -1"):
        run(torch.randn(3, 4), -1.0)


def test_sizes_that_change_do_not_recompile():
    counter = CompileCounterWithBackend("aot_eager")
    run = torch.compile(
        lambda x: gumbel_softmax(x, 0.5, True, key=KEY),
        fullgraph=True,
        backend=counter,
        dynamic=True,
    )
    frames = []
    for rows, k in [(3, 40), (5, 41), (7, 300)]:
        x = torch.randn(rows, k)
        assert_same_bits(run(x), gumbel_softmax(x, 0.5, True, key=KEY))
        frames.append(counter.frame_count)
    assert frames[0] >= 1 and frames[-1] == frames[0]


def test_export_keeps_the_ops():
    class Model(torch.nn.Module):
        def forward(self, x):
            return gumbel_softmax(x, 0.5, True)

    program = torch.export.export(Model(), (torch.randn(3, 4),))
    assert any("_new_key" in t for t in targets(program.graph_module)) or any(
        "gumbel_softmax" in t for t in targets(program.graph_module)
    )
    first, second = (program.module()(torch.zeros(3, 4)) for _ in range(2))
    assert first.sum(1).tolist() == second.sum(1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("hard", [False, True])
def test_vmap_and_grad_compile(hard):
    x, keys = torch.randn(3, 4), torch.randint(0, 2**60, (3, 2))

    def per_lane(x, keys):
        def loss(row, key):
            return (gumbel_softmax(row, 0.5, hard, key=key) * torch.arange(4)).sum()

        return torch.func.vmap(torch.func.grad(loss))(x, keys)

    compiled = torch.compile(per_lane, fullgraph=True, backend="aot_eager")
    assert torch.allclose(compiled(x, keys), per_lane(x, keys), rtol=1e-6)
