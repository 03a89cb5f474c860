# SPDX-License-Identifier: Apache-2.0
"""Shared helpers of the tests of torch.compile."""

from __future__ import annotations

import torch
from functorch.compile import make_boxed_func
from torch._dynamo.backends.debugging import aot_eager
from torch._dynamo.testing import CompileCounterWithBackend

# The ops of a training graph for a sample, and for its backward.
SAMPLE_OPS = {
    "soft": ("torch_gumbel._gumbel_softmax.default", "_gumbel_softmax_backward"),
    "hard": ("torch_gumbel._gumbel_softmax_hard_soft.default", "_gumbel_softmax_backward"),
    "hard again": ("torch_gumbel._gumbel_softmax.default", "_gumbel_softmax_hard_backward"),
}


def compiled(function, backend="aot_eager", **options):
    """Compiles without the cache of earlier tests; a graph break is an error."""
    torch._dynamo.reset()
    return torch.compile(function, fullgraph=True, backend=backend, **options)


def counted(function, backend="aot_eager", **options):
    """The compiled function, and how often it was compiled: `counter.frame_count`."""
    counter = CompileCounterWithBackend(backend)
    return compiled(function, counter, **options), counter


class Graphs:
    """A backend that runs graphs unchanged, and records them."""

    def __init__(self):
        self.forwards, self.backwards = [], []

    def __call__(self, graph, inputs):
        return aot_eager(
            graph, inputs, fw_compiler=keep(self.forwards), bw_compiler=keep(self.backwards)
        )


def keep(graphs):
    def compiler(graph, inputs):
        graphs.append(graph)
        return make_boxed_func(graph.forward)

    return compiler


def recorded(function, **options):
    """The compiled function, and its graphs."""
    graphs = Graphs()
    return compiled(function, graphs, **options), graphs


def targets(graph):
    """Names of the functions that a graph calls, in order."""
    return [str(node.target) for node in graph.graph.nodes if node.op == "call_function"]


def count(graph, name):
    return sum(name in target for target in targets(graph))
