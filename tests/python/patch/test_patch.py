# SPDX-License-Identifier: Apache-2.0
"""patch(): callers of F.gumbel_softmax get the fused op, and PyTorch's own after undo()."""

import inspect
import itertools
import sys
import threading
import time
import types
import warnings

import pytest
import torch
import torch.nn.functional as F
from common import DTYPES, assert_same_bits
from patching import ORIGINAL, every_test_leaves_the_original, is_on, way  # noqa: F401

from torch_gumbel import _patch, gumbel_softmax, patch


def test_the_switch_works_at_the_call_and_brings_the_very_original_back():
    handle = patch()
    assert F.gumbel_softmax is torch.nn.functional.gumbel_softmax is not ORIGINAL and is_on()
    handle.undo()
    assert F.gumbel_softmax is ORIGINAL and not is_on()


def test_a_with_block_ends_the_patch_also_by_an_exception():
    with pytest.raises(KeyError), patch() as handle:
        assert isinstance(handle, _patch.Patch) and is_on()
        raise KeyError
    assert F.gumbel_softmax is ORIGINAL
    with pytest.raises(RuntimeError, match="was undone; call patch"), handle:
        pass


def test_the_signature_is_that_of_pytorch():
    with patch():
        assert inspect.signature(F.gumbel_softmax, eval_str=True) == inspect.signature(ORIGINAL)
        assert F.gumbel_softmax.__name__ == "gumbel_softmax"


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(("hard", "dim"), [(False, -1), (True, 1), (1, 0)])
def test_arguments_arrive_in_the_fused_op(dtype, hard, dim):
    x = torch.randn(3, 4, 5).to(dtype).requires_grad_()
    samples = []
    for draw in (gumbel_softmax, None):
        torch.manual_seed(1)
        with patch():
            draw = draw or F.gumbel_softmax
            samples.append((draw(x, 0.3, hard, 1e-10, dim), draw(x, tau=0.3, dim=dim, hard=hard)))
    for got, wanted in zip(samples[1], samples[0], strict=True):
        assert_same_bits(got, wanted)
        assert got.grad_fn.name() == f"GumbelSoftmax{'Hard' * hard}Backward"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_nested_patches_end_with_the_last_in_any_order(order):
    handles = [patch() for _ in range(3)]
    for done, i in enumerate(order):
        assert is_on(), done
        handles[i].undo()
        handles[i].undo()  # a second undo does nothing
    assert F.gumbel_softmax is ORIGINAL


def of_other_code(before):
    """A patch of another library, which calls the function it replaced."""
    return lambda *args, **options: before(*args, **options)


def test_a_replacement_over_ours_is_left_with_a_warning_and_draws_as_pytorch():
    handle = patch()
    ours = F.gumbel_softmax
    F.gumbel_softmax = theirs = of_other_code(ours)
    assert is_on()
    with pytest.warns(RuntimeWarning, match=r"functional\.gumbel_softmax was replaced") as seen:
        handle.undo()
    assert seen[0].filename == __file__ and F.gumbel_softmax is theirs and not is_on()
    F.gumbel_softmax = ours  # they undo theirs
    assert not is_on()
    with patch():
        assert is_on()
    assert F.gumbel_softmax is ORIGINAL


def test_an_earlier_replacement_is_restored():
    F.gumbel_softmax = theirs = of_other_code(ORIGINAL)
    module = user_module()
    with patch([module]):
        assert is_on() and module.draw is F.gumbel_softmax
    assert F.gumbel_softmax is module.draw is theirs
    F.gumbel_softmax = ORIGINAL


def test_a_patch_over_a_replacement_over_a_patch_brings_the_replacement_back():
    first = patch()
    F.gumbel_softmax = theirs = of_other_code(F.gumbel_softmax)
    second = patch()
    assert F.gumbel_softmax is not theirs and is_on()
    with pytest.raises(RuntimeError, match="Exponential distribution"):
        F.gumbel_softmax(torch.ones(3, dtype=torch.int64))  # falls back, without recursion
    first.undo()
    assert is_on()
    second.undo()
    assert F.gumbel_softmax is theirs and not is_on()
    F.gumbel_softmax = ORIGINAL


def test_an_original_restored_by_other_code_gives_no_warning():
    handle = patch()
    F.gumbel_softmax = ORIGINAL
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        handle.undo()


class SlowModule(types.ModuleType):
    """Lets other threads run between the read of a name and its use."""

    def __getattribute__(self, name):
        value = super().__getattribute__(name)
        if name == "draw":
            time.sleep(1e-4)
        return value


def test_threads_share_one_patch():
    module, wrong, start = SlowModule("slow"), [], threading.Barrier(4)
    module.draw = ORIGINAL

    def work():
        start.wait()
        for _ in range(50):
            with patch([module]):
                if vars(module)["draw"] is ORIGINAL:
                    wrong.append("gone while active")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong and module.draw is ORIGINAL and F.gumbel_softmax is ORIGINAL


def user_module(name="a_users_module"):
    module = types.ModuleType(name)
    exec("from torch.nn.functional import gumbel_softmax as draw", module.__dict__)
    return module


def test_names_that_modules_bound_are_replaced_and_restored(monkeypatch):
    plain, dotted = user_module(), user_module("a_users.module")
    plain.again, plain.other = plain.draw, len
    monkeypatch.setitem(sys.modules, "a_users.module", dotted)
    with patch(modules=[plain, "a_users.module", plain]):
        for draw in (plain.draw, plain.again, dotted.draw, F.gumbel_softmax):
            assert way(draw, torch.randn(3, 4)) == "fused"
        assert plain.other is len
    assert plain.draw is plain.again is dotted.draw is ORIGINAL


def test_a_module_keeps_its_patch_until_its_last_holder_ends():
    module = user_module()
    everywhere, here = patch(), patch([module])
    both = patch([module])
    here.undo()
    assert module.draw is F.gumbel_softmax and is_on()
    both.undo()
    assert module.draw is ORIGINAL and is_on()
    everywhere.undo()


def test_a_module_imported_while_active_draws_as_pytorch_afterwards():
    with patch():
        module = user_module()
        assert way(module.draw, torch.randn(3, 4)) == "fused"
    assert way(module.draw, torch.randn(3, 4)) == "torch"
    with patch([module]):
        assert way(module.draw, torch.randn(3, 4)) == "fused"
    assert module.draw is ORIGINAL


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        ([user_module(), types], ValueError, "patch: types has no global that is torch.nn"),
        (["torch_gumbel.no_such"], ImportError, "torch_gumbel.no_such"),
        (types, TypeError, "must be a sequence"),
        ("types", TypeError, "must be a sequence"),
        ([3], TypeError, "must hold modules or names, got int"),
    ],
)
def test_a_wrong_module_is_refused_by_name_and_nothing_changes(modules, error, message):
    with pytest.raises(error, match=message):
        patch(modules)
    assert F.gumbel_softmax is ORIGINAL
    assert not isinstance(modules, list) or getattr(modules[0], "draw", ORIGINAL) is ORIGINAL
