# SPDX-License-Identifier: Apache-2.0
"""The quantiser of wav2vec 2.0 (base) in training, with and without torch_gumbel.patch().

    python benchmarks/wav2vec2_quantizer.py [--threads 1] [--rounds 7] [--batch 8] [--frames 500]

The model is Hugging Face's, unchanged: 2 groups of 320 codes, hard samples at temperature 2. Most
of its step multiplies every code by its one-hot entry, a tensor of frames x 640 x 128 numbers,
which the patch cannot help: the sampling call is timed alone as well. Both ways are timed
alternately in one run; a ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

import torch_gumbel
from torch_gumbel import patch

Call = Callable[[], object]
CONFIG = Wav2Vec2Config()  # that of wav2vec2-base


def quantizer_step(batch: int, frames: int) -> Call:
    """Forward and backward of the whole quantiser: projection, sample, codevectors, perplexity."""
    quantizer = Wav2Vec2GumbelVectorQuantizer(CONFIG).train()
    torch.nn.init.uniform_(quantizer.codevectors)
    hidden = torch.randn(batch, frames, CONFIG.conv_dim[-1], requires_grad=True)
    grad = torch.randn(batch, frames, CONFIG.codevector_dim)

    def step() -> None:
        quantizer.zero_grad()
        codevectors, perplexity = quantizer(hidden)
        torch.autograd.backward([codevectors, perplexity], [grad, torch.ones(())])

    return step


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


def line(what: str, call: Call, rounds: int) -> str:
    times = [(seconds(call, patch()), seconds(call, nullcontext())) for _ in range(rounds + 1)][1:]
    ours, theirs = (1e3 * statistics.median(t) for t in zip(*times, strict=True))
    ratio = statistics.median(t / o for o, t in times)
    return f"| {what} | {ours:.1f} ms | {theirs:.1f} ms | **{ratio:.2f}x** |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=500)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    size = (options.batch, options.frames)
    print(
        f"{size[0]} x {size[1]} frames, {options.threads} thread(s), torch {torch.__version__}, "
        f"{torch_gumbel.build_info()['cpu_selected']}, median of {options.rounds} rounds\n\n"
        "| what | patched | torch | ratio |\n|---|---|---|---|"
    )
    print(line("sample, forward", sampling_step(*size, False), options.rounds))
    print(line("sample, forward + backward", sampling_step(*size, True), options.rounds))
    print(line("quantiser, forward + backward", quantizer_step(*size), options.rounds))


if __name__ == "__main__":
    main()
