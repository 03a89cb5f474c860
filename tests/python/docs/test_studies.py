# SPDX-License-Identifier: Apache-2.0
"""The studies of examples/: what they measure is right, and each runs to its picture."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


@pytest.fixture
def example(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    threads = torch.get_num_threads()
    yield importlib.import_module
    torch.set_num_threads(threads)
    for name in (
        "estimators",
        "estimator_pictures",
        "l0_pruning",
        "categorical_vae",
        "feature_selection",
    ):
        sys.modules.pop(name, None)


def test_the_sum_over_codes_is_the_mean_of_draws(example):
    study = example("estimators")
    data = study.load_data()
    torch.manual_seed(0)
    model = study.SmallVAE(study.pixel_means(data.train))
    images = data.train[:4]
    with torch.no_grad():
        logits = model.encode(images) * 4
        exact = model.expected_reconstruction(logits, images)
        draws = study.one_hot("zgr").sample(logits.expand(20_000, -1, -1, -1))
        losses = model.reconstruction(draws, images)
    error = losses.std(0) / len(losses) ** 0.5
    assert ((losses.mean(0) - exact).abs() < 5 * error).all()  # fails once in 400,000 runs
    assert (error < 0.02).all()


def test_bias_and_deviation_of_the_estimators_are_in_their_known_order(example):
    """On an untrained model, where the loss is nearly quadratic in the code."""
    study = example("estimators")
    data = study.load_data()
    torch.manual_seed(0)
    model = study.SmallVAE(study.pixel_means(data.train))

    def measured(name, **options):
        return study.measure(
            model, data.train[:16], study.one_hot(name, "", **options).sample, 512, 64
        )

    gumbel, rao = measured("gumbel", tau=0.5), measured("gumbel-rao", tau=0.5, samples=10)
    zgr, reinmax = measured("zgr"), measured("reinmax", tau=1.0)
    assert zgr.bias < 0.12 < 0.2 < measured("gumbel", tau=1.0).bias
    assert abs(zgr.deviation / reinmax.deviation - 1) < 0.1
    assert rao.deviation < 0.8 * gumbel.deviation and rao.cosine > gumbel.cosine


def test_the_estimator_study_prints_its_table_and_draws_its_picture(
    example, tmp_path, capsys, monkeypatch
):
    study = example("estimators")
    monkeypatch.setattr(study, "EPOCHS", 1)
    monkeypatch.setattr(study, "POINTS", (0, 1))
    monkeypatch.setattr(study.measure, "__defaults__", (128, 64))
    study.main(["--seeds", "1", "--out", str(tmp_path / "estimators.png")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(study.ESTIMATORS) + 2
    assert (tmp_path / "estimators.png").stat().st_size > 20_000


def test_pruning_counts_the_gates_that_open_and_with_the_fault_does_not(
    example, tmp_path, capsys, monkeypatch
):
    study = example("l0_pruning")
    monkeypatch.setattr(study, "PENALTIES", (0.1, 10.0))
    monkeypatch.setattr(study, "GATE_LEARNING_RATE", 0.2)
    study.main(["--epochs", "3", "--out", str(tmp_path / "pruning.png")])
    table = capsys.readouterr().out
    # penalty, open units, accuracy, and the expected number of open gates, measured and counted
    row = r"\s+([\d.]+)\s+(\d+)\s+([\d.]+) %\s+([\d.]+)\s+([\d.]+)"
    for name in study.GATES:
        few, many = (
            [float(cell) for cell in cells]
            for cells in reversed(re.findall(re.escape(name) + row, table))
        )
        assert few[1] < many[1] <= study.UNITS
        excess = many[-2] - many[-1]
        if name == "hard concrete":  # 5 standard errors of fair gates: fails once in a million runs
            assert abs(excess) < 5 * (study.UNITS / 4 / study.DRAWS) ** 0.5 + 0.1
        else:
            assert excess > 1.5
    assert (tmp_path / "pruning.png").stat().st_size > 20_000


def test_the_features_that_decide_are_found_and_duplicates_counted(example, monkeypatch):
    """The labels depend on 2 of 20 features."""
    study = example("feature_selection")
    monkeypatch.setattr(study, "EPOCHS", 20)
    torch.manual_seed(0)
    x = torch.randn(800, 20)
    labels = (x[:, 3] > 0).long() * 2 + (x[:, 11] > 0).long()
    data = study.Data("made", 2, x[:600], labels[:600], x[600:], labels[600:])
    assert sorted(study.gumbel_selector(data, 0)) == [3, 11]
    assert study.judged(data, [3, 11]).accuracy > 0.95
    assert study.Choice([3, 3, 5], 0.5).duplicates == 1
    assert len(study.concrete_selectors(data, 0)) == 2


def test_the_study_of_features_prints_its_table_and_draws_its_picture(
    example, tmp_path, capsys, monkeypatch
):
    study = example("feature_selection")
    monkeypatch.setattr(study, "EPOCHS", 1)
    monkeypatch.setattr(study, "TREES", 5)
    study.main(["--seeds", "1", "--out", str(tmp_path / "features.png")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 * (len(study.METHODS) + 1) + 1
    assert (tmp_path / "features.png").stat().st_size > 20_000
