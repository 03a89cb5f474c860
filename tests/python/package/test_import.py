# SPDX-License-Identifier: Apache-2.0
"""`import torch_gumbel` changes nothing and loads what is asked for."""

import torch
from common import make_key, run_python

import torch_gumbel
from torch_gumbel import gumbel_argmax, gumbel_softmax


def test_importing_draws_nothing_and_starts_no_compiler():
    code = (
        "import torch; s = torch.get_rng_state(); import sys, torch_gumbel; "
        "assert torch.equal(s, torch.get_rng_state()); "
        "assert not torch.cuda.is_initialized(); "
        "print('torch._inductor' in sys.modules)"
    )
    done = run_python(code)
    assert done.stdout.strip() == "False", done.stderr


def test_a_default_device_does_not_move_a_call():
    x, key, tau = torch.zeros(3, 4), make_key(5), torch.tensor(0.5)
    with torch.device("meta"):
        for y in (gumbel_softmax(x, 0.5), gumbel_softmax(x, tau, True, key=key), gumbel_argmax(x)):
            assert y.device.type == "cpu"
        assert torch_gumbel.new_key().device.type == "cpu"


def test_submodules_are_loaded_when_they_are_asked_for():
    code = """
import sys, torch, torch_gumbel
lazy = ("distributed", "integrations", "plots")
loaded = [name for name in lazy if f"torch_gumbel.{name}" in sys.modules]
print(loaded, torch_gumbel.distributed.rank_key.__name__, torch_gumbel.plots.__name__)
print(torch_gumbel.integrations.transformers.__name__, "transformers" in sys.modules)
try:
    torch_gumbel.nothing
except AttributeError as error:
    print(error)
"""
    assert run_python(code).stdout.splitlines() == [
        "[] rank_key torch_gumbel.plots",
        "torch_gumbel.integrations.transformers False",
        "module 'torch_gumbel' has no attribute 'nothing'",
    ]


def test_an_import_makes_no_tensor():
    code = """
import sys, torch
from torch.overrides import TorchFunctionMode
class Made(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            print(func)
        return result
torch.set_default_device("meta")
with Made():
    import torch_gumbel, torch_gumbel.distributed, torch_gumbel._dtensor, torch_gumbel.plots
print("imported")
"""
    assert run_python(code).stdout.splitlines() == ["imported"]
