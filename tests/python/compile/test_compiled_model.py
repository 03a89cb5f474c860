# SPDX-License-Identifier: Apache-2.0
"""A model with samples in the middle, trained by inductor: one graph, equal to eager."""

import copy

import pytest
import torch
import torch.nn.functional as F
from common import make_key
from compiling import compiled, counted

from torch_gumbel import fold_in, gumbel_softmax

KEY = make_key(5)
VARIABLES, CLASSES = 6, 5


class CategoricalVae(torch.nn.Module):
    """12 pixels through 6 categorical variables of 5 classes."""

    def __init__(self):
        super().__init__()
        self.encode = torch.nn.Linear(12, VARIABLES * CLASSES)
        self.decode = torch.nn.Linear(VARIABLES * CLASSES, 12)
        self.log_tau = torch.nn.Parameter(torch.zeros(VARIABLES, 1))

    def forward(self, x, tau, hard, key=None):
        logits = self.encode(x).view(-1, VARIABLES, CLASSES)
        per_variable = tau * self.log_tau.exp()
        z = gumbel_softmax(logits, per_variable, hard, key=key)
        log_q = logits.log_softmax(-1)
        divergence = (log_q.exp() * log_q).sum()
        return F.mse_loss(self.decode(z.flatten(1)), x) + 1e-3 * divergence


def batches(sizes):
    generator = torch.Generator().manual_seed(8)
    return [torch.randn(n, 12, generator=generator) for n in sizes]


def train(model, run, sizes, hard, keyed):
    """Losses of one step per batch, with an annealed tau; the model is trained."""
    optimizer, losses = torch.optim.Adam(model.parameters(), lr=0.05), []
    torch.manual_seed(3)
    for step, x in enumerate(batches(sizes)):
        key = fold_in(KEY, step) if keyed else None
        loss = run(x, 1 / (1 + step / 3), hard, key)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# With sizes dynamic from the start, or from the first batch of another size.
@pytest.mark.parametrize(("hard", "keyed", "dynamic"), [(False, False, True), (True, True, None)])
def test_training_by_inductor_is_that_of_eager(hard, keyed, dynamic):
    """With a seed, or one key per step; tau is annealed, and the last batches are smaller."""
    eager = CategoricalVae()
    model = copy.deepcopy(eager)
    run, counter = counted(model, "inductor", dynamic=dynamic)
    sizes = [16, 16, 16, 9, 5, 16]
    wanted = train(eager, eager, sizes, hard, keyed)
    assert train(model, run, sizes, hard, keyed) == pytest.approx(wanted, rel=1e-4)
    for got, value in zip(model.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(got, value, rtol=1e-3, atol=1e-4)
    assert counter.frame_count <= (1 if dynamic else 3)  # the first, another tau, another size


def test_another_noise_would_train_another_model():
    """The comparison above can fail."""
    first, second = CategoricalVae(), None
    second = copy.deepcopy(first)
    train(first, first, [16] * 6, True, True)
    train(second, second, [16] * 6, True, False)
    assert (first.decode.weight - second.decode.weight).abs().max() > 1e-2


def test_the_model_is_one_graph():
    x = torch.randn(4, 12)
    torch._dynamo.reset()
    explained = torch._dynamo.explain(CategoricalVae())(x, 0.5, True)
    assert (explained.graph_count, explained.graph_break_count) == (1, 0)


def test_evaluation_draws_new_samples_without_a_gradient():
    model, x = CategoricalVae().eval(), torch.randn(4, 12)
    run = compiled(model, "inductor", mode="reduce-overhead")
    with torch.no_grad():
        losses = [run(x, 0.5, True) for _ in range(4)]
    assert len({loss.item() for loss in losses}) > 1
    assert not any(loss.requires_grad for loss in losses)
