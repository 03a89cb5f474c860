# SPDX-License-Identifier: Apache-2.0
"""The fast path of eager calls has the key, temperature, and results of the dispatched ops."""

import threading

import pytest
import torch
from common import assert_same_bits, make_key, ops, tau_of
from torch.utils._python_dispatch import TorchDispatchMode

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(3)
LOGITS = torch.randn(4, 10, generator=torch.Generator().manual_seed(1))
WEIGHTS = torch.randn(4, 10, generator=torch.Generator().manual_seed(2))


def sample_of_tensor(tau, hard=False):
    return gumbel_softmax(LOGITS, tau_of(tau), hard, key=KEY)


def gradient(leaf, sample):
    (result,) = torch.autograd.grad((sample * WEIGHTS).sum(), leaf)
    return result


@pytest.mark.parametrize("hard", [False, True])
def test_temperatures_of_calls_in_turn_do_not_mix(hard):
    leaf = LOGITS.clone().requires_grad_()
    taus = [0.5, 2.0, 0.5, 0.5, 1.0, 3e-5]
    samples = [gumbel_softmax(leaf, tau, hard, key=KEY) for tau in taus]
    for tau, sample in zip(taus, samples, strict=True):
        assert_same_bits(sample, sample_of_tensor(tau, hard), f"tau {tau}")
        other = LOGITS.clone().requires_grad_()
        wanted = gradient(other, gumbel_softmax(other, tau_of(tau), hard, key=KEY))
        assert_same_bits(gradient(leaf, sample), wanted, f"tau {tau}")


def test_a_temperature_first_seen_in_inference_mode_serves_training():
    tau = 0.61803  # used by no other test
    with torch.inference_mode():
        gumbel_softmax(LOGITS, tau, key=KEY)
    leaf = LOGITS.clone().requires_grad_()
    gradient(leaf, gumbel_softmax(leaf, tau, key=KEY))
    gradient(leaf, gumbel_softmax(leaf, tau, hard=True))


def test_a_saved_tensor_hook_cannot_edit_a_shared_temperature():
    leaf = LOGITS.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.clone().mul_(2), lambda t: t):
        gumbel_softmax(leaf, 0.7, key=KEY)
    assert_same_bits(gumbel_softmax(LOGITS, 0.7, key=KEY), sample_of_tensor(0.7))


def test_threads_have_temperatures_of_their_own():
    wrong = []

    def calls(tau):
        for _ in range(300):
            got = gumbel_softmax(LOGITS, tau, key=KEY)
            if not torch.equal(got, wanted[tau]):
                wrong.append(tau)

    wanted = {tau: sample_of_tensor(tau) for tau in (0.3, 0.9)}
    threads = [threading.Thread(target=calls, args=(tau,)) for tau in wanted]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


class Recorded(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        self.seen.append(op)
        return op(*args, **(kwargs or {}))


@pytest.mark.parametrize("draw", [gumbel_softmax, gumbel_argmax])
def test_under_a_dispatch_mode_the_key_is_drawn_by_an_op_and_is_the_same(draw):
    torch.manual_seed(7)
    wanted, state = draw(LOGITS), torch.get_rng_state()
    torch.manual_seed(7)
    with Recorded() as mode:
        watched = draw(LOGITS)
    assert ops._new_key.default in mode.seen
    assert torch.equal(watched, wanted) and torch.equal(torch.get_rng_state(), state)
