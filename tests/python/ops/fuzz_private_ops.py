# SPDX-License-Identifier: Apache-2.0
"""A script that calls private ops with random arguments: a call returns valid results or raises."""

from collections import Counter
from types import SimpleNamespace

import torch
from common import compute_type, ops
from hypothesis import given, settings
from hypothesis import strategies as st
from operations import PRIVATE

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
    given = SimpleNamespace(**tensors, y=tensors["x"], dim=dim, place=place, dtype=dtype)
    given.flag = draw(st.booleans())
    return draw(st.sampled_from([*PRIVATE, *OTHERS])), given


OTHERS = {
    "_gumbel_at": lambda t: ops._gumbel_at(
        t.x.long(), 10**t.dim if t.flag else t.dim, t.key, torch.float64 if t.place else t.x.dtype
    ),
    "keys": lambda t: (ops._split_key(t.key, 3), ops._fold_in_key(t.key, t.dim)),
    "_kl_categorical": lambda t: ops._kl_categorical(
        t.x, t.grad if t.place else None, t.dim, t.flag
    ),
    "_kl_categorical_backward": lambda t: ops._kl_categorical_backward(
        t.tau, t.x, t.tau, t.tau, t.tau, None, t.dim, t.flag
    ),
    "_straight_through_lookup": lambda t: ops._straight_through_lookup(t.x, t.grad, t.tau, t.key),
}


def run(name, t):
    if name in OTHERS:
        return OTHERS[name](t)
    arguments, options = PRIVATE[name](t)
    return getattr(ops, name)(*arguments, **options)


@settings(max_examples=400, derandomize=True, deadline=None, database=None)
@given(calls())
def fuzz(call):
    name, t = call
    try:
        result = run(name, t)
    except ERRORS:
        outcome["refused"] += 1
        return
    outcome["accepted"] += 1
    first = result[0] if isinstance(result, tuple) else result
    if name.startswith("_gumbel_softmax"):
        wanted = (
            t.dtype
            if t.dtype is not None and name != "_gumbel_softmax_hard_backward"
            else t.x.dtype
        )
        assert first.shape == t.x.shape and first.dtype == wanted
        assert not first.isnan().any()
    if name in ("_gumbel_max", "_gumbel_argmax"):
        index = result if name == "_gumbel_argmax" else result[1]
        k = t.x.shape[t.dim] if t.x.dim() else 1
        assert ((index >= 0) & (index < max(k, 1))).all()
    if name == "_kl_categorical_backward":
        assert first.shape == t.x.shape and first.dtype == t.x.dtype
    if name == "_gumbel_noise":
        assert first.dtype == compute_type(t.x.dtype) and torch.isfinite(first).all()


if __name__ == "__main__":
    fuzz()
    print(dict(outcome))
    assert outcome["accepted"] > 20 and outcome["refused"] > 20
