# SPDX-License-Identifier: Apache-2.0
"""torch.func.vmap: its randomness rules, batched keys, per-sample gradients, and ensembles."""

import copy

import pytest
import torch
from common import DTYPES, assert_same_bits, make_key, ops
from operation import changed, tensors
from operations import PRIVATE
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.utils._pytree import tree_leaves

from torch_gumbel import fold_in, gumbel_argmax, gumbel_softmax, new_key, split

KEY = make_key(5)


def call(hard=False, **options):
    return lambda x: gumbel_softmax(x, 0.5, hard, **options)


@pytest.mark.parametrize("draw", [gumbel_softmax, gumbel_argmax])
def test_vmap_refuses_a_keyless_call_in_error_mode(draw):
    x, before = torch.randn(3, 4), torch.get_rng_state()
    with pytest.raises(RuntimeError, match=r"vmap: torch_gumbel was called without a key"):
        vmap(draw)(x)
    assert torch.equal(torch.get_rng_state(), before)


def test_vmap_same_gives_each_lane_one_noise():
    y = vmap(call(True), randomness="same")(torch.zeros(50, 8))
    assert (y == y[0]).all()


def test_vmap_different_gives_each_batch_element_its_own_noise():
    y = vmap(call(), randomness="different")(torch.zeros(50, 8))
    assert len({tuple(row) for row in y.tolist()}) == 50


def test_vmap_different_splits_one_key_of_the_generator():
    x = torch.randn(6, 3, 4)
    torch.manual_seed(1)
    y = vmap(call(), randomness="different")(x)
    torch.manual_seed(1)
    assert_same_bits(y, gumbel_softmax(x, 0.5, key=split(new_key(), 6)))


def test_vmap_same_draws_one_key_of_the_generator():
    x = torch.randn(6, 3, 4)
    torch.manual_seed(1)
    y = vmap(call(), randomness="same")(x)
    torch.manual_seed(1)
    key = new_key()
    assert_same_bits(y, torch.stack([gumbel_softmax(element, 0.5, key=key) for element in x]))


def test_nested_vmap_different_gives_every_batch_element_its_own_noise():
    y = vmap(vmap(call(), randomness="different"), randomness="different")(torch.zeros(5, 6, 8))
    assert len({tuple(row) for row in y.reshape(30, 8).tolist()}) == 30


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("in_dim", [0, 1, -1])
def test_vmap_over_logits_is_a_loop(in_dim, hard, dtype):
    x = torch.randn(5, 5, 5).to(dtype)
    got = vmap(call(hard, key=KEY), in_dims=in_dim)(x)
    wanted = [gumbel_softmax(element, 0.5, hard, key=KEY) for element in x.unbind(in_dim)]
    assert_same_bits(got, torch.stack(wanted))


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("batch", [(3,), (3, 4)])
def test_batched_keys_are_a_loop_over_slices(batch, hard):
    keys = torch.randint(0, 2**60, (*batch, 2))
    x = torch.randn(*batch, 2, 7)
    got = gumbel_softmax(x, 0.5, hard, key=keys)
    padded = gumbel_softmax(x, 0.5, hard, key=keys.view(*batch, 1, 1, 2))
    flat = zip(x.reshape(-1, 2, 7), keys.reshape(-1, 2), strict=True)
    wanted = torch.stack([gumbel_softmax(element, 0.5, hard, key=key) for element, key in flat])
    assert_same_bits(got, wanted.view(x.shape))
    assert_same_bits(padded, got)


def test_vmap_over_keys_is_the_batched_key():
    keys, x = torch.randint(0, 2**60, (3, 2)), torch.randn(3, 4, 7)
    got = vmap(lambda x, key: gumbel_softmax(x, 0.5, key=key))(x, keys)
    assert_same_bits(got, gumbel_softmax(x, 0.5, key=keys))
    index = vmap(lambda x, key: gumbel_argmax(x, key=key))(x, keys)
    assert torch.equal(index, gumbel_argmax(x, key=keys))


def test_vmap_over_only_the_key_repeats_the_logits():
    keys, x = torch.randint(0, 2**60, (9, 2)), torch.randn(4, 7)
    got = vmap(lambda key: gumbel_softmax(x, 0.5, True, key=key))(keys)
    assert_same_bits(got, gumbel_softmax(x.expand(9, 4, 7), 0.5, True, key=keys))


def test_nested_vmap_over_keys_and_logits_is_a_loop():
    keys, x = torch.randint(0, 2**60, (3, 2)), torch.randn(4, 7)
    got = vmap(lambda key: vmap(lambda row: gumbel_softmax(row, 0.5, key=key))(x))(keys)
    wanted = [[gumbel_softmax(row, 0.5, key=key) for row in x] for key in keys]
    assert_same_bits(got, torch.stack([torch.stack(rows) for rows in wanted]))


@pytest.mark.parametrize("element", [(), (1,), (4, 1)], ids=str)
@pytest.mark.parametrize("hard", [False, True])
def test_vmap_over_tau_is_a_loop(hard, element):
    x, taus = torch.randn(4, 7), torch.rand(3, *element) + 0.3

    def run(tau):
        return gumbel_softmax(x, tau, hard, key=KEY)

    assert_same_bits(vmap(run)(taus), torch.stack([run(tau) for tau in taus]))
    both = vmap(lambda x, tau: gumbel_softmax(x, tau, hard, key=KEY), in_dims=(None, 0))(x, taus)
    assert_same_bits(both, vmap(run)(taus))


def test_vmap_over_logits_and_tau_is_a_loop():
    x, taus = torch.randn(3, 2, 4, 7), torch.rand(3, 4, 1) + 0.3
    got = vmap(lambda x, tau: gumbel_softmax(x, tau, key=KEY))(x, taus)
    wanted = [gumbel_softmax(element, tau, key=KEY) for element, tau in zip(x, taus, strict=True)]
    assert_same_bits(got, torch.stack(wanted))


def test_vmap_over_scalars_gives_ones():
    for hard in (False, True):
        assert vmap(call(hard, key=KEY))(torch.randn(5)).tolist() == [1] * 5
    assert vmap(lambda x: gumbel_argmax(x, key=KEY))(torch.randn(5)).tolist() == [0] * 5


def test_vmap_reaches_every_private_op():
    x, keys, tau = torch.randn(3, 4, 7), torch.randint(0, 2**60, (3, 2)), torch.tensor(0.7)
    given = tensors(tau=tau)

    def function_of(name, dim, flag):
        def run(x, key):
            changes = {"x": x, "y": x.softmax(dim), "grad": x, "key": key, "dim": dim}
            arguments, options = PRIVATE[name](changed(given, **changes, flag=flag))
            return getattr(ops, name)(*arguments, **options)

        return run

    cases = [(name, *how) for name in PRIVATE for how in [(0, False), (1, True)]]
    functions = [function_of(*case) for case in cases]
    functions.append(lambda x, k: (split(k, 5), fold_in(k, 3)))
    for function in functions:
        got = tree_leaves(vmap(function)(x, keys))
        elements = [tree_leaves(function(*element)) for element in zip(x, keys, strict=True)]
        for value, parts in zip(got, zip(*elements, strict=True), strict=True):
            assert_same_bits(value, torch.stack(parts))


def test_vmap_over_the_data_of_fold_in_is_a_loop():
    data = torch.arange(4)
    got = vmap(lambda d: fold_in(KEY, d))(data)
    assert torch.equal(got, torch.stack([fold_in(KEY, int(d)) for d in data]))


def test_per_sample_gradients_are_a_loop():
    x, w, keys = torch.randn(5, 3, 4), torch.randn(3, 4), torch.randint(0, 2**60, (5, 2))

    def loss(x, key, tau):
        return (gumbel_softmax(x, tau, key=key) * w).sum()

    taus = torch.rand(5) + 0.5
    got = vmap(grad(loss, argnums=(0, 2)))(x, keys, taus)
    elements = [grad(loss, argnums=(0, 2))(*element) for element in zip(x, keys, taus, strict=True)]
    assert_same_bits(got[0], torch.stack([a for a, _ in elements]))
    assert torch.allclose(got[1], torch.stack([b for _, b in elements]), rtol=1e-5)


def test_vmap_in_chunks_with_a_key_equals_one_chunk():
    x, keys = torch.randn(7, 4), torch.randint(0, 2**60, (7, 2))
    run = vmap(lambda x, key: gumbel_softmax(x, key=key), chunk_size=2)
    assert_same_bits(run(x, keys), gumbel_softmax(x, key=keys))


@pytest.mark.parametrize("mode", ["same", "different"])
def test_per_sample_gradients_without_a_key_follow_the_randomness(mode):
    x, weights = torch.zeros(20, 6), torch.randn(6)

    def loss(row):
        return (gumbel_softmax(row, 0.5) * weights).sum()

    gradients = vmap(grad(loss), randomness=mode)(x)
    assert len({tuple(row) for row in gradients.tolist()}) == (1 if mode == "same" else 20)


class Head(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(6, 5)

    def forward(self, x, key=None):
        return gumbel_softmax(self.linear(x), 0.5, key=key)


def ensemble(count):
    """Models, their stacked parameters, and one model's call with given parameters."""
    models = [Head() for _ in range(count)]
    base = copy.deepcopy(models[0]).to("meta")
    state = stack_module_state(models)

    def run(parameters, buffers, *args):
        return functional_call(base, (parameters, buffers), args)

    return models, state, run


def test_an_ensemble_of_models_is_a_loop():
    models, state, run = ensemble(4)
    x, keys = torch.randn(3, 6), torch.randint(0, 2**60, (4, 2))
    got = vmap(run, in_dims=(0, 0, None, 0))(*state, x, keys)
    wanted = [model(x, key) for model, key in zip(models, keys, strict=True)]
    torch.testing.assert_close(got, torch.stack(wanted))


@pytest.mark.parametrize("mode", ["same", "different"])
def test_an_ensemble_without_keys_follows_the_randomness(mode):
    _, state, run = ensemble(4)
    parameters = {name: torch.zeros_like(value) for name, value in state[0].items()}
    y = vmap(run, in_dims=(0, 0, None), randomness=mode)(parameters, state[1], torch.randn(3, 6))
    assert len({str(model.tolist()) for model in y}) == (1 if mode == "same" else 4)


def test_gradients_of_an_ensemble_are_a_loop():
    models, state, run = ensemble(4)
    x, keys, weights = torch.randn(3, 6), torch.randint(0, 2**60, (4, 2)), torch.randn(3, 5)

    def loss(parameters, buffers, key):
        return (run(parameters, buffers, x, key) * weights).sum()

    gradients = vmap(grad(loss))(*state, keys)
    for i, (model, key) in enumerate(zip(models, keys, strict=True)):
        (model(x, key) * weights).sum().backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad)
