# SPDX-License-Identifier: Apache-2.0
"""patch() of a third-party model: the pretraining of wav2vec 2.0 of Hugging Face.

Its quantiser calls F.gumbel_softmax(logits.float(), tau, hard=True); its code is unchanged.
"""

import collections
import contextlib
import dataclasses
import functools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from patching import ORIGINAL, every_test_leaves_the_original  # noqa: F401
from scipy import stats
from speech import CODES, CONFIG, GROUPS, training_inputs
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import Wav2Vec2ForPreTraining

from torch_gumbel import patch

STEPS = 40


@pytest.fixture(autouse=True)
def one_thread():
    """One thread: the tensors are too small for several. And PyTorch's own products: with oneDNN's
    of bfloat16 on a processor with AMX, the loss falls half as far in as many steps, whoever draws.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.backends.mkldnn.flags(enabled=False):
        yield
    torch.set_num_threads(before)


class Counter(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.calls = collections.Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls[str(func).removesuffix(".default")] += 1
        return func(*args, **(kwargs or {}))


@dataclasses.dataclass
class Run:
    losses: list
    perplexities: list
    forms: set  # shape and dtype of every output and gradient, over all steps
    finite: bool
    calls: collections.Counter


def described(named):
    return tuple((name, tuple(t.shape), t.dtype) for name, t in named.items())


@functools.cache
def train(patched, dtype):
    torch.manual_seed(0), np.random.seed(0)
    model = Wav2Vec2ForPreTraining(CONFIG).to(dtype).train()
    inputs = training_inputs(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    run = Run([], [], set(), True, None)
    with patch() if patched else contextlib.nullcontext(), Counter() as counter:
        for _ in range(STEPS):
            output = model(**inputs)
            optimizer.zero_grad()
            output.loss.backward()
            optimizer.step()
            named = dict(output.items())
            named |= {n: p.grad for n, p in model.named_parameters() if p.grad is not None}
            run.forms.add(described(named))
            run.finite &= all(bool(t.isfinite().all()) for t in named.values())
            run.losses.append(output.loss.item() / int(inputs["mask_time_indices"].sum()))
            run.perplexities.append(output.codevector_perplexity.item())
    run.calls = counter.calls
    return run


DTYPES = [torch.float32, torch.bfloat16]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_patched_model_runs_the_fused_op_once_a_step(dtype):
    ops = ["torch_gumbel._gumbel_softmax_hard_soft", "torch_gumbel._gumbel_softmax_backward"]
    ops.append("aten.exponential_")
    assert [train(True, dtype).calls[op] for op in ops] == [STEPS, STEPS, 0]
    assert [train(False, dtype).calls[op] for op in ops] == [0, 0, STEPS]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_outputs_and_gradients_have_the_same_shapes_and_dtypes(dtype):
    ours, theirs = train(True, dtype), train(False, dtype)
    assert ours.forms == theirs.forms and len(ours.forms) == 1
    (form,) = ours.forms
    names = {name for name, *_ in form}
    assert {"loss", "codevector_perplexity", "quantizer.weight_proj.weight"} <= names
    assert ours.finite and theirs.finite


@pytest.mark.parametrize("patched", [True, False])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_loss_falls(dtype, patched):
    losses = train(patched, dtype).losses
    first, last = np.mean(losses[:3]), np.mean(losses[-3:])
    assert losses[0] > math.log(CONFIG.num_negatives + 1)  # not better than chance
    assert last < first / 2


FALSE_ALARM = 1e-6
VOICES, FRAMES, TEMPERATURE = 200, 400, 2.0


def quantiser():
    """The quantizer of the model with unit codevectors: its output shows the drawn codes."""
    drawn = Wav2Vec2ForPreTraining(CONFIG).quantizer.train()
    drawn.codevectors.data = torch.eye(CODES).repeat(GROUPS, 1).unsqueeze(0)
    drawn.temperature = TEMPERATURE
    return drawn


def measure(model, voice, weights):
    """Perplexity of the codes drawn for one frame many times, and size of the gradient."""
    model.zero_grad()
    codes, _ = model(voice.expand(1, FRAMES, -1))
    (codes * weights).sum().backward()
    drawn = codes.detach().view(FRAMES, GROUPS, CODES)
    return model._compute_perplexity(drawn).item(), model.weight_proj.weight.grad.norm().item()


def p_values(sampler):
    """p-values of equality with PyTorch's sampler: perplexity and gradient, paired by signal."""
    torch.manual_seed(0)
    model, differences = quantiser(), []
    for _ in range(VOICES):
        voice, weights = 0.3 * torch.randn(1, 1, 32), torch.randn(CODES * GROUPS)
        theirs = measure(model, voice, weights)
        with sampler():
            ours = measure(model, voice, weights)
        differences.append(np.subtract(ours, theirs))
    return stats.ttest_1samp(differences, 0).pvalue


def rejected(sampler):
    """Two tests at half of the rate each (Bonferroni): together at most 1e-6.

    The mean of 200 paired differences is close to normal: |t| must exceed 5.2.
    """
    return bool(min(p_values(sampler)) < FALSE_ALARM / 2)


@contextlib.contextmanager
def replaced(sampler):
    F.gumbel_softmax = sampler
    try:
        yield
    finally:
        F.gumbel_softmax = ORIGINAL


def sharper_distribution(logits, tau, hard):
    return ORIGINAL(1.05 * logits, tau, hard)


def wrong_temperature(logits, tau, hard):
    return ORIGINAL(logits, 1.05 * tau, hard)


def dropped_class(logits, tau, hard):
    masked = torch.arange(logits.shape[-1]) == 7
    return ORIGINAL(logits.masked_fill(masked, -torch.inf), tau, hard)


def test_codes_and_gradients_have_the_distribution_of_pytorch():
    assert not rejected(patch)


@pytest.mark.parametrize("fault", [sharper_distribution, wrong_temperature, dropped_class])
def test_a_planted_fault_is_caught(fault):
    assert rejected(lambda: replaced(fault))
