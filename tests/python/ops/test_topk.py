# SPDX-License-Identifier: Apache-2.0
"""gumbel_topk: k distinct classes, with the order and distribution of draws without replacement."""

import itertools

import numpy as np
import pytest
import torch
from common import DTYPES, compute_type, layouts, make_key, noise
from compiling import compiled
from test_statistics import one_percent_wrong, rejected

from torch_gumbel import fold_in, gumbel_argmax, gumbel_topk, split

KEY = make_key(5)
NAN, INF = torch.nan, torch.inf
SHAPES = [((7,), 0), ((5, 7), 1), ((5, 7), 0), ((3, 40, 33), 1), ((2, 9000), -1)]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
def test_it_is_the_largest_perturbed_logits_in_falling_order(shape, dim, dtype):
    x = torch.randn(shape).to(dtype)
    scores = x.to(compute_type(dtype)) + noise(x, KEY)
    wanted = scores.sort(dim=dim, descending=True, stable=True)
    for view in layouts(x).values():
        values, indices = gumbel_topk(view, 5, dim, key=KEY)
        assert values.dtype == scores.dtype and indices.dtype == torch.int64
        assert torch.equal(values, wanted.values.narrow(dim, 0, 5))
        assert torch.equal(indices, wanted.indices.narrow(dim, 0, 5))


PER_ROW = torch.linspace(0.01, 1, 24).view(4, 1, 6)


@pytest.mark.parametrize(
    "temperature", [1.0, 0.3, 0, PER_ROW, 1e-40], ids=lambda t: "rows" if t is PER_ROW else str(t)
)
def test_the_first_is_the_argmax_of_the_same_key(temperature):
    x = torch.randn(4, 300, 6)
    values, indices = gumbel_topk(x, 3, 1, temperature=temperature, key=KEY)
    assert torch.equal(indices[:, 0], gumbel_argmax(x, 1, temperature=temperature, key=KEY))
    assert (values.diff(dim=1) <= 0).all()
    assert (indices.sort(1).values.diff(dim=1) > 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_equal_values_come_in_the_order_of_classes(dtype):
    x = torch.tensor([0, 2, -1, 2, 0, -1, 2, 0]).to(dtype)
    for sign in (1, -1):
        wanted = (sign * x).sort(descending=True, stable=True)
        values, indices = gumbel_topk(sign * x, 8, temperature=0)
        assert torch.equal(indices, wanted.indices)
        assert torch.equal(values, wanted.values.to(values.dtype))
    tiny = torch.tensor([1e-45, 0.0, -1e-45, 1e-45, 0.0])
    assert gumbel_topk(tiny, 5, temperature=0)[1].tolist() == [0, 3, 1, 4, 2]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_masked_classes_come_last_in_their_order(dtype):
    x = torch.tensor([-INF, 1.0, -INF, 0.0, -1e4, -INF]).to(dtype)
    values, indices = gumbel_topk(x, 6, key=KEY)
    assert sorted(indices[:2].tolist()) == [1, 3] and indices[2:].tolist() == [4, 0, 2, 5]
    assert values[3:].tolist() == [-INF] * 3 and values[:3].isfinite().all()


def test_rows_without_a_distribution_give_nan_and_the_first_classes():
    x = torch.randn(5, 8)
    x[0, 7], x[1, 7], x[2] = NAN, INF, -INF
    values, indices = gumbel_topk(x, 3, key=KEY)
    assert values[:3].isnan().all() and values[3:].isfinite().all()
    assert indices[:3].tolist() == [[0, 1, 2]] * 3
    one, its = gumbel_topk(x[3:].clone(), 3, key=KEY)
    assert one.isfinite().all() and its.shape == (2, 3)
    temperature = torch.ones(5, 1)
    temperature[4] = -1
    assert gumbel_topk(x, 3, temperature=temperature)[0][4].isnan().all()


def test_a_scalar_has_one_class():
    value, index = gumbel_topk(torch.tensor(0.5), 1, key=KEY)
    assert value.shape == index.shape == () and index == 0
    assert value == 0.5 + noise(torch.tensor(0.5), KEY)


@pytest.mark.parametrize("k", [0, -1, 5, 2**40])
def test_k_must_be_in_range(k):
    before = torch.get_rng_state()
    with pytest.raises(ValueError, match=rf"^gumbel_topk: k must be in \[1, 4\], got {k}$"):
        gumbel_topk(torch.zeros(3, 4), k)
    assert torch.equal(torch.get_rng_state(), before)


def test_values_have_the_gradient_of_the_perturbed_logits():
    x = torch.randn(3, 6, dtype=torch.float64, requires_grad=True)
    tau = torch.tensor([[0.5], [1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    torch.autograd.gradcheck(
        lambda x, tau: gumbel_topk(x, 4, temperature=tau, key=KEY)[0], (x, tau)
    )
    values, indices = gumbel_topk(x, 2, key=KEY)
    values.sum().backward()
    assert torch.equal(x.grad, torch.zeros_like(x).scatter(1, indices, 1.0))


def test_it_is_an_op_that_vmaps_and_compiles():
    x, keys = torch.randn(4, 5, 6), split(KEY, 4)
    got = torch.func.vmap(lambda x, key: gumbel_topk(x, 3, key=key))(x, keys)
    for ours, theirs in zip(got, gumbel_topk(x, 3, key=keys), strict=True):
        assert torch.equal(ours, theirs)
    run = compiled(lambda x, t: gumbel_topk(x, 3, temperature=t, key=KEY))
    for temperature in (1.0, 0.5):
        wanted = gumbel_topk(x, 3, temperature=temperature, key=KEY)
        assert all(map(torch.equal, run(x, temperature), wanted))


PROBS = np.array([0.35, 0.25, 0.18, 0.12, 0.07, 0.03])


def pair_probs(p):
    """P(i, then j) = p_i p_j / (1 - p_i), over all ordered pairs."""
    pairs = list(itertools.permutations(range(len(p)), 2))
    return np.array([p[i] * p[j] / (1 - p[i]) for i, j in pairs])


def pair_counts(draws, temperature=1.0):
    x, counts = torch.from_numpy(np.log(PROBS)).float(), np.zeros(36)
    rows = 500_000
    for i in range(draws // rows):
        _, indices = gumbel_topk(x.expand(rows, 6), 2, temperature=temperature, key=fold_in(KEY, i))
        counts += torch.bincount(6 * indices[:, 0] + indices[:, 1], minlength=36).numpy()
    table = counts.reshape(6, 6)
    assert np.trace(table) == 0
    return table[~np.eye(6, dtype=bool)]


@pytest.mark.parametrize(
    "draws", [2_000_000, pytest.param(10_000_000, marks=pytest.mark.statistics)]
)
def test_all_ordered_pairs_have_their_distribution(draws):
    """False alarm 1e-6; at 1e7 draws a top pair 1 % off is caught."""
    counts, probs = pair_counts(draws), pair_probs(PROBS)
    assert not rejected(counts, probs)
    if draws == 10_000_000:
        assert rejected(counts, one_percent_wrong(probs))


def test_pairs_at_another_temperature_have_its_distribution():
    sharp = PROBS ** (1 / 0.5)
    assert not rejected(pair_counts(2_000_000, 0.5), pair_probs(sharp / sharp.sum()))


@pytest.mark.parametrize("as_rows", [False, True])
def test_a_mask_has_no_part_in_the_gradients_of_a_temperature(as_rows):
    x = torch.tensor([[0.0, 1.0, -INF], [-INF, 2.0, -1.0]], dtype=torch.float64)
    tau = torch.full((2, 1) if as_rows else (), 0.7, dtype=torch.float64).requires_grad_()
    for k in (2, 3):
        values, indices = gumbel_topk(x, k, temperature=tau, key=KEY)
        kept = x.gather(1, indices)
        drawn = kept.masked_fill(kept == -INF, 0)
        loss = values.masked_fill(kept == -INF, 0).square().sum() + values[:, 0].sum()
        (first,) = torch.autograd.grad(loss, tau, create_graph=True)
        (second,) = torch.autograd.grad(first.sum(), tau)
        assert first.isfinite().all() and second.isfinite().all()
        (slope,) = torch.autograd.grad(gumbel_topk(x, k, temperature=tau, key=KEY)[0].sum(), tau)
        assert torch.allclose(slope, -(drawn / 0.7**2).sum_to_size(tau.shape))
    torch.autograd.gradgradcheck(
        lambda t: gumbel_topk(x, 2, temperature=t, key=KEY)[0].square(), (tau,)
    )


@pytest.mark.parametrize("temperature", [1e-46, 1e-30, 1e39, 1e300])
def test_a_temperature_whose_inverse_is_bounded_has_a_finite_gradient(temperature):
    tau = torch.tensor(temperature, dtype=torch.float64, requires_grad=True)
    x = torch.tensor([0.0, 1.0, -INF], requires_grad=True)
    values, _ = gumbel_topk(x, 2, temperature=tau, key=KEY)
    at_x, at_tau = torch.autograd.grad(values.sum(), (x, tau))
    assert values.isfinite().all() and at_x.isfinite().all() and at_tau == 0


def test_an_eager_call_and_a_traced_one_are_bitwise_equal():
    """One keeps the k largest in a heap, the other sorts all."""
    x = torch.randn(6, 5000).round(decimals=1)  # with ties
    x[1, ::3] = -INF
    x[2, 7], x[3, 8], x[4] = NAN, INF, -INF
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        for temperature in (0, 1.0, 0.3):
            for view, dim in ((x.to(dtype), 1), (x.to(dtype).t().contiguous(), 0)):
                for k in (1, 9, 5000):
                    call = {"temperature": temperature, "key": KEY}
                    plain = gumbel_topk(view, k, dim, **call)
                    traced = torch.func.vmap(
                        lambda x, k=k, d=dim, c=call: gumbel_topk(x, k, d, **c)
                    )
                    for a, b in zip(plain, traced(view[None]), strict=True):
                        assert torch.equal(a.nan_to_num(), b[0].nan_to_num())
                        assert torch.equal(a.isnan(), b[0].isnan())


def test_classes_that_leave_no_bits_for_the_order_of_ties_are_refused():
    x = torch.empty(2**28 + 1, device="meta")
    with pytest.raises(ValueError, match=r"^gumbel_topk: at most 2\^28 classes keep the order"):
        gumbel_topk(x, 3, key=KEY.to("meta"))
