# SPDX-License-Identifier: Apache-2.0
"""Which estimator? Bias and variance of every estimator of sample_one_hot, against exact gradients.

A variational auto-encoder of scikit-learn's 8x8 digits has 4 latent variables of 8 classes: 4,096
codes, few enough to sum over, so that the gradient of the expected reconstruction at the encoder's
logits is known exactly. Each estimator draws 1,024 gradients of a batch at three points of a
training run; then it trains five models from different seeds.

    python examples/estimators.py            # 12 rows, some minutes on a CPU
    python examples/estimators.py --seeds 1  # the quick look

Printed are, in units of the true gradient's norm, the bias of the mean gradient and the standard
deviation of one gradient; the mean cosine of both; and the test negative ELBO, exact, in nats per
image. The picture shows bias against deviation.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from categorical_vae import PIXELS, Digits, load_data, pixel_means
from torch import Tensor, nn
from tqdm import tqdm

import torch_gumbel

VARIABLES, CATEGORIES = 4, 8
WIDTH = 128
BATCH = 64
EPOCHS = 60
LEARNING_RATE = 3e-3
DRAWS = 1024
CHUNK = 128  # draws to a backward
POINTS = (0, 10, 60)  # epochs at which gradients are measured

Sample = Callable[[Tensor], Tensor]  # (..., N, K) logits to samples


class Estimator(NamedTuple):
    """An option of the study; ``sample`` None: the expectation itself, no draws."""

    name: str
    setting: str
    sample: Sample | None


class Gradients(NamedTuple):
    """Relative to the norm of the true gradient; ``cosine`` to it, mean over draws."""

    bias: float
    deviation: float
    cosine: float


def one_hot(name: str, setting: str = "", **options: float) -> Estimator:
    return Estimator(
        name, setting, lambda logits: torch_gumbel.sample_one_hot(logits, name, **options)
    )


def relaxed(tau: float) -> Estimator:
    return Estimator(
        "soft sample", f"tau {tau:g}", lambda logits: torch_gumbel.gumbel_softmax(logits, tau)
    )


ESTIMATORS = (
    one_hot("straight-through"),
    one_hot("gumbel", "tau 1", tau=1.0),
    one_hot("gumbel", "tau 0.5", tau=0.5),
    one_hot("gumbel-rao", "tau 0.5", tau=0.5, samples=10),
    one_hot("gumbel-rao", "tau 0.1", tau=0.1, samples=10),
    one_hot("zgr", "= reinmax, tau 1"),
    one_hot("reinmax", "tau 1.3", tau=1.3),
    one_hot("gapped", "gap 1"),
    one_hot("decoupled", "tau 0.5", tau=0.5),
    relaxed(1.0),
    relaxed(0.5),
    Estimator("exact", "all codes", None),
)


class SmallVAE(nn.Module):
    """64 - 128 - 4 x 8 - 128 - 64; ``pixel_means`` (64,) is where the decoder starts."""

    def __init__(self, pixel_means: Tensor) -> None:
        super().__init__()
        code = VARIABLES * CATEGORIES
        self.encoder = nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.SiLU(), nn.Linear(WIDTH, code))
        self.decoder = nn.Sequential(nn.Linear(code, WIDTH), nn.SiLU(), nn.Linear(WIDTH, PIXELS))
        with torch.no_grad():
            self.decoder[-1].bias.copy_(torch.logit(pixel_means))

    def encode(self, images: Tensor) -> Tensor:
        """(B, 64) images to (B, 4, 8) logits."""
        return self.encoder(images).unflatten(-1, (VARIABLES, CATEGORIES))

    def reconstruction(self, codes: Tensor, images: Tensor) -> Tensor:
        """-log p(image | code) in nats: (..., B, 4, 8) codes to (..., B)."""
        return bernoulli_loss(self.decoder(codes.flatten(-2)), images)

    def expected_reconstruction(self, logits: Tensor, images: Tensor) -> Tensor:
        """The same, averaged over all 4,096 codes by their probabilities: (B, 4, 8) to (B,)."""
        codes = torch.cartesian_prod(*[torch.arange(CATEGORIES)] * VARIABLES)  # (4096, 4)
        pixels = self.decoder(F.one_hot(codes, CATEGORIES).flatten(-2).float())
        losses = F.softplus(pixels).sum(-1) - images @ pixels.T  # (B, 4096)
        chosen = codes.T.unsqueeze(0).expand(len(logits), -1, -1)  # (B, 4, 4096)
        return (logits.log_softmax(-1).gather(-1, chosen).sum(1).exp() * losses).sum(-1)


def bernoulli_loss(pixel_logits: Tensor, images: Tensor) -> Tensor:
    images = images.expand_as(pixel_logits)
    return F.binary_cross_entropy_with_logits(pixel_logits, images, reduction="none").sum(-1)


def kl_to_uniform(logits: Tensor) -> Tensor:
    """Summed over the variables, mean over the batch."""
    return torch_gumbel.kl_categorical(logits).sum(-1).mean()


def training_loss(model: SmallVAE, images: Tensor, estimator: Estimator) -> Tensor:
    logits = model.encode(images)
    if estimator.sample is None:
        loss = model.expected_reconstruction(logits, images)
    else:
        loss = model.reconstruction(estimator.sample(logits), images)
    return loss.mean() + kl_to_uniform(logits)


@torch.no_grad()
def negative_elbo(model: SmallVAE, images: Tensor) -> float:
    """Exact, with one-hot codes, in nats per image."""
    logits = model.encode(images)
    return float(model.expected_reconstruction(logits, images).mean() + kl_to_uniform(logits))


def train(
    data: Digits, estimator: Estimator, seed: int, at_epoch: Callable[[int, SmallVAE], None]
) -> SmallVAE:
    torch.manual_seed(seed)
    model = SmallVAE(pixel_means(data.train))
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=0.1)
    steps = EPOCHS * math.ceil(len(data.train) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    at_epoch(0, model)
    for epoch in range(1, EPOCHS + 1):
        for batch in torch.randperm(len(data.train)).split(BATCH):
            optimizer.zero_grad()
            training_loss(model, data.train[batch], estimator).backward()
            optimizer.step()
            schedule.step()
        at_epoch(epoch, model)
    return model


def true_gradient(model: SmallVAE, logits: Tensor, images: Tensor) -> Tensor:
    leaf = logits.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(model.expected_reconstruction(leaf, images).mean(), leaf)
    return gradient


def measure(
    model: SmallVAE, images: Tensor, sample: Sample, draws: int = DRAWS, chunk: int = CHUNK
) -> Gradients:
    """Bias, deviation, and cosine of ``draws`` gradients at the logits of a batch of images."""
    logits = model.encode(images).detach()
    truth = true_gradient(model, logits, images).flatten()
    total, squares, cosines = torch.zeros_like(truth), 0.0, 0.0
    for _ in range(draws // chunk):
        leaf = logits.expand(chunk, *logits.shape).clone().requires_grad_()
        loss = model.reconstruction(sample(leaf), images).sum() / len(images)
        gradients = torch.autograd.grad(loss, leaf)[0].flatten(1)
        total += gradients.sum(0)
        squares += float(gradients.square().sum())
        cosines += float(F.cosine_similarity(gradients, truth, dim=-1).sum())
    mean = total / draws
    variance = squares / draws - float(mean.square().sum())
    # The mean of a finite number of draws is off by variance / draws on its own.
    bias = max(0.0, float((mean - truth).square().sum()) - variance / draws)
    norm = float(truth.norm())
    return Gradients(math.sqrt(bias) / norm, math.sqrt(variance) / norm, cosines / draws)


def gradients_along_training(data: Digits) -> dict[str, list[Gradients]]:
    """For every estimator, at each of POINTS of one run that is trained on exact gradients."""
    found: dict[str, list[Gradients]] = {}
    drawn = [e for e in ESTIMATORS if e.sample is not None]

    def at_epoch(epoch: int, model: SmallVAE) -> None:
        if epoch in POINTS:
            for e in tqdm(drawn, desc=f"gradients, epoch {epoch}", leave=False):
                assert e.sample is not None
                row = measure(model, data.train[:BATCH], e.sample)
                found.setdefault(f"{e.name} {e.setting}", []).append(row)

    train(data, ESTIMATORS[-1], 0, at_epoch)
    return found


def test_losses(data: Digits, seeds: int) -> dict[str, list[float]]:
    runs = [(e, seed) for e in ESTIMATORS for seed in range(seeds)]
    found: dict[str, list[float]] = {}
    for e, seed in tqdm(runs, desc="training", unit="model"):
        model = train(data, e, seed, lambda epoch, model: None)
        found.setdefault(f"{e.name} {e.setting}", []).append(negative_elbo(model, data.test))
    return found


def print_table(gradients: dict[str, list[Gradients]], losses: dict[str, list[float]]) -> None:
    heads = "".join(f"   epoch {epoch:<2}: bias   std  cos" for epoch in POINTS)
    print(f"{'estimator':31}{heads}   test -ELBO")
    for e in ESTIMATORS:
        label = f"{e.name} {e.setting}"
        cells = [
            f"{g.bias:18.3f}{g.deviation:6.2f}{g.cosine:5.2f}" for g in gradients.get(label, [])
        ]
        nats = losses[label]
        spread = statistics.stdev(nats) if len(nats) > 1 else 0.0
        row = "".join(cells) or " " * 29 * len(POINTS)
        print(f"{label:31}{row}   {statistics.mean(nats):6.2f} +- {spread:.2f}")


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Estimators of one-hot samples on a small VAE.")
    parser.add_argument("--seeds", type=int, default=5, help="models trained per estimator")
    parser.add_argument("--out", type=Path, default=Path("estimators.png"))
    args = parser.parse_args(argv)
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it brings
    start = time.perf_counter()
    data = load_data()
    gradients = gradients_along_training(data)
    losses = test_losses(data, args.seeds)
    print_table(gradients, losses)

    from estimator_pictures import draw  # here, so that the figures need no matplotlib

    draw(args.out, POINTS, gradients, losses)
    print(f"picture {args.out}, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
