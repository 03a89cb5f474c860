# SPDX-License-Identifier: Apache-2.0
"""The autograd graph of a sample: hooks, saved tensors, anomaly mode, duals, retained graphs."""

import pytest
import torch
from common import FORMS, assert_same_bits, make_key
from torch.autograd import forward_ad
from torch.autograd.graph import (
    allow_mutation_on_saved_tensors,
    disable_saved_tensors_hooks,
    save_on_cpu,
    saved_tensors_hooks,
)

from torch_gumbel import gumbel_softmax

KEY = make_key(5)
NODES = {name: "GumbelSoftmaxBackward" for name in FORMS} | {"hard": "GumbelSoftmaxHardBackward"}
forms = pytest.mark.parametrize("form", FORMS)


def leaf(*shape):
    return torch.randn(*shape or (4, 9), requires_grad=True)


def draw(x, form, tau=0.5):
    return gumbel_softmax(x, tau, **FORMS[form], key=KEY)


def gradient(x, form, weights):
    return torch.autograd.grad(draw(x, form), x, weights)[0]


@forms
def test_a_hook_of_the_sample_changes_the_gradient(form):
    x, weights, seen = leaf(), torch.randn(4, 9), []
    wanted = gradient(x, form, 3 * weights)
    y = draw(x, form)
    y.register_hook(lambda g: (seen.append(g), 3 * g)[1])
    y.retain_grad()
    y.backward(weights)
    assert_same_bits(seen[0], weights)
    assert_same_bits(y.grad, 3 * weights)
    assert_same_bits(x.grad, wanted)


@forms
def test_hooks_of_the_node_see_and_change_its_gradients(form):
    x, weights, seen = leaf(), torch.randn(4, 9), []
    wanted = gradient(x, form, 2 * weights)
    node = draw(x, form).grad_fn
    assert node.name() == NODES[form]
    node.register_prehook(lambda grads: (2 * grads[0], *grads[1:]))
    node.register_hook(lambda inputs, outputs: seen.append((inputs, outputs)))
    torch.autograd.backward(torch.autograd.graph.GradientEdge(node, 0), weights)
    ((inputs, outputs),) = seen
    assert_same_bits(outputs[0], 2 * weights)
    assert_same_bits(inputs[0], wanted)
    assert inputs[1] is None  # a number has no gradient
    assert_same_bits(x.grad, wanted)


@forms
def test_an_accumulation_hook_sees_the_gradient(form):
    x, weights, seen = leaf(), torch.randn(4, 9), []
    wanted = gradient(x, form, weights)
    x.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad))
    draw(x, form).backward(weights)
    assert_same_bits(seen[0], wanted)


class Sampler(torch.nn.Module):
    def __init__(self, form):
        super().__init__()
        self.form = form

    def forward(self, x):
        return draw(x, self.form)


@forms
def test_hooks_of_a_module_see_and_change_its_gradients(form):
    sampler, x, weights, seen = Sampler(form), leaf(), torch.randn(4, 9), []
    wanted = gradient(x, form, 2 * weights)
    sampler.register_full_backward_pre_hook(lambda _, outputs: (2 * outputs[0],))
    sampler.register_full_backward_hook(lambda _, inputs, outputs: seen.append((inputs, outputs)))
    sampler(x).backward(weights)
    (((got,), (incoming,)),) = seen
    assert_same_bits(incoming, 2 * weights)
    assert_same_bits(got, wanted)
    assert_same_bits(x.grad, wanted)


def saved_by(x, tau, form):
    """The tensors that a call saves for its backward, and its sample."""
    saved = []
    with saved_tensors_hooks(lambda t: (saved.append(t), t)[1], lambda t: t):
        y = draw(x, form, tau)
    return saved, y


@pytest.mark.parametrize(
    "tau", [0.5, torch.linspace(0.5, 1.5, 4)[:, None]], ids=["number", "per row"]
)
def test_a_call_saves_its_soft_sample_or_on_request_logits_and_key(tau):
    x, temperature = leaf(), tau.shape if isinstance(tau, torch.Tensor) else ()
    saved, y = saved_by(x, tau, "soft")
    assert [t.shape for t in saved] == [temperature, (4, 9)]
    assert saved[1].data_ptr() == y.data_ptr()
    saved, one_hot = saved_by(x, tau, "hard")
    assert sorted(t.shape for t in saved) == sorted([temperature, (4, 9)])
    (kept,) = [t for t in saved if t.shape == (4, 9)]
    assert_same_bits(kept, y)
    assert kept.data_ptr() not in (x.data_ptr(), one_hot.data_ptr())
    saved, _ = saved_by(x, tau, "hard again")
    assert [t.shape for t in saved] == [temperature, (4, 9), (2,)]
    assert saved[1].data_ptr() == x.data_ptr()
    assert torch.equal(saved[2], KEY)


@forms
def test_nothing_is_saved_without_a_gradient(form):
    with torch.no_grad():
        assert saved_by(leaf(), 0.5, form)[0] == []
    assert saved_by(torch.randn(4, 9), 0.5, form)[0] == []


@forms
def test_saved_tensors_may_be_offloaded(form):
    x, weights = leaf(), torch.randn(4, 9)
    wanted = gradient(x, form, weights)
    with save_on_cpu():
        y = draw(x, form)
    assert_same_bits(torch.autograd.grad(y, x, weights)[0], wanted)
    packed = []
    with saved_tensors_hooks(
        lambda t: (packed.append(t.clone()), len(packed) - 1)[1], packed.__getitem__
    ):
        y = draw(x, form)
    assert_same_bits(torch.autograd.grad(y, x, weights)[0], wanted)


def test_disabled_hooks_of_saved_tensors_are_reported():
    with (
        disable_saved_tensors_hooks("none here"),
        pytest.raises(RuntimeError, match="none here"),
        saved_tensors_hooks(lambda t: t, lambda t: t),
    ):
        draw(leaf(), "hard")


@forms
def test_tensors_may_be_edited_if_pytorch_saves_a_copy(form):
    x, weights = leaf(), torch.randn(4, 9)
    wanted = gradient(x, form, weights)
    with allow_mutation_on_saved_tensors():
        logits = x * 1
        y = draw(logits, form)
        loss = (y * weights).sum()
        with torch.no_grad():
            logits.zero_()
            y.zero_()
        assert_same_bits(torch.autograd.grad(loss, x)[0], wanted)


@pytest.mark.filterwarnings("ignore:Anomaly Detection", "ignore:Error detected in")
@forms
def test_anomaly_mode_names_the_node_whose_gradient_is_nan(form):
    x, bad = leaf(), torch.full((4, 9), torch.nan)
    with (
        torch.autograd.detect_anomaly(),
        pytest.raises(RuntimeError, match=f"Function '{NODES[form]}' returned nan values"),
    ):
        draw(x, form).backward(bad)
    with torch.autograd.detect_anomaly():
        draw(x, form).backward(torch.randn(4, 9))
    assert torch.isfinite(x.grad).all()


@forms
def test_a_graph_is_kept_for_derivatives_of_derivatives(form):
    x = torch.randn(4, 9, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(4, 9, dtype=torch.float64)
    y = draw(x, form)
    (first,) = torch.autograd.grad(y, x, weights, create_graph=True)
    (second,) = torch.autograd.grad((first**2).sum(), x, retain_graph=True)
    (again,) = torch.autograd.grad((first**2).sum(), x)
    assert_same_bits(again, second)

    def squared(point):
        return (gradient(point, form, weights) ** 2).sum()

    direction, h = torch.randn(4, 9, dtype=torch.float64), 1e-6
    with torch.enable_grad():
        ahead, behind = (
            squared((x + s * h * direction).detach().requires_grad_()) for s in (1, -1)
        )
    assert torch.allclose((second * direction).sum(), (ahead - behind) / (2 * h), rtol=1e-6)


@pytest.mark.parametrize("with_tau", [False, True])
@forms
def test_a_dual_carries_the_tangent_of_the_soft_sample(form, with_tau):
    x, dx = torch.randn(4, 9, dtype=torch.float64), torch.randn(4, 9, dtype=torch.float64)
    tau, dtau = torch.rand(4, 1, dtype=torch.float64) + 0.5, torch.randn(4, 1, dtype=torch.float64)
    with forward_ad.dual_level():
        temperature = forward_ad.make_dual(tau, dtau) if with_tau else tau
        y, tangent = forward_ad.unpack_dual(draw(forward_ad.make_dual(x, dx), form, temperature))
    assert_same_bits(y, draw(x, form, tau))
    h, step = 1e-6, dtau if with_tau else torch.zeros_like(dtau)
    ahead, behind = (draw(x + s * h * dx, "soft", tau + s * h * step) for s in (1, -1))
    assert torch.allclose(tangent, (ahead - behind) / (2 * h), rtol=1e-6, atol=1e-8)


@forms
def test_a_tangent_has_a_gradient(form):
    """Forward over reverse: a dual whose primal requires a gradient."""
    x = torch.randn(9, dtype=torch.float64, requires_grad=True)
    dx, weights = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    with forward_ad.dual_level():
        dual = forward_ad.make_dual(x, dx)
        tangent = forward_ad.unpack_dual(draw(dual, form)).tangent
        (got,) = torch.autograd.grad((tangent * weights).sum(), x)

    def loss(x):
        return (draw(x, form) * weights).sum()

    assert torch.allclose(got, torch.func.hessian(loss)(x.detach()) @ dx, rtol=1e-9, atol=1e-12)
