# SPDX-License-Identifier: Apache-2.0
"""Checks of modules over a process group of two (run by test_distributed.py)."""

import copy
import math

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    set_model_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from torch_gumbel.nn import GumbelSoftmax
from torch_gumbel.schedules import TemperatureSchedule, linear


def check_sharded_modules_learn_and_keep_their_temperature(rank):
    schedule = TemperatureSchedule(linear, tau0=1.0, tau_min=0.5, steps=5)
    layers = (GumbelSoftmax(tau=0.7, learnable_tau=True), GumbelSoftmax(tau=schedule))
    whole = torch.nn.Sequential(torch.nn.Linear(6, 4), *layers)
    model = copy.deepcopy(whole)
    fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
    x, samples = torch.randn(5, 6), []
    for each in (whole, model):
        torch.manual_seed(3)
        samples.append(each(x))
        samples[-1].square().sum().backward()
    assert torch.equal(*samples)
    grad = model[1].log_temperature.grad.full_tensor()
    torch.testing.assert_close(grad, whole[1].log_temperature.grad)
    model[1].tau = 0.5
    model[2].step()
    torch.testing.assert_close(model[1].tau.full_tensor().item(), 0.5)
    assert "tau=learned" in repr(model[1]) and "tau=0.9" in repr(model[2])
    options = StateDictOptions(full_state_dict=True)
    state = get_model_state_dict(model, options=options)
    assert math.isclose(state["1.log_temperature"].item(), math.log(0.5), rel_tol=1e-6)
    whole.load_state_dict(state)
    model[1].tau = 2.0
    model[2].step()
    set_model_state_dict(model, state, options=options)
    assert model[1].log_temperature.full_tensor().exp().allclose(torch.tensor(0.5))
    assert model[2].tau == 0.9 and model[2].schedule.count == 1
    torch.manual_seed(4)
    wanted = whole(x)
    torch.manual_seed(4)
    assert torch.equal(model(x), wanted)
