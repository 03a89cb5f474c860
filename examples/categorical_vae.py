# SPDX-License-Identifier: Apache-2.0
"""A variational auto-encoder whose code is ten categorical variables of ten values each.

A draw from a categorical distribution has no gradient. Gumbel-Softmax replaces it in training by
a relaxed draw, a point inside the simplex that moves smoothly with the logits and gets closer to
one-hot as the temperature tau falls. In evaluation every draw is a true one-hot code.

The data are scikit-learn's bundled 8x8 handwritten digits, so nothing is downloaded:

    python examples/categorical_vae.py                 # soft (relaxed) codes in training
    python examples/categorical_vae.py --hard          # one-hot forward, relaxed backward
    python examples/categorical_vae.py --impl torch    # torch.nn.functional.gumbel_softmax

Each run prints the negative ELBO of the held-out fifth of the images, in nats per image, and
writes one picture.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import trange

PIXELS = 64  # 8 x 8
VARIABLES = 10  # N, latent variables
CATEGORIES = 10  # K, values that each of them can take
WIDTH = 256  # hidden units
BATCH = 64
EPOCHS = 200
LEARNING_RATE = 5e-3
WEIGHT_DECAY = 0.1
FLIPPED = 0.05  # share of the encoder's input pixels flipped in training
TAU_MIN = 0.5
ANNEALED = 0.5  # tau reaches TAU_MIN after this share of the training steps
EVALUATE_EVERY = 5  # epochs between two points of the training curve

Sampler = Callable[..., Tensor]  # called as sampler(logits, tau, hard)


class Digits(NamedTuple):
    """Binary images, float 0 or 1: ``train`` (1438, 64) and ``test`` (359, 64); test labels."""

    train: Tensor
    test: Tensor
    test_labels: Tensor


class Elbo(NamedTuple):
    """The two parts of the negative ELBO, in nats per image, as scalar tensors."""

    reconstruction: Tensor
    kl: Tensor

    @property
    def negative(self) -> Tensor:
        return self.reconstruction + self.kl


@dataclass
class Curve:
    """Negative ELBO with one-hot codes, in nats per image, along the training."""

    epochs: list[int]
    train: list[float]
    test: list[float]


def load_data(device: str = "cpu") -> Digits:
    """The digits, binarised, in an 80/20 split that is the same whatever the run's seed."""
    digits = load_digits()
    images = torch.tensor(digits.data > 8, dtype=torch.float32, device=device)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    train, test = order.tensor_split([round(0.8 * len(images))])
    return Digits(images[train], images[test], torch.tensor(digits.target)[test])


def get_sampler(impl: str) -> Sampler:
    """The Gumbel-Softmax to train with; both take (logits, tau, hard) and work on the last dim."""
    if impl == "torch":
        return F.gumbel_softmax
    import torch_gumbel  # here, so that --impl torch runs without it

    return torch_gumbel.gumbel_softmax


class CategoricalVAE(nn.Module):
    """Encoder, sampler, decoder; ``pixel_means`` (64,) is where the decoder starts."""

    def __init__(self, sampler: Sampler, pixel_means: Tensor) -> None:
        super().__init__()
        self.sampler = sampler
        code = VARIABLES * CATEGORIES
        self.encoder = nn.Sequential(nn.Linear(PIXELS, WIDTH), nn.SiLU(), nn.Linear(WIDTH, code))
        self.decoder = nn.Sequential(nn.Linear(code, WIDTH), nn.SiLU(), nn.Linear(WIDTH, PIXELS))
        # With the mean image in the bias, the weights only have to learn what tells images apart.
        with torch.no_grad():
            self.decoder[-1].bias.copy_(torch.logit(pixel_means))

    def encode(self, images: Tensor) -> Tensor:
        """(B, 64) images to (B, N, K) unnormalised log-probabilities."""
        return self.encoder(images).unflatten(-1, (VARIABLES, CATEGORIES))

    def decode(self, codes: Tensor) -> Tensor:
        """(..., N, K) codes, relaxed or one-hot, to (..., 64) pixel logits."""
        return self.decoder(codes.flatten(-2))

    def reconstruct(self, images: Tensor) -> Tensor:
        """(B, 64) images to (B, 64) pixel probabilities, through a one-hot code for each."""
        return self.decode(self.sampler(self.encode(images), 1.0, True)).sigmoid()


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL from the categoricals of (..., N, K) logits to uniform ones, summed over N: (...)."""
    log_q = logits.log_softmax(-1)
    return (log_q.exp() * (log_q + math.log(CATEGORIES))).sum((-2, -1))


def bernoulli_loss(pixel_logits: Tensor, images: Tensor) -> Tensor:
    """-log p(image | pixel logits), summed over the 64 pixels: (..., 64) to (...)."""
    images = images.expand_as(pixel_logits)
    return F.binary_cross_entropy_with_logits(pixel_logits, images, reduction="none").sum(-1)


def training_loss(model: CategoricalVAE, images: Tensor, tau: float, hard: bool) -> Tensor:
    """The relaxed negative ELBO of one batch (B, 64), one sample per image."""
    # 1,438 images are few enough to learn by heart. The encoder therefore sees each of them with
    # other pixels flipped every time, and the decoder must still restore the clean image.
    flips = torch.rand_like(images) < FLIPPED
    logits = model.encode(torch.where(flips, 1 - images, images))
    pixel_logits = model.decode(model.sampler(logits, tau, hard))
    return (bernoulli_loss(pixel_logits, images) + kl_to_uniform(logits)).mean()


@torch.no_grad()
def evaluate(model: CategoricalVAE, images: Tensor, samples: int) -> Elbo:
    """Negative ELBO of (B, 64) images with ``samples`` one-hot codes drawn for each.

    The KL part is exact. The reconstruction part is an average over the draws, which are exact
    too: the largest of the perturbed logits is a draw from the softmax at any temperature.
    """
    logits = model.encode(images)
    codes = model.sampler(logits.expand(samples, -1, -1, -1), 1.0, True)  # (samples, B, N, K)
    return Elbo(bernoulli_loss(model.decode(codes), images).mean(), kl_to_uniform(logits).mean())


def pixel_means(images: Tensor) -> Tensor:
    """(B, 64) images to the (64,) share of them with each pixel on, add-one smoothed."""
    return (images.sum(0) + 1) / (len(images) + 2)  # no pixel is ever quite impossible


def baseline(data: Digits) -> float:
    """Test loss of a model with no code at all: independent pixels with the training means."""
    pixel_logits = pixel_means(data.train).logit().expand_as(data.test)
    return bernoulli_loss(pixel_logits, data.test).mean().item()


def train(
    data: Digits,
    sampler: Sampler,
    *,
    hard: bool = False,
    epochs: int = EPOCHS,
    seed: int = 0,
    progress: bool = True,
    curve_samples: int = 5,
) -> tuple[CategoricalVAE, Curve]:
    """Train for a fixed number of epochs; the test images are watched, never used to choose.

    ``curve_samples`` is the number of codes per image at each point of the curve; 0 skips it.
    """
    torch.manual_seed(seed)
    model = CategoricalVAE(sampler, pixel_means(data.train).cpu()).to(data.train.device)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    steps = epochs * math.ceil(len(data.train) / BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    rate = -math.log(TAU_MIN) / max(1.0, ANNEALED * steps)  # r in tau = max(TAU_MIN, exp(-r t))
    curve = Curve([], [], [])
    step = 0

    def record(epoch: int) -> None:
        curve.epochs.append(epoch)
        curve.train.append(evaluate(model, data.train, curve_samples).negative.item())
        curve.test.append(evaluate(model, data.test, curve_samples).negative.item())

    if curve_samples:
        record(0)
    bar = trange(1, epochs + 1, desc="training", unit="epoch", disable=not progress)
    for epoch in bar:
        for batch in torch.randperm(len(data.train)).split(BATCH):
            tau = max(TAU_MIN, math.exp(-rate * step))
            loss = training_loss(model, data.train[batch], tau, hard)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
        if curve_samples and (epoch % EVALUATE_EVERY == 0 or epoch == epochs):
            record(epoch)
            bar.set_postfix(tau=f"{tau:.2f}", train=f"{curve.train[-1]:.2f}")
    return model, curve


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="A categorical VAE on 8x8 handwritten digits.")
    parser.add_argument("--hard", action="store_true", help="straight-through training")
    parser.add_argument(
        "--impl",
        choices=("fused", "torch"),
        default="fused",
        help="fused: torch_gumbel; torch: torch.nn.functional",
    )
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu", help="cpu, or cuda on a machine that has one")
    parser.add_argument("--out", type=Path, default=Path("categorical_vae.png"))
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> None:
    args = parse_arguments(argv)
    torch.set_num_threads(1)  # the layers are small: a second thread costs more than it brings
    data = load_data(args.device)
    sampler = get_sampler(args.impl)

    start = time.perf_counter()
    model, curve = train(data, sampler, hard=args.hard, epochs=args.epochs, seed=args.seed)
    seconds = time.perf_counter() - start
    score = evaluate(model, data.test, samples=50)

    mode = "hard" if args.hard else "soft"
    per_epoch = seconds / max(1, args.epochs)
    print(f"{args.impl}, {mode}: {args.epochs} epochs in {seconds:.1f} s ({per_epoch:.3f} s each)")
    print(f"test negative ELBO   {score.negative:6.2f} nats")
    print(f"  reconstruction     {score.reconstruction:6.2f}")
    print(f"  KL                 {score.kl:6.2f}")
    print(f"per-pixel baseline   {baseline(data):6.2f} nats")

    from vae_pictures import draw  # here, so that training alone needs no matplotlib

    draw(args.out, model, data, curve, baseline(data), f"{args.impl}, {mode}, seed {args.seed}")
    print(f"picture              {args.out}")


if __name__ == "__main__":
    main()
