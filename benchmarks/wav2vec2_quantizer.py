# SPDX-License-Identifier: Apache-2.0
"""The quantiser of wav2vec 2.0 (base) in training, with and without torch_gumbel.

    python benchmarks/wav2vec2_quantizer.py [--threads 1] [--rounds 7] [--batch 4] [--frames 300]

The model is Hugging Face's: 2 groups of 320 codes, hard samples at temperature 2. With patch() its
code is unchanged, and most of the quantiser's step multiplies every code by its one-hot entry, a
tensor of frames x 640 x 128 numbers, which the patch cannot help: the sampling call is timed alone
as well. replace_quantizers() gathers the codes. The pretraining step has a small encoder (4 layers
of 256) on the quantiser of base. Both ways are timed alternately in one run; a ratio is the median
of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import NamedTuple

import torch
import torch.nn.functional as F
from transformers import Wav2Vec2Config, Wav2Vec2ForPreTraining
from transformers.models.wav2vec2 import modeling_wav2vec2 as wav2vec2

import torch_gumbel
from torch_gumbel import patch
from torch_gumbel.integrations.transformers import replace_quantizers, restore_quantizers

Call = Callable[[], object]
CONFIG = Wav2Vec2Config()  # that of wav2vec2-base
SMALL = Wav2Vec2Config(
    conv_dim=(64,) * 6 + (512,),
    hidden_size=256,
    num_hidden_layers=4,
    num_attention_heads=4,
    intermediate_size=1024,
    layerdrop=0.0,
)


class Step(NamedTuple):
    call: Call
    model: torch.nn.Module


def quantizer_step(batch: int, frames: int) -> Step:
    """Forward and backward of the whole quantiser: projection, sample, codevectors, perplexity."""
    model = torch.nn.ModuleDict({"it": wav2vec2.Wav2Vec2GumbelVectorQuantizer(CONFIG)}).train()
    torch.nn.init.uniform_(model["it"].codevectors)
    hidden = torch.randn(batch, frames, CONFIG.conv_dim[-1], requires_grad=True)
    grad = torch.randn(batch, frames, CONFIG.codevector_dim)

    def step() -> None:
        model.zero_grad()
        codevectors, perplexity = model["it"](hidden)
        torch.autograd.backward([codevectors, perplexity], [grad, torch.ones(())])

    return Step(step, model)


def pretraining_step(batch: int, frames: int) -> Step:
    """Forward, backward, and optimizer of the pretraining of a small model."""
    model = Wav2Vec2ForPreTraining(SMALL).train()
    optimizer = torch.optim.AdamW(model.parameters())
    mask = wav2vec2._compute_mask_indices((batch, frames), 0.65, 10)
    negatives = wav2vec2._sample_negative_indices((batch, frames), SMALL.num_negatives, mask)
    inputs = {
        "input_values": torch.randn(batch, 320 * (frames - 1) + 400),
        "mask_time_indices": torch.from_numpy(mask),
        "sampled_negative_indices": torch.from_numpy(negatives),
    }

    def step() -> None:
        optimizer.zero_grad()
        model(**inputs).loss.backward()
        optimizer.step()

    return Step(step, model)


@contextmanager
def replaced(model: torch.nn.Module) -> Iterator[None]:
    replace_quantizers(model)
    yield
    restore_quantizers(model)


def sampling_step(batch: int, frames: int, backward: bool) -> Call:
    """The call of F.gumbel_softmax inside it alone."""
    rows = batch * frames * CONFIG.num_codevector_groups
    logits = torch.randn(rows, CONFIG.num_codevectors_per_group, requires_grad=True)
    grad = torch.randn_like(logits)

    def step() -> None:
        sample = F.gumbel_softmax(logits, tau=2, hard=True)
        if backward:
            torch.autograd.grad(sample, logits, grad)

    return step


def seconds(call: Call, within: AbstractContextManager[object]) -> float:
    with within:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start


def line(
    what: str, call: Call, rounds: int, ours: Callable[[], AbstractContextManager[object]]
) -> str:
    times = [(seconds(call, ours()), seconds(call, nullcontext())) for _ in range(rounds + 1)][1:]
    mine, theirs = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(t / o for o, t in times)
    return f"| {what} | {mine:.1f} ms | {theirs:.1f} ms | **{ratio:.2f}x** |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--frames", type=int, default=300)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size, rounds = (options.batch, options.frames), options.rounds
    print(
        f"{size[0]} x {size[1]} frames, {options.threads} thread(s), torch {torch.__version__}, "
        f"{torch_gumbel.build_info()['cpu_selected']}, median of {rounds} rounds\n\n"
        "| what | torch_gumbel | transformers | ratio |\n|---|---|---|---|"
    )
    print(line("patch(): sample, forward", sampling_step(*size, False), rounds, patch))
    print(line("patch(): sample, forward + backward", sampling_step(*size, True), rounds, patch))
    steps = {"quantiser": quantizer_step(*size), "pretraining step": pretraining_step(*size)}
    print(line("patch(): quantiser", steps["quantiser"].call, rounds, patch))
    for name, step in steps.items():
        within = functools.partial(replaced, step.model)
        print(line(f"replace_quantizers(): {name}", step.call, rounds, within), flush=True)


if __name__ == "__main__":
    main()
