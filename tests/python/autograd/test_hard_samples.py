# SPDX-License-Identifier: Apache-2.0
"""A hard sample saves the soft one for its backward, so that logits may be modified in between, as
in programs for F.gumbel_softmax; with recompute=True it saves logits and key instead."""

import pytest
import torch
import torch.nn.functional as F
from common import DTYPES, FORMS, assert_same_bits, make_key, ops
from compiling import recorded, targets
from torch.fx.experimental.proxy_tensor import make_fx

from torch_gumbel import gumbel_argmax, gumbel_softmax, patch
from torch_gumbel.distributions import OneHotCategoricalStraightThrough
from torch_gumbel.nn import GumbelSoftmax

KEY = make_key(5)


def patched(h, tau, **options):
    with patch():
        return F.gumbel_softmax(h, tau, **options)


DRAWS = {
    "ours": gumbel_softmax,
    "patched": patched,
    "a layer": lambda h, tau, hard: GumbelSoftmax(tau=tau, hard=hard)(h),
    "a distribution": lambda h, tau, hard: OneHotCategoricalStraightThrough(
        logits=h, temperature=tau, estimator="gumbel"
    ).rsample(),
    "the op": lambda h, tau, hard: ops.gumbel_softmax(h, tau, hard),
}


def draw_without_replacement(h, y):
    h -= y.detach() * 1e10


def mask_the_drawn(h, y):
    h[y > 0] = -1e9


EDITS = {
    "h -= y.detach() * 1e10": draw_without_replacement,
    "relu": lambda h, y: F.relu(h, inplace=True),
    "h[y > 0] = -1e9": mask_the_drawn,
    "h.zero_()": lambda h, y: h.zero_(),
}


def step(leaf, y):
    leaf.grad = torch.ones_like(leaf)
    torch.optim.SGD([leaf], lr=0.5).step()
    leaf.grad = None


@torch.no_grad()
def average(leaf, y):
    leaf.mul_(0.9).add_(torch.ones_like(leaf), alpha=0.1)


LEAF_EDITS = {
    "an optimizer's step": step,
    "a moving average": average,
    "alpha.data.add_": lambda leaf, y: leaf.data.add_(torch.arange(9.0)),
}


def gradient(draw, edit=None, on_leaf=False):
    """The gradient of a leaf whose logits are modified before the backward, with a seed."""
    generator = torch.Generator().manual_seed(1)
    leaf = torch.randn(4, 9, generator=generator).requires_grad_()
    weights = torch.randn(4, 9, generator=generator)
    h = leaf if on_leaf else leaf * 1
    torch.manual_seed(2)
    y = draw(h)
    if edit is not None:
        edit(h, y)
    (y * weights).sum().backward()
    return leaf.grad


@pytest.mark.parametrize("edit", EDITS | LEAF_EDITS)
@pytest.mark.parametrize("name", DRAWS)
def test_logits_may_be_edited_before_the_backward(name, edit):
    def draw(h):
        return DRAWS[name](h, 0.5, hard=True)

    wanted = gradient(draw, on_leaf=edit in LEAF_EDITS)
    got = gradient(draw, (EDITS | LEAF_EDITS)[edit], on_leaf=edit in LEAF_EDITS)
    assert wanted.abs().sum() > 0
    assert_same_bits(got, wanted)


@pytest.mark.parametrize("edit", EDITS | LEAF_EDITS)
def test_with_recompute_an_edit_in_place_raises_and_one_through_data_changes_the_gradient(edit):
    def draw(h):
        return gumbel_softmax(h, 0.5, hard=True, recompute=True)

    change = (EDITS | LEAF_EDITS)[edit]
    if edit == "alpha.data.add_":  # undetectable, as documented
        assert not torch.equal(gradient(draw, change, True), gradient(draw, on_leaf=True))
        return
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradient(draw, change, on_leaf=edit in LEAF_EDITS)


@pytest.mark.parametrize("name", DRAWS)
def test_a_program_draws_several_classes_without_replacement_and_trains(name):
    leaf = torch.randn(6, 9, requires_grad=True)
    h, several = leaf * 1, 0
    for _ in range(3):
        y = DRAWS[name](h, 0.5, hard=True)
        several = several + y
        h -= y.detach() * 1e10
    assert torch.equal(several.detach().sort(-1).values.sum(0), torch.tensor([0.0] * 6 + [6.0] * 3))
    (several * torch.arange(9.0)).sum().backward()
    assert leaf.grad.isfinite().all() and (leaf.grad != 0).any(-1).all()


@pytest.mark.parametrize("k", [2, 10, 33, 1000, 9000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_one_hot_is_that_of_the_index_with_and_without_a_gradient(dtype, k):
    x = (2 * torch.randn(20, k)).to(dtype)
    wanted = F.one_hot(gumbel_argmax(x, key=KEY), k).to(dtype)
    for tau in (0.5, torch.rand(20, 1) + 0.5):
        for form in ("hard", "hard again"):
            leaf = x.clone().requires_grad_()
            for logits in (x, leaf):
                assert torch.equal(gumbel_softmax(logits, tau, **FORMS[form], key=KEY), wanted)
    one_hot, soft = ops._gumbel_softmax_hard_soft(x, torch.tensor(0.5), KEY, 1)
    assert torch.equal(one_hot, wanted)
    assert_same_bits(soft, gumbel_softmax(x, 0.5, key=KEY))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), [((20, 33), 1), ((3, 20, 8), 1), ((2, 20_000), -1)])
def test_the_gradient_is_that_of_the_soft_sample_in_bits(shape, dim, dtype):
    """Rows of any length: both are the backward from the same values of y."""
    x, grad = torch.randn(shape).to(dtype), torch.randn(shape).to(dtype)
    for tau in (torch.tensor(0.7), torch.rand(x.select(dim, 0).shape).unsqueeze(dim) + 0.5):
        found = []
        for form in ("soft", "hard"):
            leaves = x.clone().requires_grad_(), tau.clone().requires_grad_()
            y = gumbel_softmax(*leaves, **FORMS[form], dim=dim, key=KEY)
            found.append(torch.autograd.grad(y, leaves, grad))
        for got, wanted in zip(*found, strict=True):
            assert_same_bits(got, wanted)


@pytest.mark.parametrize("k", [8, 33, 3000])
def test_at_temperature_1_the_kept_sample_is_that_of_the_rounded_scores(k):
    """A soft sample without a hard one does not round logits + noise at temperature 1."""
    x = torch.randn(20, k)
    one_hot, kept = ops._gumbel_softmax_hard_soft(x, torch.tensor(1.0), KEY, 1)
    assert torch.allclose(kept, gumbel_softmax(x, key=KEY), rtol=2e-5, atol=0)
    far = x + 1e5
    one_hot, kept = ops._gumbel_softmax_hard_soft(far, torch.tensor(1.0), KEY, 1)
    chosen = kept.gather(1, one_hot.argmax(1, keepdim=True))
    assert torch.equal(chosen, kept.amax(1, keepdim=True))


def test_a_gradient_of_the_kept_sample_adds_to_that_of_the_one_hot():
    """Both outputs of the pair are differentiable, which second derivatives need."""
    x = torch.randn(4, 5, dtype=torch.float64, requires_grad=True)
    a, b = torch.randn(2, 4, 5, dtype=torch.float64)
    tau = torch.tensor(0.7, dtype=torch.float64, requires_grad=True)
    pair = ops._gumbel_softmax_hard_soft(x, tau, KEY, 1)
    got = torch.autograd.grad(pair, (x, tau), (a, b))
    soft = gumbel_softmax(x, tau, key=KEY)
    for one, other in zip(got, torch.autograd.grad(soft, (x, tau), a + b), strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-14)


def test_hand_written_estimators_are_exact_only_with_parentheses():
    x = torch.randn(100_000, 8)
    value, probs = gumbel_softmax(x, hard=True, key=KEY), x.softmax(-1)
    assert_same_bits(value + (probs - probs.detach()), value)
    assert 0.17 < ((value + probs - probs.detach()) != value).any(-1).float().mean() < 0.20
    x = x[:, :5]
    index, y = gumbel_argmax(x, key=KEY), gumbel_softmax(x, key=KEY)[:, 0]
    assert torch.equal((index + (y - y.detach())).long(), index)
    assert 0.13 < ((index + y - y.detach()).long() != index).float().mean() < 0.15


def fused(graph):
    return [name for name in targets(graph) if "_gumbel_softmax" in name]


ONE_HOT_ALONE = ["torch_gumbel._gumbel_softmax_hard.default"]


class Layer(torch.nn.Module):
    """A model whose weights require a gradient: inference graphs must be traced under no_grad."""

    def __init__(self):
        super().__init__()
        self.encode = torch.nn.Linear(6, 12)

    def forward(self, x):
        return gumbel_softmax(self.encode(x), 0.5, hard=True)


def test_inference_graphs_contain_only_the_one_hot():
    layer, x = Layer(), torch.randn(3, 6)
    with torch.no_grad():
        assert fused(make_fx(layer)(x)) == ONE_HOT_ALONE
        run, graphs = recorded(layer)
        run(x)
        assert fused(graphs.forwards[0]) == ONE_HOT_ALONE
        program = torch.export.export(layer, (x,))
    assert fused(program.run_decompositions()) == ONE_HOT_ALONE
    trained = torch.export.export(
        layer, (x,)
    )  # with gradients enabled, but without inputs that require one
    assert fused(trained.run_decompositions()) == ONE_HOT_ALONE
