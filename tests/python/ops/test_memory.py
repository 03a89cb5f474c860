# SPDX-License-Identifier: Apache-2.0
"""Memory: calls allocate results, 32 bytes per row, and scratch per thread: 64 KiB for rows along
the last dimension, 512 KiB more for long rows that keep weights, at most 1 MiB for others.

With N the size of the logits: a forward takes N, with its backward 2 N; a hard sample that saves
the soft one for its gradient 2 N and 3 N, and with recompute=True N and 2 N."""

import pytest
import torch
from common import FORMS, make_key, run_python
from torch.profiler import ProfilerActivity, profile

from torch_gumbel import gumbel_argmax, gumbel_softmax, gumbel_topk
from torch_gumbel.distributions import RelaxedOneHotCategorical

KEY = make_key(5)
KIB, MIB = 1 << 10, 1 << 20

# The high-water mark of resident memory in a new process, which includes all allocations. First
# calls load pages of code and of the allocator, hence the small call.
MEASURE = """
import sys, torch
from torch_gumbel import gumbel_argmax, gumbel_softmax, key
torch.set_num_threads({threads})

def resident(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith(field)) * 1024

def work(rows, k):
    x = torch.zeros(rows, k, dtype=torch.{dtype}).fill_(0.5)
    grad = torch.zeros_like(x).fill_(0.25)
    what = {what!r}
    x.requires_grad_(what.endswith("backward"))
    torch.ones(1000) + 1
    before = resident("VmRSS")
    if what == "index":
        kept = gumbel_argmax(x, key=key(5))
    else:
        options = {{"hard": what.startswith("hard"), "recompute": "again" in what}}
        kept = [gumbel_softmax(x, 0.5, **options, key=key(5))]
        if what.endswith("backward"):
            kept += torch.autograd.grad(kept[0], x, grad)
    return resident("VmHWM") - before

work(64, 1024)
print(work({rows}, {k}))
"""

SLACK = 2 * MIB  # thread stacks, and unrelated pages of the allocator


def peak(what, rows, k, dtype="float32", threads=2):
    done = run_python(MEASURE.format(**locals()))
    assert done.returncode == 0, done.stderr[-2000:]
    return int(done.stdout)


def allowance(rows, threads=2):
    return 32 * rows + 64 * KIB * threads + SLACK


SHAPES = [(4096, 4096), (64, 262_144), (524_288, 32), (1, 16_777_216)]
HARD = [("hard", 3, shape) for shape in SHAPES] + [
    ("hard again", 2, shape) for shape in SHAPES[::3]
]


@pytest.mark.parametrize(("form", "tensors", "shape"), HARD, ids=str)
def test_hard_forward_and_backward_take_their_results_and_no_more(form, tensors, shape):
    """Allocates the output, the gradient, and, unless it is recomputed, the soft sample; the
    incoming gradient is the caller's.

    A copy of any of them, or stored noise, would add 64 MiB.
    """
    rows, k = shape
    results = tensors * 4 * rows * k
    taken = peak(f"{form} backward", rows, k)
    assert results - SLACK <= taken <= results + allowance(rows)


@pytest.mark.parametrize("what", ["soft", "hard"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_forward_takes_its_output_and_no_more(what, dtype):
    rows, k = 4096, 4096
    output = rows * k * getattr(torch, dtype).itemsize
    assert peak(what, rows, k, dtype) <= output + allowance(rows)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_soft_forward_and_backward_take_their_results_and_no_more(dtype):
    rows, k = 4096, 4096
    results = 2 * rows * k * getattr(torch, dtype).itemsize
    assert peak("soft backward", rows, k, dtype) <= results + allowance(rows)


@pytest.mark.parametrize("shape", [(4096, 4096), (1, 16_777_216)], ids=str)
def test_an_index_takes_no_memory_of_the_size_of_the_logits(shape):
    rows, k = shape
    assert peak("index", rows, k) <= 8 * rows + allowance(rows)


def allocated(run):
    """Every allocation that torch's CPU allocator makes during a call, freed or not."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = run()
    del result
    made = [event.self_cpu_memory_usage for event in profiler.events()]
    return sum(size for size in made if size > 0)


@pytest.mark.parametrize("shape", [(1000, 1000), (100_000, 10), (1, 1_000_000)], ids=str)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dim", [0, 1])
def test_torch_allocates_the_output_the_gradient_and_saved_tensors(shape, form, dim):
    x, grad = torch.randn(shape, requires_grad=True), torch.randn(shape)
    rows, kept = x.numel() // shape[dim], form == "hard"

    def draw():
        return gumbel_softmax(x, 0.5, dim=dim, key=KEY, **FORMS[form])

    n, few = x.numel() * 4, 32 * rows + 4 * KIB
    assert (1 + kept) * n <= allocated(draw) <= (1 + kept) * n + few
    both = allocated(lambda: torch.autograd.grad(draw(), x, grad))
    assert (2 + kept) * n <= both <= (2 + kept) * n + few


@pytest.mark.parametrize("form", FORMS)
def test_without_a_gradient_a_forward_allocates_only_its_output(form):
    leaf, kept = torch.randn(1000, 1000, requires_grad=True), {"key": KEY, **FORMS[form]}
    with torch.no_grad():
        assert allocated(lambda: gumbel_softmax(leaf, 0.5, **kept)) <= 4 * leaf.numel() + 4 * KIB
    x = leaf.detach()
    assert allocated(lambda: gumbel_softmax(x, 0.5, **kept)) <= 4 * x.numel() + 4 * KIB
    with torch.inference_mode():
        assert allocated(lambda: gumbel_softmax(x, 0.5, **kept)) <= 4 * x.numel() + 4 * KIB


@pytest.mark.parametrize("dim", [0, 1])
def test_a_transposed_input_is_not_copied(dim):
    x = torch.randn(1000, 1000).t()
    for hard in (False, True):
        total = allocated(lambda hard=hard: gumbel_softmax(x, 0.5, hard, dim=dim, key=KEY))
        assert total <= 4 * x.numel() + 4 * KIB
    gumbel_argmax(x, dim, key=KEY)
    assert allocated(lambda: gumbel_argmax(x, dim, key=KEY)) == 8 * 1000


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
def test_draws_allocate_only_their_indices(dtype):
    """Exact to the byte. The tensor of a temperature given as a number is kept between calls."""
    for rows, classes in [(1000, 2), (1000, 10), (300, 1000), (2, 100_000)]:
        x, tau = torch.randn(rows, classes, dtype=dtype), torch.rand(rows, 1, dtype=dtype) + 0.5
        for temperature in (1.0, 0.7, 0.0, tau):
            options = {"temperature": temperature, "key": KEY}
            gumbel_argmax(x, **options)
            assert allocated(lambda x=x, o=options: gumbel_argmax(x, **o)) == 8 * rows
            several = allocated(lambda x=x, o=options: gumbel_argmax(x, num_samples=5, **o))
            assert several == 5 * 8 * rows


def test_an_unwanted_gradient_of_tau_is_not_made():
    x, tau = torch.randn(1000, 10, requires_grad=True), torch.rand(1000, 1) + 0.5
    grad = torch.randn(1000, 10)
    for form in FORMS.values():
        y = gumbel_softmax(x, tau, **form, key=KEY)
        total = allocated(lambda y=y: torch.autograd.grad(y, x, grad))
        assert 4 * x.numel() <= total <= 4 * x.numel() + 4 * KIB


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_classes_without_replacement_take_one_tensor_of_noise(temperature):
    x = torch.randn(4, 100_000)
    total = allocated(lambda: gumbel_topk(x, 8, temperature=temperature, key=KEY))
    assert total >= 4 * x.numel()
    if temperature == 1:
        assert total <= 4 * x.numel() + 8 * KIB


@pytest.mark.parametrize("differentiated", [False, True])
def test_logarithms_are_taken_of_probabilities_before_they_are_repeated(differentiated):
    made = RelaxedOneHotCategorical(0.5, torch.rand(1000, requires_grad=differentiated))
    total = allocated(lambda: made.rsample((500,), key=KEY))
    assert total <= 4 * 500_000 + 64 * KIB
