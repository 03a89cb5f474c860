# SPDX-License-Identifier: Apache-2.0
"""Modules made on meta, cast, saved, and loaded by other libraries."""

import copy
import io
import math
import pickle

import pytest
import torch
from safetensors.torch import load_model, save_model
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import PretrainedConfig, PreTrainedModel

from torch_gumbel import gumbel_softmax
from torch_gumbel import key as make_key
from torch_gumbel.nn import GumbelSoftmax, GumbelVectorQuantizer
from torch_gumbel.schedules import TemperatureSchedule, linear

KEY = make_key(7)
EXTREMES = [1e-8, 1e-50, 1e300, 0.37]


def schedule(tau0=1.0):
    return TemperatureSchedule(linear, tau0=tau0, tau_min=0.1, steps=10)


def draws_at(layer, tau, dtype=torch.float32):
    x = torch.randn(5, 4).to(dtype)
    return torch.equal(layer(x, key=KEY), gumbel_softmax(x, tau, layer.hard, key=KEY))


@pytest.mark.parametrize("tau", EXTREMES)
def test_no_cast_or_move_changes_a_temperature(tau):
    layer = GumbelSoftmax(tau=tau)
    for change in (
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.to("meta"),
        lambda m: m.to_empty(device="cpu"),
        lambda m: m.to(torch.float32),
        copy.deepcopy,
        lambda m: pickle.loads(pickle.dumps(m)),
        lambda m: m.share_memory(),
    ):
        layer = change(layer)
        assert layer.tau.item() == tau and draws_at(layer, tau)
        assert draws_at(layer, tau, torch.float16)
    other = GumbelSoftmax()
    other.load_state_dict(layer.state_dict())
    assert other.tau.item() == tau
    learned = GumbelSoftmax(tau=tau, learnable_tau=True)
    assert learned(torch.randn(5, 4)).isfinite().all()
    assert learned.half()(torch.randn(5, 4).half()).isfinite().all()
    assert learned.tau.item() == pytest.approx(tau, rel=0.3)


def test_a_module_made_on_meta_has_a_repr_and_its_temperature():
    with torch.device("meta"):
        layer, learned = GumbelSoftmax(tau=0.37), GumbelSoftmax(tau=0.37, learnable_tau=True)
        quantizer = GumbelVectorQuantizer(6, 5, 4, tau=schedule(1.5))
    assert "tau=0.37" in repr(layer) and "tau=learned" in repr(learned)
    assert "tau=1.5" in repr(quantizer)
    assert draws_at(layer, 0.37) and layer.tau.item() == 0.37
    assert layer(torch.randn(3, 4, device="meta")).is_meta
    for module in (layer, learned, quantizer):
        module.to_empty(device="cpu").reset_parameters()
    assert draws_at(layer, 0.37)
    torch.testing.assert_close(learned.tau.item(), 0.37)
    assert quantizer.tau == 1.5 and quantizer(torch.randn(2, 6))[1].isfinite()
    assert (quantizer.weight_proj.bias == 0).all() and (quantizer.codevectors <= 1).all()


def test_a_module_made_in_a_mode_serves_outside_and_inside():
    with FakeTensorMode():
        layer = GumbelSoftmax(tau=0.5)
        assert layer(torch.randn(3, 4)).shape == (3, 4)
        layer.tau = 0.25
        layer.load_state_dict(layer.state_dict())
    assert draws_at(layer, 0.25)
    with torch.inference_mode():
        layer = GumbelSoftmax(tau=0.5)
        layer(torch.randn(3, 4))
    layer.tau = 0.25
    layer(torch.randn(3, 4, requires_grad=True)).sum().backward()
    assert draws_at(layer, 0.25)


def test_reset_parameters_restores_the_initial_temperature():
    fixed, learned = GumbelSoftmax(tau=0.7), GumbelSoftmax(tau=0.7, learnable_tau=True)
    annealed = GumbelSoftmax(tau=schedule())
    annealed.step()
    fixed.tau = learned.tau = 0.2
    for module in (fixed, learned, annealed):
        module.reset_parameters()
    assert fixed.tau.item() == 0.7 and learned.tau.item() == pytest.approx(0.7)
    assert annealed.tau == 1.0 and annealed.schedule.count == 0


class Config(PretrainedConfig):
    model_type = "test_nn_state"


class Model(PreTrainedModel):
    config_class = Config

    def __init__(self, config):
        super().__init__(config)
        self.project = torch.nn.Linear(3, 6)
        self.sample = GumbelSoftmax(tau=0.37)
        self.annealed = GumbelSoftmax(tau=schedule())
        self.learned = GumbelSoftmax(tau=0.5, learnable_tau=True)
        self.quantizer = GumbelVectorQuantizer(6, 5, 4, tau=schedule(1.5))
        self.post_init()

    def _init_weights(self, module):
        if module is not self.sample and hasattr(module, "reset_parameters"):
            module.reset_parameters()


def trained():
    model = Model(Config())
    model.sample.tau, model.learned.tau = 1e-50, 0.25
    model.annealed.step()
    model.quantizer.step()
    return model


def temperatures(model):
    counts = [model.annealed.schedule.count, model.quantizer.schedule.count]
    layers = [model.sample, model.annealed, model.learned, model.quantizer]
    return [*(pytest.approx(layer.tau.item(), rel=2e-3, abs=0) for layer in layers), *counts]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=str)
def test_transformers_saves_and_loads_a_temperature(tmp_path, dtype):
    model = trained()
    model.save_pretrained(tmp_path)
    loaded, info = Model.from_pretrained(tmp_path, dtype=dtype, output_loading_info=True)
    assert not any(info.values())
    assert temperatures(loaded) == temperatures(model)
    assert draws_at(loaded.train().sample, 1e-50, dtype)


def test_weights_without_a_temperature_leave_the_one_of_the_code(tmp_path):
    model = trained()
    kept = {k: v for k, v in model.state_dict().items() if k.startswith("project")}
    model.save_pretrained(tmp_path, state_dict=kept)
    assert temperatures(Model.from_pretrained(tmp_path)) == temperatures(Model(Config()))


def test_safetensors_saves_and_loads_a_model(tmp_path):
    model, file = trained(), str(tmp_path / "model.safetensors")
    assert all(isinstance(value, torch.Tensor) for value in model.state_dict().values())
    save_model(model, file)
    fresh = Model(Config())
    load_model(fresh, file)
    assert temperatures(fresh) == temperatures(model)


def test_state_dicts_of_older_versions_load():
    fixed, learned = GumbelSoftmax(), GumbelSoftmax(learnable_tau=True)
    fixed.load_state_dict({"temperature": torch.tensor(0.25)})
    learned.load_state_dict({"log_temperature": torch.tensor(math.log(0.25))})
    assert fixed.tau == 0.25 and learned.tau.item() == pytest.approx(0.25)
    assert learned.log_temperature.shape == (1,)
    learned.load_state_dict({"log_temperature": torch.tensor(0.0)}, assign=True)
    assert learned.log_temperature.shape == (1,) and learned.tau == 1
    quantizer = GumbelVectorQuantizer(6, 5, 4, tau=schedule())
    state = quantizer.state_dict() | {"temperature": torch.tensor(0.5)}
    del state["_extra_state"]
    model = torch.nn.Sequential(quantizer, fixed)
    older = {f"0.{name}": value for name, value in state.items()}
    older |= {"0.schedule._extra_state": {"count": 5}, "1.temperature": torch.tensor(0.125)}
    model.load_state_dict(older)
    assert quantizer.tau == 0.5 and quantizer.schedule.count == 5 and fixed.tau == 0.125


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        ({}, RuntimeError, r'Missing key.*"_extra_state"'),
        ({"log_temperature": 1.0}, RuntimeError, r'Unexpected key.*"log_temperature"'),
        ({"_extra_state": 0.5, "temperature": 0.5}, RuntimeError, r'Unexpected.*"temperature"'),
        ({"_extra_state": 0.0}, ValueError, "GumbelSoftmax: tau must be > 0 and finite, got 0.0"),
        ({"temperature": math.nan}, ValueError, "tau must be > 0 and finite, got nan"),
        ({"_extra_state": [1.0, 2.0]}, TypeError, "tau must be a number, got Tensor"),
    ],
)
def test_a_state_dict_that_is_none_of_a_layer_is_refused(state, error, message):
    layer = GumbelSoftmax(tau=0.7)
    with pytest.raises(error, match=message):
        layer.load_state_dict({name: torch.tensor(value) for name, value in state.items()})
    learned = GumbelSoftmax(tau=0.7, learnable_tau=True)
    with pytest.raises(RuntimeError, match=r'Missing key.*"log_temperature"'):
        learned.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="size mismatch for log_temperature"):
        learned.load_state_dict({"log_temperature": torch.zeros(2)})
    layer.load_state_dict({"_extra_state": torch.tensor(0.5, device="meta")})
    assert layer.tau == (0.5 if "_extra_state" in state and error is RuntimeError else 0.7)


def test_a_schedule_is_taken_stepped_and_saved_by_a_layer():
    layer = GumbelSoftmax(tau=schedule(), hard=True)
    assert layer.step() == layer.tau == pytest.approx(0.91)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    fresh = GumbelSoftmax(tau=schedule())
    fresh.load_state_dict(torch.load(file, weights_only=True))
    assert fresh.tau == layer.tau and fresh.schedule.count == 1
    plain = GumbelSoftmax()
    with pytest.raises(ValueError, match=r"GumbelSoftmax: step\(\) needs a TemperatureSchedule"):
        plain.step()
    plain.tau = schedule()
    assert plain.step() == pytest.approx(0.91) and list(plain.children()) == [plain.schedule]
    for refused in (
        lambda: GumbelSoftmax(tau=schedule(), learnable_tau=True),
        lambda: setattr(GumbelSoftmax(learnable_tau=True), "tau", schedule()),
    ):
        with pytest.raises(ValueError, match="a tau that is learned has no schedule"):
            refused()


@pytest.mark.parametrize("bad", [0.0, -1.0, math.inf, math.nan])
def test_a_step_without_a_temperature_is_not_counted(bad):
    quantizer = GumbelVectorQuantizer(6, 5, 4, tau=TemperatureSchedule(lambda n: [0.5, bad][n]))
    with pytest.raises(ValueError, match="must give a temperature > 0 and finite, got"):
        quantizer.step()
    assert quantizer.schedule.count == 0 and quantizer.tau == 0.5
    with pytest.raises(ValueError, match="must give a temperature > 0 and finite, got"):
        TemperatureSchedule(lambda n: bad)


@pytest.mark.parametrize("shape", [(), (1,)])
@pytest.mark.parametrize("learnable", [False, True])
def test_a_parameter_that_is_assigned_is_the_temperature(shape, learnable):
    layer, parameter = GumbelSoftmax(learnable_tau=learnable), torch.full(shape, 0.5)
    layer.tau = parameter = torch.nn.Parameter(parameter)
    assert layer.tau is parameter and dict(layer.named_parameters()) == {"temperature": parameter}
    layer(torch.randn(3, 4), key=KEY).square().sum().backward()
    assert parameter.grad.abs() > 0 and draws_at(layer, 0.5)
    other = GumbelSoftmax()
    other.tau = torch.nn.Parameter(torch.tensor(2.0))
    other.load_state_dict(layer.state_dict())
    assert other.tau == 0.5 and other.learnable_tau
    layer.tau = 0.25
    assert parameter == 0.25
    copy.deepcopy(layer).reset_parameters()
    layer.reset_parameters()
    assert parameter == 0.5
    with pytest.raises(ValueError, match="tau must be > 0 and finite, got -1"):
        layer.tau = torch.nn.Parameter(torch.tensor(-1.0))
    with pytest.raises(ValueError, match=r"one value, got a parameter of shape \[2\]"):
        layer.tau = torch.nn.Parameter(torch.ones(2))
    assert layer.tau is parameter
