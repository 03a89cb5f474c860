# SPDX-License-Identifier: Apache-2.0
"""sample_logits and filter_logits: kept sets, choices, laws, and bits."""

import numpy as np
import pytest
import torch
from common import DTYPES, assert_same_bits, assert_same_results, compute_type, make_key, noise, ops
from compiling import compiled
from filters import Filtered

import torch_gumbel as tg
from torch_gumbel import filter_logits, gumbel_argmax, sample_logits

KEY = make_key(5)
NAN, INF = torch.nan, torch.inf
KINDS = ["normal", "tied", "flat", "peaked", "masked"]
ALL = {"return_log_prob": True, "return_entropy": True}


def make_row(random, size, kind):
    x = 3 * random.standard_normal(size)
    if kind == "tied":  # of 3 bits
        x = random.integers(0, 8, size).astype(np.float64)
    if kind == "flat":
        x /= 100
    if kind == "peaked":
        x[random.integers(size, size=3)] += 15
    if kind == "masked":
        x[random.random(size) < 0.5] = -np.inf
        x[random.integers(size)] = 1
    return x.astype(np.float32)


def some_filters(random, size):
    temperature = float(random.choice([1.0, 1.0, 0.5, 2.0]))
    top_k = int(random.choice([0, 1, random.integers(1, size + 2), min(50, size), 3 * size]))
    top_p = float(random.choice([1.0, 0.9, 0.5, random.uniform(0.01, 0.999)]))
    min_p = float(random.choice([0.0, 0.0, 0.05, random.uniform(0, 1)]))
    return {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}


def kept_of(x, filters):
    return filter_logits(torch.from_numpy(x), **filters).numpy() > -np.inf


def test_kept_sets_are_those_of_a_float64_sort():
    """1,000 rows: half of them of 1 to 64 classes, half log-uniform up to 151,936."""
    random, wrong = np.random.default_rng(7), []
    for i in range(1000):
        size = int(random.integers(1, 65) if i % 2 else 151936 ** random.uniform(0.3, 1))
        x, filters = make_row(random, size, KINDS[i % 5]), some_filters(random, size)
        if not Filtered(x, **filters).agrees(kept_of(x, filters)):
            wrong.append((i, size, KINDS[i % 5], filters))
    assert not wrong


@pytest.mark.parametrize("size", [9000, 40_000, 151_936])
def test_kept_sets_of_long_rows_of_every_kind(size):
    random = np.random.default_rng(size)
    for kind in [*KINDS, "rising", "equal"]:
        x = make_row(random, size, kind)
        x = np.sort(x) if kind == "rising" else np.full_like(x, 1.5) if kind == "equal" else x
        for filters in (
            {"top_p": 0.9},
            {"top_p": 0.99},
            {"top_k": 50},
            {"top_k": size // 3, "top_p": 0.5},
            {"min_p": 0.05},
            {"top_k": 50, "top_p": 0.9, "min_p": 0.05},
        ):
            assert Filtered(x, **filters).agrees(kept_of(x, filters)), (kind, filters)


def test_parameters_per_row_are_those_of_each_row():
    x = torch.randn(6, 4, 300)
    given = {
        "temperature": torch.rand(6, 4) + 0.5,
        "top_k": torch.randint(-1, 300, (6, 1, 1)),
        "top_p": torch.rand(4, 1) * 0.9 + 0.1,
        "min_p": torch.rand(6, 4, 1) / 3,
    }
    filtered = filter_logits(x, **given)
    drawn = sample_logits(x, **given, key=tg.split(KEY, 6), **ALL)
    rows = {
        name: t.expand(6, 4) if t.dim() == 2 and t.shape == (6, 4) else t.expand(6, 4, 1)[..., 0]
        for name, t in given.items()
    }
    for i in range(6):
        for j in range(4):
            numbers = {name: t[i, j].item() for name, t in rows.items()}
            assert_same_bits(filtered[i, j], filter_logits(x[i, j], **numbers))
        lane = {name: t[i] for name, t in rows.items()}
        alone = sample_logits(x[i], **lane, key=tg.split(KEY, 6)[i], **ALL)
        assert_same_results([t[i] for t in drawn], list(alone))


def test_edges():
    x = torch.tensor([1.0, 3.0, 3.0, -INF, 2.0, 3.0])

    def kept(**filters):
        return (filter_logits(x, **filters) > -INF).nonzero().flatten().tolist()

    everything = [0, 1, 2, 4, 5]
    assert (
        kept() == kept(top_k=5) == kept(top_k=6) == kept(top_k=99) == kept(top_k=-1) == everything
    )
    assert kept(top_k=0, top_p=1, min_p=0) == everything
    assert kept(top_k=1) == [1] and kept(top_k=2) == [1, 2] and kept(top_k=4) == [1, 2, 4, 5]
    assert kept(top_p=1e-300) == [1] and kept(top_p=0.3) == [1, 2]
    assert kept(min_p=1) == [1, 2, 5] and kept(min_p=1, top_k=2) == [1, 2]
    assert kept(temperature=0) == [1] and kept(temperature=1e-40, top_p=0.5) == [1, 2]
    assert filter_logits(x, temperature=0)[1] == 3
    many = torch.zeros(32000)
    assert (filter_logits(many, top_p=0.9) > -INF).sum() == 28800
    big = torch.tensor([3e38, -3e38, 1e38, 3e38])
    assert (filter_logits(big, top_p=0.9, temperature=0.5)).isfinite().tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize("size", [3, 700, 20_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_without_a_distribution_give_0_and_nan(size, dtype):
    x = torch.randn(9, size).to(dtype)
    x[0, -1], x[1, 0], x[2] = NAN, INF, -INF
    given = {
        "temperature": torch.tensor([1.0] * 3 + [-1, NAN, INF] + [1] * 3),
        "top_k": torch.tensor([1] * 6 + [-2, 1, 1]),
        "top_p": torch.tensor([0.9] * 7 + [0, 0.9]),
        "min_p": torch.tensor(0.5),
    }
    index, log_prob, entropy = sample_logits(x, **given, **ALL, key=KEY)
    assert index[:8].tolist() == [0] * 8 and log_prob.dtype == compute_type(dtype)
    assert log_prob.isnan().tolist() == entropy.isnan().tolist() == [True] * 8 + [False]
    filtered = filter_logits(x, **given)
    assert filtered[:8].isnan().all() and not filtered[8].isnan().any()
    assert filtered.dtype == dtype
    for bad in (1.5, -0.1, NAN):
        assert sample_logits(x, min_p=torch.tensor(bad), **ALL)[1].isnan().all()


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(40, 5), (20, 100), (7, 3000), (3, 40_000)], ids=str)
def test_the_choice_is_the_first_largest_score_of_the_kept_classes(shape, dtype):
    """So an unfiltered winner that is kept is the choice."""
    random = np.random.default_rng(1)
    x = torch.randn(shape).mul(2).to(dtype)
    wide = x.to(compute_type(dtype))
    for _ in range(8):
        filters = some_filters(random, shape[1])
        kept = filter_logits(wide, **filters) > -INF
        temperature = filters["temperature"]
        index = sample_logits(x, **filters, key=KEY)
        masked = wide.masked_fill(~kept, -INF)
        assert torch.equal(index, gumbel_argmax(masked, temperature=temperature, key=KEY))
        winner = gumbel_argmax(x, temperature=temperature, key=KEY)
        survives = kept.gather(1, winner[:, None])[:, 0]
        assert torch.equal(index[survives], winner[survives])
        assert kept.gather(1, index[:, None]).all()


def test_any_dimension_and_strides():
    x = torch.randn(3, 500, 4, 2)
    given = {"top_k": 40, "top_p": 0.9, "key": KEY}
    for dim in (0, 1, 2, -1):
        got = sample_logits(x, dim, **given, **ALL)
        kept = filter_logits(x, dim, top_k=40, top_p=0.9)
        scores = torch.where(kept > -INF, x + noise(x, KEY), -INF)
        assert torch.equal(got[0], scores.argmax(dim))
        law = kept.log_softmax(dim)
        chosen = law.gather(dim, got[0].unsqueeze(dim)).squeeze(dim)
        torch.testing.assert_close(got[1], chosen, atol=1e-6, rtol=1e-5)
        transposed = x.transpose(0, 3).contiguous().transpose(0, 3)
        assert_same_results(sample_logits(transposed, dim, **given, **ALL), got)
    scalar = sample_logits(torch.tensor(0.5), top_p=0.5, **ALL)
    assert [t.tolist() for t in scalar] == [0, 0, 0]
    assert sample_logits(torch.tensor(0.5), num_samples=3, top_k=1).tolist() == [0, 0, 0]
    assert sample_logits(x[:0], 1, top_k=3, **ALL)[1].shape == (0, 4, 2)
    assert filter_logits(x[:, :0], 1, top_k=3).shape == (3, 0, 4, 2)
    with pytest.raises(IndexError, match=r"^sample_logits: wanted at least one class"):
        sample_logits(x[:, :0], 1, top_k=3)


def test_a_row_alone_is_the_row_in_its_batch_in_bits_for_any_number_of_threads():
    x, keys = torch.randn(9, 20_000) * 3, tg.split(KEY, 9)
    given = {"top_p": 0.9, "temperature": 0.8, **ALL}
    before = torch.get_num_threads()
    try:
        results = []
        for threads in (1, 2, 7):
            torch.set_num_threads(threads)
            results.append(sample_logits(x, **given, key=keys))
        assert_same_results(results[1], results[0])
        assert_same_results(results[2], results[0])
    finally:
        torch.set_num_threads(before)
    for i in range(9):
        assert_same_results(sample_logits(x[i], **given, key=keys[i]), [t[i] for t in results[0]])


def test_several_samples_take_the_words_of_gumbel_argmax():
    x, keys = torch.randn(4, 5, 30), tg.split(KEY, 4)
    for key in (KEY, keys):
        plain = sample_logits(x, num_samples=6, key=key)
        assert torch.equal(plain, gumbel_argmax(x, num_samples=6, key=key))
        kept = filter_logits(x, top_k=torch.arange(1, 6)[:, None], top_p=0.9, temperature=0.7)
        index, log_prob = sample_logits(
            x,
            top_k=torch.arange(1, 6)[:, None],
            top_p=0.9,
            temperature=0.7,
            num_samples=6,
            return_log_prob=True,
            key=key,
        )
        masked = x.masked_fill(kept == -INF, -INF)
        assert torch.equal(index, gumbel_argmax(masked, num_samples=6, temperature=0.7, key=key))
        assert log_prob.shape == (6, 4, 5)
    rows = filter_logits(x[:, 0], top_p=0.8)  # consecutive rows of the kernel
    got = sample_logits(x[:, 0], top_p=0.8, num_samples=6, return_entropy=True, key=keys)
    assert torch.equal(got[0], gumbel_argmax(rows, num_samples=6, key=keys))
    once = sample_logits(x[:, 0], top_p=0.8, return_entropy=True, key=keys)
    assert_same_bits(got[1], once[1].expand(6, 4))


def test_filtered_logits_are_differentiable_where_they_are_kept():
    x = torch.randn(3, 40, dtype=torch.float64, requires_grad=True)
    temperature = (torch.rand(3, 1, dtype=torch.float64) + 0.5).requires_grad_()
    filters = {"top_k": 9, "top_p": 0.9}
    y = filter_logits(x, temperature=temperature, **filters)
    assert torch.equal(y, filter_logits(x.detach(), temperature=temperature.detach(), **filters))
    kept = y.detach() > -INF
    weights = torch.randn(3, 40, dtype=torch.float64)
    grads = torch.autograd.grad((y[kept] * weights[kept]).sum(), (x, temperature))
    wanted = torch.autograd.grad(((x / temperature)[kept] * weights[kept]).sum(), (x, temperature))
    torch.testing.assert_close(grads, wanted)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_formula_of_other_devices_agrees_with_the_kernel(dtype):
    """The CompositeExplicitAutograd kernel, by excluding the CPU from dispatch."""
    alone = torch._C.DispatchKeySet(torch._C.DispatchKey.CompositeExplicitAutograd)
    x = torch.randn(12, 2, 200).to(dtype)
    x[1, 0, 3], x[2, 1, 5], x[3, 0] = NAN, INF, -INF
    temperature = torch.linspace(0, 2, 12, dtype=torch.float64).view(12, 1, 1)
    temperature[4] = -1
    top_k = torch.arange(-2, 10).mul(9).clamp_min(-2).view(12, 1, 1)
    top_p, min_p = torch.rand(2, 1), torch.rand(12, 2, 1) / 9
    given = (top_k, top_p, min_p)
    args = (x, temperature, KEY, 2, *given, True, True)
    kernel = ops._sample_logits.default(*args)
    other = ops._sample_logits.default.redispatch(alone, *args)
    assert torch.equal(kernel[0], other[0])
    for ours, theirs in zip(kernel[1:], other[1:], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=2e-5, equal_nan=True)
    args = (x, temperature, 2, *given)
    ours, theirs = (
        ops._filter_logits.default(*args),
        ops._filter_logits.default.redispatch(alone, *args),
    )
    torch.testing.assert_close(ours, theirs, equal_nan=True)


@pytest.mark.parametrize("who", [sample_logits, filter_logits])
def test_numbers_out_of_range_are_refused_by_name(who):
    x, rows = torch.zeros(2, 3), torch.ones(2)
    for options, message in (
        ({"top_k": -2}, "top_k must be > 0, or 0 or -1 for none, got -2"),
        ({"top_p": 0}, r"top_p must be in \(0, 1\], got 0"),
        ({"top_p": 1.5}, r"top_p must be in \(0, 1\], got 1.5"),
        ({"min_p": -0.5}, r"min_p must be in \[0, 1\], got -0.5"),
        ({"min_p": NAN}, r"min_p must be in \[0, 1\], got nan"),
        ({"temperature": -1}, "temperature must be >= 0 and finite, got -1"),
        ({"top_p": torch.ones(3)}, "top_p must have one value, or one per row"),
    ):
        before = torch.get_rng_state()
        for given in (options, {"temperature": rows, **options}, {"min_p": rows, **options}):
            with pytest.raises(ValueError, match=f"^{who.__name__}: {message}"):
                who(x, **given)
        assert torch.equal(torch.get_rng_state(), before)
    for options in ({"top_k": rows}, {"top_k": 2.5}, {"top_p": "1"}, {"min_p": [0.1]}):
        with pytest.raises(TypeError, match=f"^{who.__name__}: (top_k|top_p|min_p) must be"):
            who(x, **options)


def test_new_values_of_filters_do_not_recompile():
    x = torch.randn(4, 50)

    def call(x, k, p):
        return sample_logits(x, top_k=k, top_p=p, return_log_prob=True, key=KEY)

    run = compiled(call)
    run(x, 5, 0.5), run(x, 6, 0.6)
    with torch._dynamo.config.patch(error_on_recompile=True):
        for k, p in ((7, 0.7), (8, 0.8), (9, 0.9)):
            assert_same_results(run(x, k, p), call(x, k, p))
