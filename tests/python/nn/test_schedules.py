# SPDX-License-Identifier: Apache-2.0
"""Temperature schedules: formulas, limits, errors, and a count that is saved and loaded."""

import copy
import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from torch_gumbel import gumbel_softmax, schedules
from torch_gumbel.schedules import TemperatureSchedule, cosine, exponential, linear

DESCENTS = [linear, cosine]


def test_the_exponential_is_that_of_the_paper():
    for step in (0, 1, 777, 69_314, 69_315, 10**7):
        wanted = max(0.5, math.exp(-1e-5 * step))
        assert exponential(step, rate=1e-5) == pytest.approx(wanted, rel=1e-15)


def test_a_published_decay_factor_is_a_rate():
    """fairseq's wav2vec 2.0: max(2 * 0.999995^n, 0.5)."""
    for step in (0, 1000, 200_000, 400_000):
        got = exponential(step, tau0=2, rate=-math.log(0.999995), tau_min=0.5)
        assert got == pytest.approx(max(2 * 0.999995**step, 0.5), rel=1e-9)


@pytest.mark.parametrize("schedule", DESCENTS)
def test_a_decay_has_the_right_start_and_end(schedule):
    at = [schedule(t, tau0=2.0, tau_min=0.1, steps=8) for t in range(12)]
    assert at[0] == 2.0 and at[4] == pytest.approx(1.05)
    assert at[8:] == [pytest.approx(0.1)] * 4


def test_linear_falls_by_equal_amounts_and_cosine_by_half_a_wave():
    line = [linear(t, tau0=1, tau_min=0.2, steps=4) for t in range(5)]
    assert line == pytest.approx([1, 0.8, 0.6, 0.4, 0.2])
    wave = [cosine(t, tau0=1, tau_min=0.2, steps=4) for t in range(5)]
    assert wave == pytest.approx([0.6 + 0.4 * math.cos(math.pi * t / 4) for t in range(5)])


@given(
    st.sampled_from([exponential, *DESCENTS]),
    st.integers(0, 10**9),
    st.floats(1e-3, 1e3),
    st.floats(1e-3, 1.0),
)
def test_a_temperature_never_leaves_its_range_nor_rises(schedule, step, tau0, share):
    settings = {"tau0": tau0, "tau_min": tau0 * share}
    settings |= {"rate": 1e-4} if schedule is exponential else {"steps": 1000}
    here, next_one = schedule(step, **settings), schedule(step + 1, **settings)
    assert tau0 * share * (1 - 1e-12) <= next_one <= here <= tau0 * (1 + 1e-12)


@pytest.mark.parametrize(
    ("schedule", "arguments", "message"),
    [
        (exponential, {"tau0": 0.0}, "exponential: tau0 must be > 0 and finite, got 0.0"),
        (exponential, {"tau0": math.nan}, "exponential: tau0 must be > 0 and finite, got nan"),
        (exponential, {"tau_min": 0.0}, r"exponential: tau_min must be in \(0, tau0 = 1.0\], got"),
        (exponential, {"tau_min": 3.0}, "exponential: tau_min must be in .*, got 3.0"),
        (exponential, {"rate": -1.0}, "exponential: rate must be >= 0 and finite, got -1.0"),
        (exponential, {"step": -1}, "exponential: step must be >= 0, got -1"),
        (linear, {"steps": 0}, "linear: steps must be > 0, got 0"),
        (linear, {"steps": 5, "step": -2}, "linear: step must be >= 0, got -2"),
        (cosine, {"steps": -3}, "cosine: steps must be > 0, got -3"),
        (cosine, {"steps": 9, "tau0": math.inf}, "cosine: tau0 must be > 0 and finite, got inf"),
    ],
)
def test_arguments_out_of_range_are_refused_by_name(schedule, arguments, message):
    arguments = {"step": 0} | arguments
    with pytest.raises(ValueError, match=message):
        schedule(arguments.pop("step"), **arguments)


def test_a_schedule_counts():
    tau = TemperatureSchedule(exponential, rate=0.1, tau_min=0.01)
    assert tau.value == tau() == 1.0
    assert [tau.step() for _ in range(3)] == pytest.approx([math.exp(-0.1 * n) for n in (1, 2, 3)])
    assert tau.value == pytest.approx(math.exp(-0.3))


def test_its_count_is_saved_and_loaded_with_its_model():
    def model():
        tau = TemperatureSchedule(cosine, tau0=1.0, tau_min=0.1, steps=10)
        return torch.nn.ModuleDict({"layer": torch.nn.Linear(2, 3), "tau": tau})

    trained, file = model(), io.BytesIO()
    for _ in range(7):
        trained["tau"].step()
    torch.save(trained.state_dict(), file)
    file.seek(0)
    fresh = model()
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh["tau"].count == 7 and fresh["tau"].value == trained["tau"].value


def test_a_copy_counts_for_itself():
    tau = TemperatureSchedule(linear, steps=10)
    other = copy.deepcopy(tau)
    tau.step()
    assert (tau.count, other.count) == (1, 0)
    assert repr(tau) == "TemperatureSchedule(linear, steps=10, count=1)"


def test_a_module_refuses_invalid_schedules():
    with pytest.raises(TypeError, match="schedule must be callable, got float"):
        TemperatureSchedule(0.5)
    with pytest.raises(TypeError):
        TemperatureSchedule(linear)  # steps is missing
    with pytest.raises(ValueError, match="must give a temperature > 0 and finite, got -1"):
        TemperatureSchedule(lambda step: -1)


def test_its_values_are_temperatures_of_the_op():
    tau = schedules.TemperatureSchedule(linear, tau0=1.0, tau_min=0.1, steps=5)
    for _ in range(8):
        y = gumbel_softmax(torch.zeros(3, 4), tau.step())
        torch.testing.assert_close(y.sum(-1), torch.ones(3))
