# SPDX-License-Identifier: Apache-2.0
"""torch.compile: one graph for every call, the same bits as eager, a new sample every time."""

import pytest
import torch
from common import FORMS, assert_same_bits, make_key
from compiling import SAMPLE_OPS, compiled, count, counted, recorded
from torch.utils._pytree import tree_leaves

from torch_gumbel import gumbel_argmax, gumbel_softmax, new_key
from torch_gumbel.distributions import RelaxedOneHotCategorical

KEY = make_key(5)


def zeros():
    return torch.zeros(3, 40)


def tau_form(form):
    """A temperature of logits [2, 3, 4] with classes along dim 1."""
    values = {"0-d": torch.tensor(0.7), "per row": torch.rand(2, 1, 4) + 0.5}
    values["absent dim"] = torch.rand(4) + 0.5
    return values[form].requires_grad_() if form in values else 0.7


def forward_and_gradients(function, x, tau, weights):
    """One call with a seed: its sample, and the gradients of the inputs that require one."""
    torch.manual_seed(3)
    y = function(x, tau)
    leaves = [x, *([tau] if isinstance(tau, torch.Tensor) else [])]
    return y.detach(), *torch.autograd.grad(y, leaves, weights)


@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("kind", FORMS)
@pytest.mark.parametrize("form", ["number", "0-d", "per row", "absent dim"])
def test_every_form_of_tau_equals_eager_under_one_seed(form, kind, dynamic):
    x, weights = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    tau = tau_form(form)

    def draw(x, tau):
        return gumbel_softmax(x * 1, tau, **FORMS[kind], dim=1)

    run = compiled(draw, dynamic=dynamic)
    wanted = forward_and_gradients(draw, x, tau, weights)
    for got, value in zip(forward_and_gradients(run, x, tau, weights), wanted, strict=True):
        assert_same_bits(got, value)
    assert not torch.equal(run(x, tau), run(x, tau)) or kind != "soft"


@pytest.mark.parametrize("draw", [gumbel_softmax, gumbel_argmax])
@pytest.mark.parametrize("keyed", [False, True])
def test_a_call_without_a_key_is_new_and_one_with_a_key_is_not(draw, keyed):
    run = compiled(lambda x: draw(x, key=KEY if keyed else None))
    assert torch.equal(run(zeros()), run(zeros())) == keyed


def pairs_under_one_seed(function, backend, x):
    """Results of the compiled function, and those of eager."""
    run = compiled(function, backend)
    torch.manual_seed(3)
    wanted = tree_leaves(function(x))
    torch.manual_seed(3)
    return list(zip(tree_leaves(run(x)), wanted, strict=True))


@pytest.mark.parametrize("draw", ["soft", "hard", "index"])
def test_inductor_keeps_the_bits_of_the_sample(draw):
    draws = {
        "soft": lambda x: gumbel_softmax(x, 0.5),
        "hard": lambda x: gumbel_softmax(x, 0.5, True),
        "index": gumbel_argmax,
    }
    for got, wanted in pairs_under_one_seed(draws[draw], "inductor", torch.randn(30, 40)):
        assert_same_bits(got, wanted)


def in_the_order_of_eager(function, backend):
    pairs = pairs_under_one_seed(function, backend, torch.randn(30, 40))
    return all(torch.equal(got, wanted) for got, wanted in pairs)


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_draws_of_one_graph_come_in_the_order_of_eager_as_those_of_torch_do(backend):
    def ours(x):
        return gumbel_softmax(x, 0.5), gumbel_argmax(x), gumbel_softmax(x, 0.5)

    def theirs(x):
        return torch.bernoulli(x.sigmoid()), torch.poisson(x.abs()), torch.bernoulli(x.sigmoid())

    with torch._inductor.config.patch(
        fallback_random=True
    ):  # PyTorch's sampler, by the kernels of eager
        order_is_kept = in_the_order_of_eager(theirs, backend)
    if order_is_kept:
        assert in_the_order_of_eager(ours, backend)
    else:  # inductor of torch 2.11 reorders random ops
        assert backend == "inductor" and torch.__version__ < "2.15"


@pytest.mark.parametrize("hard", [False, True])
def test_inductor_equals_eager_under_one_key(hard):
    x = torch.randn(3, 40, requires_grad=True)

    def loss(x):
        return (gumbel_softmax(x * 2, 0.5, hard, key=KEY) ** 2).sum()

    (got,) = torch.autograd.grad(compiled(loss, "inductor")(x), x)
    (wanted,) = torch.autograd.grad(loss(x), x)
    assert torch.allclose(got, wanted, rtol=1e-5, atol=1e-6)


def test_two_draws_in_one_graph_are_not_merged():
    def pair(x):
        return gumbel_softmax(x, 0.5), gumbel_softmax(x, 0.5), gumbel_argmax(x), gumbel_argmax(x)

    a, b, i, j = compiled(pair)(torch.zeros(50, 40))
    assert not torch.equal(a, b) and not torch.equal(i, j)


@pytest.mark.parametrize("freezing", [False, True])
@pytest.mark.parametrize(
    "draw",
    [lambda: gumbel_softmax(zeros()), lambda: gumbel_argmax(torch.zeros(50, 40)), new_key],
    ids=["softmax", "argmax", "key"],
)
def test_a_draw_from_constants_is_not_folded_into_one(draw, freezing):
    run = compiled(draw, "inductor")
    with torch.no_grad(), torch._inductor.config.patch(freezing=freezing):
        assert not torch.equal(run(), run())


def test_reduce_overhead_mode_draws_and_differentiates():
    x = torch.randn(3, 40, requires_grad=True)
    run = compiled(lambda x: gumbel_softmax(x, 0.5), "inductor", mode="reduce-overhead")
    torch.manual_seed(3)
    y = gumbel_softmax(x, 0.5)
    torch.manual_seed(3)
    got = run(x)
    assert_same_bits(got.detach(), y.detach())
    assert_same_bits(*(torch.autograd.grad(sample, x, y.detach())[0] for sample in (got, y)))
    assert not torch.equal(run(x), run(x))


def step(run, x, weights, *rest):
    leaf = x.clone().requires_grad_()
    y = run(leaf, *rest)
    return y.detach(), torch.autograd.grad(y, leaf, weights)[0]


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("way", ["dynamic", "marked", "automatic"])
def test_sizes_that_change_do_not_recompile(way, hard):
    def draw(x):
        return gumbel_softmax(x, 0.5, hard, key=KEY)

    run, counter = counted(draw, dynamic=True if way == "dynamic" else None)
    for rows, k in [(3, 40), (5, 41), (7, 300), (11, 9), (2, 5000)]:
        x, weights = torch.randn(rows, k), torch.randn(rows, k)
        leaf = x.clone().requires_grad_()
        if way == "marked":
            torch._dynamo.mark_dynamic(leaf, (0, 1))
        got = run(leaf)
        wanted = step(draw, x, weights)
        assert_same_bits(got.detach(), wanted[0])
        assert_same_bits(torch.autograd.grad(got, leaf, weights)[0], wanted[1])
    assert counter.frame_count == (2 if way == "automatic" else 1)


def fifty_temperatures():
    return [1 / (1 + i / 7) for i in range(50)]


@pytest.mark.parametrize("hard", [False, True])
def test_an_annealed_tau_does_not_recompile(hard):
    def draw(x, tau):
        return gumbel_softmax(x, tau, hard, key=KEY)

    run, counter = counted(draw)
    x, weights = torch.randn(3, 40), torch.randn(3, 40)
    for tau in fifty_temperatures():
        for got, wanted in zip(
            step(run, x, weights, tau), step(draw, x, weights, tau), strict=True
        ):
            assert_same_bits(got, wanted)
    assert counter.frame_count <= 2


def test_an_annealed_temperature_of_the_index_does_not_recompile():
    def draw(x, temperature):
        return gumbel_argmax(x, temperature=temperature, key=KEY)

    run, counter = counted(draw)
    x = torch.randn(30, 40)
    for temperature in fifty_temperatures():
        assert torch.equal(run(x, temperature), draw(x, temperature))
    assert counter.frame_count <= 2


def test_a_tau_that_a_module_anneals_does_not_recompile():
    class Sampler(torch.nn.Module):
        tau = 1.0

        def forward(self, x):
            return gumbel_softmax(x, self.tau, key=KEY)

    sampler = Sampler()
    run, counter = counted(sampler)
    x = torch.randn(3, 40)
    for _ in range(20):
        sampler.tau *= 0.9
        assert_same_bits(run(x), gumbel_softmax(x, sampler.tau, key=KEY))
    assert counter.frame_count <= 2


def test_another_value_of_a_tensor_tau_is_the_same_graph():
    run, counter = counted(lambda x, tau: gumbel_softmax(x, tau, key=KEY))
    x = torch.randn(3, 40)
    for tau in fifty_temperatures():
        tensor = torch.tensor(tau)
        assert_same_bits(run(x, tensor), gumbel_softmax(x, tensor, key=KEY))
    assert counter.frame_count == 1


@pytest.mark.parametrize("form", FORMS)
def test_a_tensor_tau_is_not_read_on_the_host(form):
    run, graphs = recorded(lambda x, tau: gumbel_softmax(x, tau, **FORMS[form]))
    x, tau = torch.randn(3, 40, requires_grad=True), torch.tensor(0.5, requires_grad=True)
    run(x, tau).sum().backward()
    (forward,), (backward,) = graphs.forwards, graphs.backwards
    assert count(forward, "_new_key") == count(forward, SAMPLE_OPS[form][0]) == 1
    assert count(backward, SAMPLE_OPS[form][1]) == count(backward, "torch_gumbel") == 1
    for graph in (forward, backward):
        assert not count(graph, "_local_scalar_dense")


@pytest.mark.parametrize("hard", [False, True])
def test_a_tau_that_was_read_from_a_tensor_stays_one_graph(hard):
    run, counter = counted(lambda x, tau: gumbel_softmax(x, tau.item(), hard, key=KEY))
    x = torch.randn(3, 40)
    with torch._dynamo.config.patch(capture_scalar_outputs=True):
        for tau in (0.5, 0.25, 0.125):
            wanted = gumbel_softmax(x, tau, hard, key=KEY)
            assert_same_bits(run(x, torch.tensor(tau)), wanted)
    assert counter.frame_count == 1


def test_eps_is_ignored_in_a_graph():
    run = compiled(lambda x: gumbel_softmax(x, 1, False, 1e-3, key=KEY))
    assert_same_bits(run(zeros()), gumbel_softmax(zeros(), key=KEY))


BAD = [-1.0, 0.0, torch.nan, -torch.inf]


# A symbolic tau is never infinite for the tracer: +inf makes its rows NaN, as in a tensor.
@pytest.mark.parametrize(
    ("before", "bad"), [((), b) for b in [*BAD, torch.inf]] + [((1.0, 0.9), b) for b in BAD]
)
def test_a_bad_tau_shows_its_message_when_compiled(before, bad):
    def distribution(x, t):
        return RelaxedOneHotCategorical(t, logits=x).rsample()

    for draw, who in [(gumbel_softmax, "gumbel_softmax: tau"), (distribution, "temperature")]:
        run = compiled(lambda x, t, draw=draw: draw(x, t))
        for tau in before:
            run(zeros(), tau)
        with pytest.raises(Exception, match=rf"{who} must be > 0 and finite, got {bad}"):
            run(zeros(), bad)
    argmax = compiled(lambda x, t: gumbel_argmax(x, temperature=t))
    if bad == 0:  # greedy
        return
    with pytest.raises(Exception, match=r"gumbel_argmax: temperature must be >= 0 and finite, got"):
        argmax(zeros(), bad)


DRAWS = {"gumbel_softmax": gumbel_softmax, "gumbel_argmax": gumbel_argmax}


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_in_one_graph_is_refused_with_the_alternative(name):
    generator = torch.Generator()
    wanted = rf"{name}: torch.compile cannot trace generator=.*key=torch_gumbel.new_key\(generator"
    with pytest.raises(Exception, match=wanted):
        compiled(lambda x: DRAWS[name](x, generator=generator))(zeros())
    with pytest.raises(Exception, match=wanted):
        compiled(lambda x, g: DRAWS[name](x, generator=g))(zeros(), generator)


@pytest.mark.parametrize("name", DRAWS)
def test_a_generator_works_if_graphs_may_break(name):
    def draw(x, generator):
        return DRAWS[name](x * 2, generator=generator) + 1

    torch._dynamo.reset()
    run = torch.compile(draw, backend="aot_eager")
    ours, theirs = (torch.Generator().manual_seed(4) for _ in range(2))
    for _ in range(3):
        assert torch.equal(run(torch.ones(30, 40), ours), draw(torch.ones(30, 40), theirs))
