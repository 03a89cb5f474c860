# SPDX-License-Identifier: Apache-2.0
"""patch() under __torch_function__, vmap, and compilers."""

import contextlib
import inspect

import pytest
import torch
import torch.nn.functional as F
from common import assert_same_bits, run_python
from patching import ORIGINAL, every_test_leaves_the_original, is_on, way  # noqa: F401
from torch._dynamo.testing import AotEagerAndRecordGraphs
from torch.func import grad, vmap
from torch.overrides import TorchFunctionMode

from torch_gumbel import gumbel_softmax, patch


@pytest.fixture
def fresh_dynamo():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def model(x, tau):
    return F.gumbel_softmax(x * 2, tau=tau, hard=True)


class Tagged(torch.Tensor):
    pass


class Handler(torch.Tensor):
    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        return "handled" if func is F.gumbel_softmax else NotImplemented


class Recorder(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_torch_function_is_honoured():
    x = torch.randn(3, 4)
    with patch():
        assert F.gumbel_softmax(x.as_subclass(Handler)) == "handled"
        tagged = x.as_subclass(Tagged)
        assert type(F.gumbel_softmax(tagged)) is Tagged and way(F.gumbel_softmax, tagged) == "fused"
        with Recorder() as recorder:
            F.gumbel_softmax(x, 0.5)
        assert F.gumbel_softmax in recorder.seen
        with torch.device("meta"):
            assert is_on()


@pytest.mark.xfail(torch.__version__ < "2.15", strict=True, reason="no subclasses in custom ops")
def test_compiled_subclasses_are_fused(fresh_dynamo):
    x = torch.randn(3, 4).as_subclass(Tagged)
    compiled = torch.compile(lambda x: F.gumbel_softmax(x), fullgraph=True, backend="aot_eager")
    torch.manual_seed(3)
    with patch():
        y = compiled(x)
    assert type(y) is Tagged
    torch.manual_seed(3)
    assert_same_bits(y.as_subclass(torch.Tensor), gumbel_softmax(x.as_subclass(torch.Tensor)))


def test_fx_traces_the_call_as_one_node_that_follows_the_patch():
    with patch():
        graph = torch.fx.symbolic_trace(lambda x: F.gumbel_softmax(x, tau=0.5, hard=True))
        assert [n.op for n in graph.graph.nodes].count("call_function") == 1
        assert way(graph, torch.randn(3, 4)) == "fused"
    assert way(graph, torch.randn(3, 4)) == "torch"


@pytest.mark.filterwarnings("ignore:.torch.jit.script. is deprecated")
@pytest.mark.parametrize("hard", [False, True])
def test_torchscript_compiles_the_call(hard):
    def model(x, hard: bool):
        return F.gumbel_softmax(x, 0.5, hard)

    with patch():
        scripted = torch.jit.script(model)
    assert "torch_gumbel::gumbel_softmax" in str(scripted.inlined_graph)
    y = scripted(torch.randn(30, 4), hard)
    assert torch.allclose(y.sum(1), torch.ones(30))
    assert set(y.flatten().tolist()) == {0, 1} if hard else (y.count_nonzero(1) > 1).any()


@pytest.mark.parametrize("hard", [False, True])
def test_vmap_follows_its_randomness_and_composes_with_grad(hard):
    def draw(row):
        return F.gumbel_softmax(row, 0.5, hard)

    def loss(row):
        return (draw(row) * torch.arange(8)).sum()

    x = torch.zeros(50, 8)
    with patch():
        same, different = (vmap(draw, randomness=kind)(x) for kind in ("same", "different"))
        with pytest.raises(RuntimeError, match="randomness error mode"):
            vmap(draw)(x)
        assert way(vmap(grad(loss), randomness="different"), x) == "fused"
    assert (same == same[0]).all() and not (different == different[0]).all()


def targets(graphs):
    return [str(node.target) for graph in graphs for node in graph.graph.nodes]


def test_a_compiled_model_holds_the_op_and_follows_the_patch(fresh_dynamo):
    backend, x = AotEagerAndRecordGraphs(), torch.randn(50, 40)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    for active in [False, True, False, True]:
        with patch() if active else contextlib.nullcontext():
            draws = []
            for run in (compiled, model):
                torch.manual_seed(3)
                draws.append(run(x, 0.5))
        wanted = gumbel_softmax if active else ORIGINAL
        torch.manual_seed(3)
        draws.append(wanted(x * 2, 0.5, True))
        assert torch.equal(draws[0], draws[1]) and torch.equal(draws[0], draws[2])
    assert len(backend.graphs) == 2
    fused = [t for t in targets(backend.fw_graphs) if t.startswith("torch_gumbel")]
    assert fused == ["torch_gumbel._new_key.default", "torch_gumbel._gumbel_softmax_hard.default"]


@pytest.mark.filterwarnings("ignore:Your compiler for AOTAutograd")
def test_compiled_training_equals_eager_and_an_annealed_tau_does_not_recompile(fresh_dynamo):
    backend, x = AotEagerAndRecordGraphs(), torch.randn(3, 4, requires_grad=True)
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    with patch(), patch():
        for tau in [1.0, 0.9, 0.81, 0.7, 0.6]:
            results = []
            for run in (model, compiled):
                torch.manual_seed(3)
                y = run(x, tau)
                results.append((y, *torch.autograd.grad((y * torch.arange(4)).sum(), x)))
            for got, wanted in zip(results[1], results[0], strict=True):
                assert_same_bits(got, wanted)
    assert len(backend.graphs) <= 2


def test_a_patch_before_dynamo_is_imported_is_compiled_as_well():
    """Dynamo looks up torch's functions by name at its import, and finds the replacement.

    After undo(), it must recognize PyTorch's function again, as one node of its graph.
    """
    code = f"""
import sys, torch, torch.nn.functional as F
from torch_gumbel import patch
{inspect.getsource(model)}
assert "torch._dynamo" not in sys.modules
handle, x = patch(), torch.randn(3, 4, requires_grad=True)
from torch._dynamo.testing import AotEagerAndRecordGraphs
backend = AotEagerAndRecordGraphs()
compiled = torch.compile(model, fullgraph=True, backend=backend)
for tau in [1.0, 0.9, 0.81, 0.7]:
    compiled(x, tau).sum().backward()
handle.undo()
compiled(x, 0.5)
for graph in [*backend.fw_graphs, backend.graphs[-1]]:
    print([str(n.target) for n in graph.graph.nodes if n.op == "call_function"])
"""
    done = run_python(code)
    assert done.returncode == 0, done.stderr
    *inside, after, node = done.stdout.splitlines()
    # Dynamo of torch 2.11 and 2.12 makes a graph for every number in this order of calls.
    assert 1 <= len(inside) <= (2 if torch.__version__ >= "2.13" else 4)
    for graph in inside:
        assert (
            "torch_gumbel._gumbel_softmax_hard_soft.default" in graph and "exponential" not in graph
        )
    assert "torch_gumbel" not in after and "exponential" in after
    assert "<function gumbel_softmax" in node and "exponential" not in node
