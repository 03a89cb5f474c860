# SPDX-License-Identifier: Apache-2.0
"""patch() of attributes of models, and of copies of the function."""

import copy
import functools
import gc
import itertools
import sys
import types
import warnings
import weakref

import pytest
import torch
import torch.nn.functional as F
from compiling import count, counted
from patching import ORIGINAL, Ops, every_test_leaves_the_original  # noqa: F401
from transformers import GroupViTVisionConfig
from transformers.models.groupvit import modeling_groupvit
from x_transformers import Decoder, TransformerWrapper

from torch_gumbel import _patch_targets, gumbel_softmax, patch


def fused(call, *args, **options):
    """Whether a call samples by the fused op instead of PyTorch's ops."""
    with Ops() as ops:
        call(*args, **options)
    noise = {"aten.exponential_", "aten.uniform_", "aten.rand", "aten.rand_like"} & ops.seen
    ours = any(op.startswith("torch_gumbel._gumbel_softmax") for op in ops.seen)
    assert ours != bool(noise), ops.seen
    return ours


class Sampler(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.direct = F.gumbel_softmax
        self.bound = functools.partial(F.gumbel_softmax, tau=0.5)
        self.twice = functools.partial(self.bound, dim=0)
        self.other = functools.partial(F.softmax, dim=-1)

    def forward(self, x):
        return self.direct(x) + self.bound(x) + self.twice(x)


def test_attributes_of_a_model_are_replaced_and_restored():
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), Sampler())
    before, x = dict(vars(model[1])), torch.randn(5, 4)
    with patch(models=[model]) as handle:
        assert fused(model, x)
        assert handle.report() == [
            "torch.nn.functional.gumbel_softmax",
            "Sequential.1.direct",
            "Sequential.1.bound",
            "Sequential.1.twice",
        ]
        assert model[1].other is before["other"]
        assert model[1].twice.keywords == {"tau": 0.5, "dim": 0}
        torch.manual_seed(1)
        drawn = model[1].twice(x)
        torch.manual_seed(1)
        assert torch.equal(drawn, gumbel_softmax(x, 0.5, dim=0))
        kept = copy.deepcopy(model)
    assert all(vars(model[1])[name] is value for name, value in before.items())
    assert not fused(model, x) and not fused(kept, x)
    assert handle.report()[1:] == [f"Sequential.1.{n}" for n in ("direct", "bound", "twice")]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_patches_of_one_model_end_in_any_order(order):
    model, x = Sampler(), torch.randn(5, 4)
    before = dict(vars(model))
    handles = [patch(models=[model]) for _ in range(3)]
    for i in order:
        assert fused(model, x)
        handles[i].undo()
    assert all(vars(model)[name] is value for name, value in before.items())


def test_a_model_made_inside_is_pytorchs_outside_and_patched_again():
    with patch():
        model, x = Sampler(), torch.randn(5, 4)
        assert fused(model, x)
    assert not fused(model, x)
    with patch(models=[model]):
        assert fused(model, x)
    assert model.direct is ORIGINAL and model.twice.func is ORIGINAL


def test_an_attribute_that_other_code_replaced_is_left():
    model = Sampler()
    handle = patch(models=[model])
    model.bound = theirs = functools.partial(F.softmax, dim=-1)
    with pytest.warns(RuntimeWarning, match=r"^Sampler\.bound was replaced after patch\(\)"):
        handle.undo()
    assert model.bound is theirs and model.direct is ORIGINAL


def test_a_patch_does_not_keep_a_model_alive():
    model = Sampler()
    handle, gone = patch(models=[model]), weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    handle.undo()


def test_attention_of_x_transformers_is_patched():
    layers = Decoder(dim=16, depth=2, heads=2, attn_dim_head=8, attn_gumbel_softmax=True)
    model = TransformerWrapper(num_tokens=16, max_seq_len=8, attn_layers=layers)
    tokens = torch.randint(0, 16, (2, 8))
    assert not fused(model, tokens)
    with patch(models=[model]) as handle:
        assert fused(model, tokens)
        model(tokens).sum().backward()
        assert handle.report()[1:] == [
            f"TransformerWrapper.attn_layers.layers.{i}.1.attend.attn_fn" for i in (0, 2)
        ]
    assert not fused(model, tokens)


def test_the_copy_of_groupvit_is_patched():
    config = GroupViTVisionConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=3,
        depths=[1, 1, 1],
        num_group_tokens=[8, 4, 0],
        num_output_groups=[8, 4, 2],
        num_attention_heads=2,
        image_size=16,
        patch_size=4,
    )
    model = modeling_groupvit.GroupViTVisionModel(config).train()
    images, before = torch.randn(2, 3, 16, 16), modeling_groupvit.gumbel_softmax
    assert not fused(model, images)
    name = modeling_groupvit.__name__
    with patch(replace={name: {"gumbel_softmax": None}}) as handle:
        assert fused(model, images)
        model(images).last_hidden_state.sum().backward()
        x = torch.randn(5, 4)
        for call in ((x, 0.5, True, 0), (x, 0.5)):
            torch.manual_seed(1)
            drawn = modeling_groupvit.gumbel_softmax(*call)
            torch.manual_seed(1)
            assert torch.equal(drawn, gumbel_softmax(x, *call[1:3], dim=([*call, -1, -1])[3]))
        assert handle.report()[1:] == [f"{name}.gumbel_softmax"]
    assert modeling_groupvit.gumbel_softmax is before and not fused(model, images)


def module_with(source):
    module = types.ModuleType("a_users_module")
    exec("import torch\nimport functools\nimport torch.nn.functional as F\n" + source, vars(module))
    return module


COPY = """
def sample(x, tau=0.5, *, dim, eps=1e-20):
    if x.dtype is torch.int64:
        return "the copy"
    return (x + torch.rand_like(x)).softmax(dim)
"""


def test_a_copy_gets_its_arguments_by_name_and_keeps_what_the_op_does_not_take():
    module, x = module_with(COPY), torch.randn(5, 4)
    before = module.sample
    with patch(replace={module: {"sample": None}}):
        torch.manual_seed(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            drawn = module.sample(x, dim=0)
        torch.manual_seed(1)
        assert torch.equal(drawn, gumbel_softmax(x, 0.5, dim=0))
        assert fused(module.sample, x=x, tau=torch.tensor(0.3), dim=1)
        assert module.sample(torch.ones(3, dtype=torch.int64), dim=0) == "the copy"
        for wrong in (lambda: module.sample(x), lambda: module.sample(x, x=x, dim=0)):
            with pytest.raises(TypeError, match=r"sample\(\) (missing|got)"):
                wrong()
        with pytest.raises(ValueError, match="tau must be > 0 and finite, got -1"):
            module.sample(x, -1.0, dim=0)
        held = module.sample
        with patch(replace={module: {"sample": lambda x, dim: "given"}}) as given:
            assert module.sample(x, dim=0) == "given"
            assert given.report()[1:] == ["a_users_module.sample"]
        assert module.sample is held
    assert module.sample is before and not fused(held, x, dim=0)


@pytest.mark.parametrize("first", [0, 1])
def test_replacements_of_one_copy_end_in_any_order(first):
    module, x = module_with(COPY), torch.randn(5, 4)
    before = module.sample
    handles = [patch(replace={module: {"sample": each}}) for each in (None, lambda x, dim: "given")]
    handles[first].undo()
    assert fused(module.sample, x, dim=0) if first else module.sample(x, dim=0) == "given"
    handles[1 - first].undo()
    assert module.sample is before


def test_compiled_code_follows_the_patch(monkeypatch):
    module, model, x = module_with(COPY), Sampler(), torch.randn(5, 4)
    monkeypatch.setitem(sys.modules, "a_users_module", module)  # where Dynamo of torch 2.11 looks

    def run(x):
        return module.sample(x, dim=-1) + model(x)

    call, counter = counted(run)
    with patch(models=[model], replace={module: {"sample": None}}):
        call(x)
        call(x)
        assert counter.frame_count == 1
        assert count(counter.graphs[0], "torch_gumbel") == 4
    call(x)
    assert counter.frame_count == 2
    assert count(counter.graphs[1], "torch_gumbel") == 0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"models": Sampler()}, TypeError, "models must be a sequence of torch.nn.Module, got a"),
        ({"models": [F.relu]}, TypeError, "must hold instances of torch.nn.Module, got function"),
        ({"models": [torch.nn.ReLU()]}, ValueError, "ReLU has no attribute that is torch.nn.func"),
        ({"replace": [F]}, TypeError, "replace must be a dict, got list"),
        ({"replace": {3: {}}}, TypeError, "keys of replace must be modules or names, got int"),
        ({"replace": {"types": "a"}}, TypeError, "replace of types must be a dict, got str"),
        ({"replace": {"types": {"a": None}}}, ValueError, "types has no function 'a'"),
        ({"replace": {"copy": {"copy": 3}}}, TypeError, "copy.copy must be a function or None"),
        (
            {"replace": {"copy": {"deepcopy": None}}},
            ValueError,
            r"copy.deepcopy\(x, memo=None, .*\) must take logits and some of tau, hard, eps, and",
        ),
    ],
)
def test_invalid_targets_are_refused_and_nothing_changes(arguments, error, message):
    model = Sampler()
    arguments = {"models": [model], **arguments}
    with pytest.raises(error, match=message):
        patch(**arguments)
    assert F.gumbel_softmax is ORIGINAL and model.direct is ORIGINAL


def test_a_patch_without_arguments_names_holders_of_the_function_once(monkeypatch):
    class Holder(Sampler):
        pass

    module, model = module_with("draw = functools.partial(F.gumbel_softmax, hard=True)"), Holder()
    monkeypatch.setitem(sys.modules, "a_users_module", module)
    monkeypatch.setattr(_patch_targets, "_searched_at", set())
    monkeypatch.setattr(_patch_targets, "_warned_of", set())
    names = {f"{__name__}.{Holder.__qualname__}.{n}" for n in ("direct", "bound", "twice")}
    names.add("a_users_module.draw")
    with pytest.warns(RuntimeWarning, match="hold PyTorch's gumbel_softmax") as seen:
        patch().undo()
    assert seen[0].filename == __file__ and all(n in str(seen[0].message) for n in names)
    assert names <= set(_patch_targets.still_held())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        patch().undo()
        with patch(models=[model], modules=[module]):
            assert not names & set(_patch_targets.still_held())
