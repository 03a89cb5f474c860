# SPDX-License-Identifier: Apache-2.0
"""Bad arguments raise errors that name the function, the requirement, and the value."""

import pytest
import torch
from common import DTYPES, make_key, ops

from torch_gumbel import gumbel_argmax, gumbel_softmax

KEY = make_key(5)
INF, NAN = torch.inf, torch.nan


def logits(*shape, **options):
    return torch.zeros(shape or (3, 4), **options)


CALLS = {
    "gumbel_softmax": lambda x, t=1, **o: gumbel_softmax(x, t, **o),
    "gumbel_argmax": lambda x, t=1, **o: gumbel_argmax(x, temperature=t, **o),
}
NAMES = {"gumbel_softmax": "tau", "gumbel_argmax": "temperature"}


@pytest.fixture(params=CALLS)
def who(request):
    return request.param


def refuses(who, error, message, *args, **options):
    """The call raises that error with that message, and no generator advances."""
    generator = options.get("generator")
    mine = generator.get_state() if generator is not None else None
    before = torch.get_rng_state()
    with pytest.raises(error, match=f"^{who}: {message}") as caught:
        CALLS[who](*args, **options)
    assert type(caught.value) is error
    assert torch.equal(torch.get_rng_state(), before)
    assert mine is None or torch.equal(generator.get_state(), mine)


TEMPERATURES = [(0, "0"), (-1, "-1"), (-0.0, "-?0"), (NAN, "nan"), (INF, "inf"), (-INF, "-inf")]


@pytest.mark.parametrize(("value", "shown"), TEMPERATURES)
@pytest.mark.parametrize("hard", [False, True])
def test_tau_must_be_positive_and_finite(value, shown, hard):
    message = f"tau must be > 0 and finite, got {shown}"
    refuses("gumbel_softmax", ValueError, message, logits(), value, hard=hard)


@pytest.mark.parametrize(("value", "shown"), [t for t in TEMPERATURES if t[0] != 0])
def test_temperature_must_not_be_negative_and_be_finite(value, shown):
    message = f"temperature must be >= 0 and finite, got {shown}"
    refuses("gumbel_argmax", ValueError, message, logits(), value)


WRONG_TAUS = [(2,), (4,), (3, 4), (2, 1), (1, 4), (1, 3, 1), (3, 1, 1), (0,), (0, 1)]


@pytest.mark.parametrize("shape", WRONG_TAUS, ids=str)
def test_tau_must_have_one_value_or_one_per_row(shape):
    message = r"tau must have one value, or one per row .* got shape \["
    refuses("gumbel_softmax", ValueError, message, logits(), torch.ones(shape))


def test_tau_of_one_value_per_row_must_have_the_number_of_rows():
    message = r"tau must have one value, or one per row .*\[5, 4\], got shape \[6\]"
    refuses("gumbel_softmax", ValueError, message, logits(5, 4), torch.ones(6))


@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64], ids=str)
def test_tau_must_be_real(dtype):
    tau = torch.ones((), dtype=dtype)
    refuses("gumbel_softmax", TypeError, "tau must be a real tensor, got", logits(), tau)


@pytest.mark.parametrize("value", ["1", None, 1j, [1.0], (1,)], ids=repr)
def test_a_temperature_must_be_a_number(who, value):
    message = f"{NAMES[who]} must be a number, got {type(value).__name__}"
    refuses(who, TypeError, message, logits(), value)


def test_tau_must_be_on_the_device_of_the_logits():
    tau = torch.ones(3, 1, device="meta")
    refuses("gumbel_softmax", ValueError, r"tau must be on cpu .* got .*meta", logits(), tau)


@pytest.mark.parametrize("dim", [2, -3, 99, -(2**62)])
def test_dim_must_be_in_range(who, dim):
    message = rf"dim must be in \[-2, 1\], got {dim}"
    refuses(who, IndexError, message, logits(), dim=dim)


@pytest.mark.parametrize("dim", [1, -2])
def test_dim_of_a_scalar_must_be_in_range(who, dim):
    refuses(who, IndexError, rf"dim must be in \[-1, 0\], got {dim}", torch.tensor(0.5), dim=dim)


WRONG_LOGITS = [
    (torch.int64, "Long"),
    (torch.int32, "Int"),
    (torch.uint8, "Byte"),
    (torch.bool, "Bool"),
    (torch.complex64, "ComplexFloat"),
    (torch.complex128, "ComplexDouble"),
    (torch.float8_e5m2, "Float8_e5m2"),
    (torch.uint64, "UInt64"),
]


@pytest.mark.parametrize(("dtype", "shown"), WRONG_LOGITS, ids=str)
def test_logits_must_be_floating_point(who, dtype, shown):
    message = f"logits must be float32, float64, float16, or bfloat16, got {shown}"
    refuses(who, TypeError, message, torch.zeros(3, 4, dtype=dtype))


@pytest.mark.parametrize("value", [None, 1.0, [[0.0, 1.0]], "x"], ids=repr)
def test_logits_must_be_a_tensor(who, value):
    refuses(who, TypeError, f"logits must be a tensor, got {type(value).__name__}", value)


@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_mkldnn"])
def test_logits_must_be_strided(who, layout):
    refuses(who, TypeError, "logits must be a strided tensor, got", getattr(logits(), layout)())


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.uint32, torch.bool], ids=str)
def test_key_must_be_uint64_or_int64(who, dtype):
    key = torch.zeros(2, dtype=dtype)
    refuses(who, TypeError, "key must be a uint64 or int64 tensor, got", logits(), key=key)


@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 1), (3, 4)], ids=str)
def test_key_must_end_in_two(who, shape):
    key = torch.zeros(shape, dtype=torch.int64)
    refuses(who, ValueError, r"key must have shape \[\*batch, 2\], got", logits(), key=key)


@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (3, 4, 2), (1, 3, 2), (3, 1, 1, 2)], ids=str)
def test_key_batch_must_be_the_leading_sizes(who, shape):
    key = torch.zeros(shape, dtype=torch.int64)
    message = r"key must have shape \[\*batch, 2\] with batch the leading sizes before dim 1"
    refuses(who, ValueError, message, logits(), key=key)


def test_key_batch_must_not_include_dim(who):
    key = torch.zeros(3, 2, dtype=torch.int64)
    refuses(who, ValueError, r"key must have shape .* before dim 0", logits(), dim=0, key=key)


def test_key_must_be_on_the_device_of_the_logits_or_the_cpu(who):
    key = torch.zeros(2, dtype=torch.int64, device="meta")
    refuses(who, ValueError, r"key must be on cpu.* got meta", logits(), key=key)


@pytest.mark.parametrize("value", [5, (5, 0), "k"], ids=repr)
def test_key_must_be_a_tensor(who, value):
    refuses(
        who, TypeError, f"key must be a tensor, got {type(value).__name__}", logits(), key=value
    )


def test_generator_must_be_of_the_device_of_the_logits(who):
    generator = torch.Generator()
    message = "generator must be on meta, got one on cpu"
    refuses(who, ValueError, message, logits(device="meta"), generator=generator)


@pytest.mark.parametrize("value", [5, "g"], ids=repr)
def test_generator_must_be_a_generator(who, value):
    message = f"generator must be a torch.Generator, got {type(value).__name__}"
    before = torch.get_rng_state()
    with pytest.raises(TypeError, match=f"^{who}: {message}"):
        CALLS[who](logits(), generator=value)
    assert torch.equal(torch.get_rng_state(), before)


def test_key_and_generator_exclude_each_other(who):
    options = {"key": KEY, "generator": torch.Generator()}
    refuses(who, ValueError, "wanted a key or a generator, got both", logits(), **options)


def test_hard_and_index_need_a_class():
    message = "wanted at least one class, got size 0 at dim 1"
    refuses("gumbel_softmax", IndexError, message, logits(3, 0), hard=True)
    refuses("gumbel_argmax", IndexError, message, logits(3, 0))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_errors_are_the_same_through_torch_ops(dtype):
    x = logits(dtype=dtype)
    before = torch.get_rng_state()
    for call, error, message in [
        (lambda: ops.gumbel_softmax(x, -1), ValueError, "tau must be > 0 and finite, got -1"),
        (lambda: ops.gumbel_softmax(x, 1, True, 7), IndexError, "dim must be in"),
        (lambda: ops.gumbel_softmax(x, torch.ones(4)), ValueError, "tau must have one value"),
        (lambda: ops.gumbel_softmax(x.int()), TypeError, "logits must be"),
        (lambda: ops.gumbel_softmax(x, key=KEY.float()), TypeError, "key must be a uint64"),
    ]:
        with pytest.raises(error, match=f"gumbel_softmax: {message}"):
            call()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("make", ["float8", "sparse"])
def test_a_tau_that_kernels_cannot_read_is_refused_before_anything_is_drawn(make):
    rows = torch.ones(3, 1)
    tau = rows.to(torch.float8_e5m2) if make == "float8" else rows.to_sparse()
    kind = "real" if make == "float8" else "strided"
    refuses("gumbel_softmax", TypeError, f"tau must be a {kind} tensor, got", logits(), tau)


@pytest.mark.parametrize("shape", WRONG_TAUS, ids=str)
def test_the_temperature_of_an_index_must_have_one_value_or_one_per_row(shape):
    message = r"temperature must have one value, or one per row .* got shape \["
    refuses("gumbel_argmax", ValueError, message, logits(), torch.ones(shape))
