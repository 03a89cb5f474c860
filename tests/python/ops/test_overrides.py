# SPDX-License-Identifier: Apache-2.0
"""Tensor subclasses, function modes, and FX see each function as one call."""

import pytest
import torch
from common import make_key

import torch_gumbel

KEY = make_key(5)
X, P = torch.zeros(3, 4), torch.full((3, 4), 0.25)
CALLS = {
    "gumbel_argmax": (X,),
    "gumbel_topk": (X, 2),
    "gumbel_like": (X,),
    "sample_categorical": (P, 0.5),
    "straight_through_lookup": (X, torch.ones(4, 2)),
    "kl_categorical": (X,),
    "categorical_elbo": (torch.zeros(3), X),
    "perplexity": (P,),
}


class Seen(torch.overrides.TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, function, types, args=(), kwargs=None):
        self.names.append(getattr(function, "__name__", ""))
        return function(*args, **(kwargs or {}))


class Marked(torch.Tensor):
    pass


@pytest.mark.parametrize("name", [*CALLS, "sample_gumbel"])
def test_a_function_mode_sees_the_call(name):
    with Seen() as seen:
        getattr(torch_gumbel, name)(*CALLS.get(name, (3,)))
    assert name in seen.names


@pytest.mark.parametrize("name", CALLS)
def test_a_subclass_is_preserved(name):
    x, *rest = CALLS[name]
    result = getattr(torch_gumbel, name)(x.as_subclass(Marked), *rest)
    assert all(isinstance(t, Marked) for t in torch.utils._pytree.tree_leaves(result))


@pytest.mark.parametrize("name", CALLS)
def test_fx_records_the_function(name):
    function, rest = getattr(torch_gumbel, name), CALLS[name][1:]
    graph = torch.fx.symbolic_trace(lambda x: function(x, *rest)).graph
    assert function in [node.target for node in graph.nodes]
