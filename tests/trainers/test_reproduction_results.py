"""What is concluded from runs: differences of pairs, means of seeds, costs, and stored sets against the stream."""

import json
import math

import numpy as np
import pytest
import torch

from trainers import classify, reproduce
from trainers.metrics import class_aucs
from trainers.reproduction.budget import Level
from trainers.reproduction.cell import Cell
from trainers.reproduction.mae.comparison import compare
from trainers.reproduction.mae.figures import draw_comparison
from trainers.reproduction.mae.names import COMPARISON_SEEDS, SOURCES
from trainers.reproduction.mae.protocol import MAEProtocol
from trainers.reproduction.mae.results import collect, comparison_words, conclusions
from trainers.reproduction.paired import auc_difference, dense_ranks, mean_difference


def probabilities(label, strength, seed):
    """Of a classifier that sees the class through noise."""
    rng = np.random.default_rng(seed)
    logits = strength * np.eye(3)[label] + rng.normal(size=(len(label), 3))
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def test_the_difference_of_two_classifiers_has_its_sign_and_its_size():
    label = np.random.default_rng(0).integers(0, 3, 600)
    good, poor = ([probabilities(label, strength, seed) for seed in (1, 2, 3)] for strength in (2.0, 0.5))
    ranks = {"good": [dense_ranks(p) for p in good], "poor": [dense_ranks(p) for p in poor]}
    gap = auc_difference(ranks["good"], ranks["poor"], label)

    def mean_auc(networks):
        return np.mean([class_aucs(torch.from_numpy(p), torch.from_numpy(label)).mean() for p in networks])

    assert gap["value"] == pytest.approx(mean_auc(good) - mean_auc(poor), abs=1e-6)
    assert 0 < gap["low"] < gap["value"] < gap["high"]
    other = auc_difference(ranks["poor"], ranks["good"], label)
    assert other["value"] == pytest.approx(-gap["value"]) and other["high"] < 0
    same = auc_difference(ranks["good"], ranks["good"], label)
    assert same == {"value": 0, "low": 0, "high": 0}  # pair by pair


def test_pairs_tell_what_the_spread_of_images_hides_and_seeds_count():
    images = np.random.default_rng(0).normal(30, 5, 500)  # decibels; lenses differ by more than methods
    gap = mean_difference([images + 0.3], [images])
    assert gap == {"value": pytest.approx(0.3), "low": pytest.approx(0.3), "high": pytest.approx(0.3)}
    # the seeds of one method lie on both sides of the other: what one pair is sure of, three are not
    apart = mean_difference([images + 2, images - 1, images], [images, images + 0.1, images - 0.1])
    assert apart["low"] < 0 < apart["high"]


def test_the_interval_of_three_seeds_holds_what_it_says():
    """Where seeds differ by more than images: the truth is 0, and is to be inside 95 times in 100."""
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        one, other = ([rng.normal(0, 1) + rng.normal(0, 0.1, 10) for _ in range(3)] for _ in range(2))
        gap = mean_difference(one, other)
        held += gap["low"] < 0 < gap["high"]
    assert held / 200 > 0.91


def write_row(root, mode, row, seed, auc, psnr):
    """The results of a row's runs, as the trainers write them."""
    folder, label, index = root / mode / f"seed{seed}" / row, np.arange(90) % 3, np.arange(90)
    figure = {"value": psnr, "low": psnr - 1, "high": psnr + 1}
    table = {name: {"psnr": figure, "ssim": figure} for name in ("prediction", "bicubic")}
    classified = {"value": auc, "low": auc - 0.1, "high": auc + 0.1}
    metrics = {
        "classify": {"macro_auc": classified, "accuracy": classified},
        "superres": {"own_range": table, "data_range": table},
    }
    for task, content in metrics.items():
        (folder / task).mkdir(parents=True)
        (folder / task / "summary.json").write_text(json.dumps({"images_seen": 640, "images_distinct": 600}))
        (folder / task / "metrics.json").write_text(json.dumps(content))
    probability = probabilities(label, 8 * (auc - 0.5), seed)
    np.savez(folder / "classify/predictions.npz", index=index, label=label, probability=probability)
    scores = psnr + 0.1 * np.random.default_rng(seed).normal(size=90)
    np.savez(folder / "superres/scores.npz", index=index, own_range_psnr=scores, data_range_psnr=scores)


def test_rows_and_conclusions_follow_from_the_runs(tmp_path):
    for seed in (0, 1, 2):
        write_row(tmp_path, "paper", "scratch", seed, 0.6, 30 + 0.1 * seed)
        write_row(tmp_path, "paper", "mask_0.9", seed, 0.9, 33)
    write_row(tmp_path, "paper", "mask_0.5", 0, 0.8, 34)  # of this row one seed only
    protocol = MAEProtocol({"rows": ["scratch", 0.5, 0.9], "modes": {"paper": {}, "honest": {}}})
    rows = {(row["mode"], row["row"]): row for row in collect(tmp_path, protocol, Level(1.0, 3, 3))}
    scratch = rows["paper", "scratch"]
    assert scratch["seeds"] == 3 and rows["paper", "0.5"]["seeds"] == 1 and rows["honest", "0.9"]["seeds"] == 0
    half = math.hypot(1.0, 4.3027 * 0.1 / 3**0.5)  # of the images, and Student's t of three seeds' standard error
    assert scratch["psnr"] == pytest.approx({"value": 30.1, "low": 30.1 - half, "high": 30.1 + half}, abs=1e-3)
    assert scratch["images"]["classify"] == 640 and scratch["images"]["classify_distinct"] == 600
    found = {(c["one"], c["other"], c["figure"]): c for c in conclusions(tmp_path, rows.values())}
    assert found["0.9", "scratch", "macro_auc"]["verdict"] == "above"
    assert found["0.9", "scratch", "psnr"]["verdict"] == "above"
    assert found["0.9", "0.5", "psnr"]["verdict"] == "below"
    assert found["0.9", "0.5", "psnr"]["seeds"] == 1 and found["0.9", "scratch", "psnr"]["seeds"] == 3
    assert found["0.9", "scratch", "psnr"]["value"] == pytest.approx(2.9, abs=0.05)


def test_what_a_run_costs_is_split_into_steps_and_the_rest(tmp_path):
    cell = Cell("a", "mae", "k", 24, {"batch_size": 10, "log_every": 4, "validate_every": 4, "checkpoint_every": 2})
    (tmp_path / "a").mkdir()
    rates = [1] * 4 + [100] * 20  # the first report paid for compilation
    rows = [f"{number},{rate}" for number, rate in enumerate(rates, 1)]
    (tmp_path / "a" / "train.csv").write_text("step,images_per_second\n" + "\n".join(rows) + "\n")
    cost = reproduce._cost(tmp_path, cell, 10.0)
    assert (cost.step, cost.fixed) == (pytest.approx(0.1), pytest.approx(10 - 24 * 0.1))


@pytest.mark.slow
def test_sources_are_compared_on_the_same_images_at_the_same_steps(tmp_path, tiny):
    flags = [flag for flag in tiny if not flag.startswith("--decoder")]
    # validated more often than saved: each run keeps its best besides, at a step of its own
    flags += ["--stream", "--preset=deeplense_ii_legacy", "--model=cnn", "--augment=none", "--steps=12",
              "--validate-every=2", "--checkpoint-every=4", "--keep=9"]  # fmt: skip
    for seed in COMPARISON_SEEDS:
        for source in SOURCES:
            out = f"--out={tmp_path}/comparison/seed{seed}/{source}"
            assert classify.main([*flags, f"--seed={seed}", out]) == 0
    recipe = {"modes": {"paper": {"preset": "deeplense_ii_legacy"}}, "all": {"validation": {"test": 60}}}
    found = compare(tmp_path, MAEProtocol(recipe), progress=False)
    for part in found["sources"].values():
        assert {4, 8, 12} <= set(part["steps"]) and {len(curve) for curve in part["auc"]} == {len(part["steps"])}
    # the three sources were the same runs here
    assert found["stream_minus"]["stored_scaled"]["value"] == pytest.approx(0, abs=1e-9)
    assert "undecided" in "".join(comparison_words(found))
    draw_comparison(tmp_path / "figure.png", found)
