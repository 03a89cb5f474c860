# SPDX-License-Identifier: Apache-2.0
"""Bad arguments raise errors that name the function, the requirement, and the value."""

import pytest
import torch
from common import DTYPES, make_key, ops
from operation import Inputs
from operations import FORMS, TABLE, form_id
from torch.utils._pytree import tree_map_only

KEY = make_key(5)
INF, NAN = torch.inf, torch.nan


def logits(*shape, **options):
    return torch.ones(shape or (3, 4), **options)


def each(holds):
    return pytest.mark.parametrize("who", [*filter(holds, TABLE)], ids=form_id)


on_every = each(lambda o: o.temperature)
on_rows = each(lambda o: o.temperature and not o.elementwise)
on_elements = each(lambda o: o.elementwise)
random = each(lambda o: o.random)
with_dim = each(lambda o: "dim" in o.parameters)


def refuses(who, error, message, x, t=None, **options):
    """The call raises that error with that message, and no generator advances."""
    generator = options.get("generator")
    mine = generator.get_state() if generator is not None else None
    temperature = {} if t is None else {who.temperature: t}
    given = who.given(Inputs(dim=0 if options.get("dim") == 0 else -1))
    if isinstance(x, torch.Tensor):
        given = tree_map_only(torch.Tensor, lambda other: other.to(x.device), given)
    given |= {who.first: x, **temperature, **options}
    before = torch.get_rng_state()
    with pytest.raises(error, match=f"^{who.name}: {message}") as caught:
        who.function(**given)
    assert type(caught.value) is error
    assert torch.equal(torch.get_rng_state(), before)
    assert mine is None or torch.equal(generator.get_state(), mine)


TEMPERATURES = [(0, "0"), (-1, "-1"), (-0.0, "-?0"), (NAN, "nan"), (INF, "inf"), (-INF, "-inf")]


def wrong_temperatures():
    for who, options in FORMS:
        for value, shown in TEMPERATURES if who.temperature else []:
            if value != 0 or not who.takes_zero:
                yield who, options, value, shown


@pytest.mark.parametrize(("who", "options", "value", "shown"), [*wrong_temperatures()], ids=form_id)
def test_a_temperature_must_be_positive_or_zero_and_finite(who, options, value, shown):
    least = ">= 0" if who.takes_zero else "> 0"
    message = f"{who.temperature} must be {least} and finite, got {shown}"
    refuses(who, ValueError, message, logits(), value, **options)


WRONG_TAUS = [(2,), (4,), (3, 4), (2, 1), (1, 4), (1, 3, 1), (3, 1, 1), (0,), (0, 1)]


@on_rows
@pytest.mark.parametrize("shape", WRONG_TAUS, ids=str)
def test_a_temperature_must_have_one_value_or_one_per_row(who, shape):
    message = rf"{who.temperature} must have one value, or one per row .* got shape \["
    refuses(who, ValueError, message, logits(), torch.ones(shape))


@on_elements
@pytest.mark.parametrize("shape", [(2,), (3,), (2, 1), (1, 3, 1), (3, 1, 1), (0,)], ids=str)
def test_a_temperature_of_elements_must_broadcast(who, shape):
    message = rf"{who.temperature} must broadcast to logits of shape \[3, 4\], got shape \["
    refuses(who, ValueError, message, logits(), torch.ones(shape))


@on_rows
def test_temperatures_per_row_must_have_the_number_of_rows(who):
    message = rf"{who.temperature} must have one value, or one per row .*\[5, 4\], got shape \[6\]"
    refuses(who, ValueError, message, logits(5, 4), torch.ones(6))


@on_every
@pytest.mark.parametrize("dtype", [torch.bool, torch.complex64, torch.float8_e5m2], ids=str)
def test_a_temperature_must_be_real(who, dtype):
    for t in (torch.ones((), dtype=dtype), torch.ones(3, 1).to(dtype)):
        refuses(who, TypeError, f"{who.temperature} must be a real tensor, got", logits(), t)


@on_every
def test_a_temperature_must_be_strided_and_on_the_device_of_the_logits(who):
    rows, name = torch.ones(3, 1), who.temperature
    refuses(who, TypeError, f"{name} must be a strided tensor, got", logits(), rows.to_sparse())
    refuses(who, ValueError, rf"{name} must be on cpu .* got .*meta", logits(), rows.to("meta"))


@with_dim
@pytest.mark.parametrize("dim", [2, -3, 99, -(2**62)])
def test_dim_must_be_in_range(who, dim):
    message = rf"dim must be in \[-2, 1\], got {dim}"
    refuses(who, IndexError, message, logits(), dim=dim)


@with_dim
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


@on_every
@pytest.mark.parametrize(("dtype", "shown"), WRONG_LOGITS, ids=str)
def test_logits_must_be_floating_point(who, dtype, shown):
    message = f"{who.first} must be float32, float64, float16, or bfloat16, got {shown}"
    refuses(who, TypeError, message, torch.zeros(3, 4, dtype=dtype))


@on_every
@pytest.mark.parametrize("layout", ["to_sparse", "to_sparse_csr", "to_mkldnn"])
def test_logits_must_be_strided(who, layout):
    x = getattr(logits(), layout)()
    refuses(who, TypeError, f"{who.first} must be a strided tensor, got", x)


@random
@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.uint32, torch.bool], ids=str)
def test_key_must_be_uint64_or_int64(who, dtype):
    key = torch.zeros(2, dtype=dtype)
    refuses(who, TypeError, "key must be a uint64 or int64 tensor, got", logits(), key=key)


@random
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 1), (3, 4)], ids=str)
def test_key_must_end_in_two(who, shape):
    key = torch.zeros(shape, dtype=torch.int64)
    refuses(who, ValueError, r"key must have shape \[\*batch, 2\], got", logits(), key=key)


@random
@pytest.mark.parametrize("shape", [(2, 2), (4, 2), (3, 5, 2), (1, 3, 2), (3, 1, 1, 2)], ids=str)
def test_key_batch_must_be_the_leading_sizes(who, shape):
    key = torch.zeros(shape, dtype=torch.int64)
    dim = 2 if who.elementwise else 1
    message = rf"key must have shape \[\*batch, 2\] with batch the leading sizes before dim {dim}"
    refuses(who, ValueError, message, logits(), key=key)


@each(lambda o: o.random and "dim" in o.parameters)
def test_key_batch_must_not_include_dim(who):
    key = torch.zeros(3, 2, dtype=torch.int64)
    refuses(who, ValueError, r"key must have shape .* before dim 0", logits(), dim=0, key=key)


@random
def test_key_must_be_on_the_device_of_the_logits_or_the_cpu(who):
    key = torch.zeros(2, dtype=torch.int64, device="meta")
    refuses(who, ValueError, r"key must be on cpu.* got meta", logits(), key=key)


@random
def test_generator_must_be_of_the_device_of_the_logits(who):
    generator = torch.Generator()
    message = "generator must be on meta, got one on cpu"
    refuses(who, ValueError, message, logits(device="meta"), generator=generator)


@random
def test_key_and_generator_exclude_each_other(who):
    options = {"key": KEY, "generator": torch.Generator()}
    refuses(who, ValueError, "wanted a key or a generator, got both", logits(), **options)


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
