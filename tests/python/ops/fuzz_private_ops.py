# SPDX-License-Identifier: Apache-2.0
"""A script that calls private ops with random arguments: a call returns valid results or raises."""

from collections import Counter

import torch
from common import compute_type, ops
from hypothesis import given, settings
from hypothesis import strategies as st

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool]
TAU_DTYPES = [torch.float64, torch.float32, torch.float16, torch.int64]
KEY_DTYPES = [torch.uint64, torch.int64, torch.uint64, torch.float32]
ERRORS = (ValueError, TypeError, IndexError, RuntimeError)
outcome = Counter()

sizes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def variants(draw, shape):
    """Mostly that shape; sometimes one dimension more, less, of size 1, or another."""
    kind = draw(st.sampled_from(["same"] * 5 + ["other", "less", "more", "ones"]))
    return {
        "same": shape,
        "other": draw(sizes),
        "less": shape[1:],
        "more": (2, *shape),
        "ones": tuple(1 for _ in shape),
    }[kind]


@st.composite
def calls(draw):
    shape = draw(sizes)
    dim = draw(st.integers(-2, len(shape) + 1))
    rows = tuple(1 if i == dim else n for i, n in enumerate(shape))
    batch = shape[: draw(st.integers(0, len(shape)))]
    key_shape = draw(st.sampled_from([(2,), (2,), (*batch, 2), (), (0,), (1,), (3,), (2, 2)]))
    pick = st.sampled_from
    tensors = {
        "x": torch.zeros(shape).to(draw(pick(DTYPES))),
        "grad": torch.ones(draw(variants(shape))).to(draw(pick(DTYPES))),
        "tau": torch.ones(draw(pick([(), (), rows, shape]))).to(draw(pick(TAU_DTYPES))),
        "key": torch.ones(key_shape).to(draw(pick(KEY_DTYPES))),
    }
    place = {}
    if draw(st.booleans()):
        place["full_shape"] = draw(st.lists(st.integers(-1, 9), max_size=4))
        place["start"] = draw(st.lists(st.integers(-1, 5), max_size=4))
    dtype = draw(pick([None, None, *DTYPES]))
    return draw(st.integers(0, 12)), tensors, dim, place, dtype, draw(st.booleans())


def run(which, t, dim, place, dtype, flag):
    x, grad, tau, key = t["x"], t["grad"], t["tau"], t["key"]
    return [
        lambda: ops._gumbel_softmax(x, tau, key, dim, flag, dtype=dtype, **place),
        lambda: ops._gumbel_softmax_lse(x, tau, key, dim, dtype=dtype, **place),
        lambda: ops._gumbel_softmax_backward(grad, x, tau, dim, dtype=dtype, tau_grad=flag),
        lambda: ops._gumbel_softmax_hard_backward(grad, x, tau, key, dim, tau_grad=flag, **place),
        lambda: ops._gumbel_max(x, tau, key, dim, flag, **place),
        lambda: ops._gumbel_noise(x, key, **place),
        lambda: (ops._split_key(key, 3), ops._fold_in_key(key, dim)),
        lambda: ops._kl_categorical(x, grad if place else None, dim, flag),
        lambda: ops._kl_categorical_backward(tau, x, tau, tau, tau, None, dim, flag),
        lambda: ops._straight_through_lookup(x, grad, tau, key),
        lambda: ops._gumbel_argmax(x, tau, key, dim, flag, **place),
        lambda: ops._gumbel_softmax_hard(x, tau, key, dim, dtype=dtype, **place),
        lambda: ops._gumbel_softmax_hard_soft(x, tau, key, dim, dtype=dtype, **place),
    ][which]()


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(calls())
def fuzz(call):
    which, tensors, dim, _, dtype, _ = call
    try:
        result = run(*call)
    except ERRORS:
        outcome["refused"] += 1
        return
    outcome["accepted"] += 1
    first = result[0] if isinstance(result, tuple) else result
    if which < 4:
        x = tensors["x"]
        wanted = dtype if dtype is not None and which < 3 else x.dtype
        assert first.shape == x.shape and first.dtype == wanted
        assert not first.isnan().any()
    if which in (4, 10):
        index = result[1] if which == 4 else result
        k = tensors["x"].shape[dim] if tensors["x"].dim() else 1
        assert ((index >= 0) & (index < max(k, 1))).all()
    if which == 8:
        assert first.shape == tensors["x"].shape and first.dtype == tensors["x"].dtype
    if which == 5:
        assert first.dtype == compute_type(tensors["x"].dtype) and torch.isfinite(first).all()


if __name__ == "__main__":
    fuzz()
    print(dict(outcome))
    assert outcome["accepted"] > 20 and outcome["refused"] > 20
