"""The self-supervision paper: its runs are valid and comparable, and what is concluded from made-up results."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from made_runs import Made, estimate
from recipes_valid import require_valid_runs

import lensgen
from lensgen.errors import UnknownNameError
from trainers import reproduce
from trainers.command_line import RECIPES
from trainers.errors import ConfigError
from trainers.reproduction.budget import Cost, Level
from trainers.reproduction.runner import Runner
from trainers.reproduction.ssl.detectability import read_detectability, simulate_detectability
from trainers.reproduction.ssl.names import PAPER
from trainers.reproduction.ssl.protocol import SSLProtocol
from trainers.views import STRENGTHS

TASK_TABLES = ("probes", "classification", "axion_mass")
TINY = Path(__file__).parent / "reproduce_ssl_tiny.yaml"
RECIPE_FILES = [TINY, *sorted(RECIPES.glob("reproduce_ssl_*.yaml"))]


def protocol(path=TINY):
    return SSLProtocol(yaml.safe_load(Path(path).read_text()))


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_every_run_of_every_recipe_has_valid_options(path, tmp_path):
    require_valid_runs(protocol(path), tmp_path)


@pytest.mark.parametrize("path", RECIPE_FILES[1:], ids=lambda path: path.stem)
def test_test_images_and_those_of_the_paper_fit_into_the_stored_set(path):
    recipe = protocol(path).recipe
    held, mass = recipe["all"]["validation"], recipe["regress"]["all"]["validation"]
    every = sum(held[part] for part in ("fit", "score", "test"))
    images = next(data["images"] for data in recipe["data"].values() if "images" in data)
    assert images + every <= recipe["stored"]
    # a third of the images has a mass, give or take five deviations: encoders were pretrained on none of them
    measured = sum(mass[part] for part in ("fit", "score", "test"))
    assert measured <= every / 3 - 5 * (2 / 9 * every) ** 0.5
    there = recipe["stored"] / 3 - 5 * (2 / 9 * recipe["stored"]) ** 0.5
    assert recipe["regress"]["paper"]["images"] + measured <= there


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_methods_see_as_many_images_and_differ_in_nothing_but_themselves(path):
    whole = protocol(path)
    alike = {}
    for cell in whole.cells(whole.levels[0]):
        if cell.trainer == "ssl" and not cell.name.startswith(("control", "comparison")):
            data, encoder, seed, method, _ = cell.name.split("/")
            own = {"method", *whole.recipe["methods"][method]}
            options = {name: value for name, value in cell.options.items() if name not in own}
            alike.setdefault((data, encoder, seed), []).append((cell.steps, options))
    assert alike and all(one == same[0] for same in alike.values() for one in same)


def test_an_encoder_and_its_network_from_scratch_differ_in_how_they_begin_alone():
    whole = protocol()
    cells = {cell.name: cell for cell in whole.cells(whole.levels[0])}
    for task in ("classify", "regress"):
        for method in whole.methods:
            pretrained = cells[f"paper_b/vit/seed0/{method}/{task}"]
            scratch = cells[f"paper_b/vit/seed0/scratch/{task}_{whole.augmentation(task, method)}"]
            assert pretrained.after == f"paper_b/vit/seed0/{method}/ssl" and scratch.after is None
            begins = whole.recipe["encoders"]["vit"]
            assert scratch.options == {**pretrained.options, **begins} and scratch.steps == pretrained.steps
            assert cells[pretrained.after].options["seed"] != pretrained.options["seed"]


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_an_augmentation_that_stands_for_another_is_the_same(path):
    for method, other in protocol(path).recipe["augment"]["classify"].items():
        assert STRENGTHS[method] == STRENGTHS[other]


def test_what_is_always_done_is_every_probe_three_times_the_control_and_the_views():
    whole = protocol()
    cells = whole.cells(Level(0.01, 1, 1))
    must = [cell.name for cell in cells if whole.must(cell)]
    assert len(must) == len(cells) == 2 * 3 + 1 + 2 * 3
    more = whole.cells(Level(0.01, 1, 3))
    assert [cell.name for cell in more[: len(must)]] == must  # those first
    assert not any(whole.must(cell) for cell in more[len(must) :])


def test_sets_are_stored_for_the_runs_that_are_made_and_not_for_rehearsals(tmp_path, monkeypatch):
    stored = []
    monkeypatch.setattr("trainers.reproduction.protocol.store", lambda path, *args: stored.append(path))
    monkeypatch.setattr("trainers.reproduction.ssl.protocol.simulate_detectability", lambda *args: None)
    whole = protocol()
    whole.prepare(tmp_path, whole.rehearsal(whole.levels[0]))
    assert not stored
    whole.prepare(tmp_path, whole.cells(whole.levels[0]))
    assert set(stored) == {tmp_path / "sets/model_b.h5"}
    known = {"ssl byol vit", "classify vit"}
    assert not known & {cell.kind for cell in whole.rehearsal(whole.levels[0], known)}


@pytest.mark.parametrize(("minutes", "rows"), [(1, 2), (50, 4), (600, 6)])
def test_no_run_is_timed_that_the_budget_cannot_reach(minutes, rows, tmp_path, monkeypatch):
    recipe = yaml.safe_load(TINY.read_text())
    rest = [row.replace("vit", "other") for row in recipe["rows"]]
    whole = SSLProtocol(
        {**recipe, "rows": recipe["rows"][:2] + rest[:2] + ["regress paper_b vit", "regress honest_a vit"],
         "encoders": {**recipe["encoders"], "other": {"model": "cnn"}},
         "levels": [{"scale": 1.0, "seeds": 1, "rows": count} for count in (6, 4, 2)]}
    )  # fmt: skip
    timed = []

    def rehearse(protocol, runner, cells):
        timed.extend(cell.kind for cell in cells)
        return {cell.kind: Cost(100.0, 0.0) for cell in cells}

    monkeypatch.setattr(reproduce, "_rehearse", rehearse)
    monkeypatch.setattr(reproduce, "seconds_since_start", lambda: 0.0)
    config = reproduce.Reproduce("ssl", budget=minutes)
    plan = reproduce.make_plan(config, whole, Runner(tmp_path, {}, 1))
    assert len(set(timed)) == len(timed) and set(timed) == set(plan.costs)
    assert plan.level.rows == rows
    # the least is always timed, and of the others those that may fit by what is known
    assert any("other" in kind for kind in timed) == (minutes > 1)


def test_a_paper_that_is_none_and_a_row_that_is_none(tmp_path):
    with pytest.raises(UnknownNameError, match=r"(?s)sls.*ssl"):
        reproduce.main(["sls", "--out", str(tmp_path)])
    recipe = tmp_path / "recipe.yaml"
    changes = [("ssl paper_b vit", wrong) for wrong in ("ssl paper_c vit", "pretrain paper_b vit", "ssl paper_b")]
    for right, wrong in [*changes, ("data: [honest_a]", "data: [paper_b]")]:
        recipe.write_text(TINY.read_text().replace(right, wrong))
        with pytest.raises(ConfigError, match=r"cannot be used as a recipe of ssl.*reproduce_ssl_"):
            reproduce.main(["ssl", "--out", str(tmp_path / "run"), "--recipe", str(recipe)])


class MadeSSL(Made):
    """Those of this paper besides."""

    def __init__(self, root):
        super().__init__(root)
        rng = np.random.default_rng(1)
        self.truth = rng.uniform(-24, -22, len(self.index))
        self.detectability = np.exp(rng.normal(3, 2, len(self.index)))
        (root / "sets").mkdir()
        self.detectable("honest_a", self.detectability[:200])

    def detectable(self, data, chi_square):
        path = self.root / "sets" / f"detectability_{data}.npz"
        np.savez(path, index=self.index[: len(chi_square)], detectability=chi_square)

    def pretraining(self, name, strength, untrained, seed, collapse=""):
        last = {"feature_rank": 6.5, "projection_deviation": 0.7, "projection_rank": 9.0}
        self.pretrained(name, strength, untrained, seed, collapse, alignment=0.1, uniformity=-2.0, last=last)

    def classifier(self, name, auc, strength, seed):
        metrics = {"macro_auc": estimate(auc), "accuracy": estimate(auc - 0.1)}
        self.write(name, metrics, label=self.label, probability=self.probability(strength, seed))

    def regressor(self, name, error, seed, near=None):
        noise = np.random.default_rng(seed).normal(0, error, len(self.truth))
        # of a network that knows little little is said
        predicted = -23 + (self.truth + 23 + noise) / (1 + error**2)
        rmse = float(np.sqrt(np.mean((predicted - self.truth) ** 2)))
        metrics = {"rmse_dex": estimate(rmse), "rmse_dex_near": near or estimate(rmse), "prior_rmse_dex": 0.58}
        metrics |= {"prior_rmse_dex_near": 0.14, "r2": 0.3, "z_std": 1.1, "coverage_68": 0.66, "coverage_95": 0.94}
        self.write(name, metrics, truth=self.truth, predicted=predicted, sigma=np.full(len(self.truth), error))


@pytest.fixture
def made(tmp_path):
    """Of the tiny recipe all but honest mode: byol is better than untrained, simclr is not, nothing is collapsed."""
    results = MadeSSL(tmp_path)
    for seed in (0, 1, 2):
        results.pretraining(f"paper_b/vit/seed{seed}/byol/ssl", 2.0, 0.5, seed)
        results.pretraining(f"paper_b/vit/seed{seed}/simclr/ssl", 0.5, 0.5, seed)
        for views, strength in (
            ("augment", 0.2),
            ("simulate", 1.5 * (results.detectability > 20) * (results.label > 0)),
        ):
            for cell in protocol().comparison("honest_a", views)[seed : seed + 1]:
                results.pretraining(cell.name, strength, 0.0, seed)
    results.pretraining("control/seed0", 0.0, 0.5, 0, "all projections are the same")
    for method, strength in (("byol", 2.5), ("simclr", 0.8)):
        results.classifier(f"paper_b/vit/seed0/{method}/classify", 0.95, strength, 1)
        results.classifier(f"paper_b/vit/seed0/scratch/classify_{method}", 0.9, 0.8, 2)
        results.regressor(f"paper_b/vit/seed0/{method}/regress", {"byol": 0.2, "simclr": 0.6}[method], 3)
    nothing = {"value": None, "low": None, "high": None}
    results.regressor("paper_b/vit/seed0/scratch/regress_byol", 0.6, 4, nothing)
    return results


def test_conclusions_follow_from_the_runs_null_results_too(made):
    report = protocol().report(made.root, Level(1.0, 1, 3))
    rows = {(row["data"], row["method"]): row for row in report.results["probes"]}
    assert rows["paper_b", "byol"]["gain"]["macro_auc"]["verdict"] == "better"
    assert rows["paper_b", "simclr"]["gain"]["macro_auc"]["verdict"] == "undecided"
    assert rows["paper_b", "byol"]["seeds"] == 3 and rows["honest_a", "byol"]["seeds"] == 0
    text = "\n".join(report.lines)
    assert "better than the untrained one: byol (vit)" in text
    assert "not to be told from the untrained one by these runs: simclr (vit)" in text
    assert "Of 12 pretrained encoders none collapsed." in text
    assert "| byol, vit, paper mode, Model B | 0.70, 0.70, 0.70 | 9.0, 9.0, 9.0 |" in text
    assert "byol without ema and predictor, is reported as collapsed, as it must be: all projections are" in text
    classes = {row["method"]: row for row in report.results["classification"] if row["data"] == "paper_b"}
    assert classes["byol"]["gain"]["macro_auc"]["verdict"] == "better"
    assert classes["simclr"]["gain"]["macro_auc"]["verdict"] == "undecided"
    masses = {row["method"]: row for row in report.results["axion_mass"] if row["data"] == "paper_b"}
    assert masses["byol"]["gain"]["verdict"] == "better" and masses["byol"]["gain"]["value"] < 0
    assert masses["byol"]["self_supervised"]["against_prior"] == "better"
    assert masses["simclr"]["gain"]["verdict"] == "undecided"
    assert masses["byol"]["supervised"]["rmse_dex_near"] is None
    assert "truth" not in masses["byol"]["supervised"]
    for name in report.figures:
        assert (made.root / name).stat().st_size > 10_000
    assert set(report.figures) == {"table.png", "predicted.png", "simulate_or_augment.png"}


def test_simulated_views_win_where_the_substructure_can_be_seen(made):
    [found] = protocol().report(made.root, Level(1.0, 1, 3)).results["views"]
    [gap] = found["differences"]
    assert (gap["views"], gap["than"], gap["equal"]) == ("simulate", "augment", "lenses")
    assert gap["macro_auc"]["verdict"] == "better"
    assert gap["by_detectability"][-1]["verdict"] == "better" and gap["by_detectability"][0]["verdict"] != "better"
    bins = found["views"]["simulate"]["by_detectability"]
    assert [bin["detectability"] for bin in bins] == sorted(bin["detectability"] for bin in bins)
    assert sum(bin["images"] for bin in bins) == (made.label[:200] > 0).sum()
    assert bins[-1]["value"] > bins[0]["value"]


def test_without_noise_there_is_no_detectability_to_compare_by(made):
    made.detectable("honest_a", np.where(made.label[:200] > 0, np.inf, 0))
    report = protocol().report(made.root, Level(1.0, 1, 3))
    assert report.results["views"][0]["differences"][0]["by_detectability"] == []
    assert (made.root / "simulate_or_augment.png").stat().st_size > 5_000


def test_detectability_is_that_of_the_test_images_and_simulated_once(tmp_path, monkeypatch):
    simulate_detectability(tmp_path, "honest_a", "model_a", [], 5, progress=False)
    test = lensgen.benchmark("model_a", "test", 9)
    index = torch.cat([batch.index for batch in test.batches()]).numpy()
    found = read_detectability(tmp_path, "honest_a", index)
    truth = test.simulator.with_outputs("detectability").batch(indices=torch.from_numpy(index[:5]))
    np.testing.assert_allclose(found, truth.maps["detectability"].flatten().cpu().numpy(), rtol=1e-4)
    with pytest.raises(AssertionError):
        read_detectability(tmp_path, "honest_a", index + 1)
    monkeypatch.setattr(lensgen, "benchmark", lambda *args: pytest.fail("it is there already"))
    simulate_detectability(tmp_path, "honest_a", "model_a", [], 5, progress=False)


def test_the_papers_figures_stand_in_paper_mode_alone(made):
    report = protocol().report(made.root, Level(1.0, 1, 3))
    for row in report.results["classification"]:
        assert bool(row["paper"]) == (row["data"] == "paper_b" and row["method"] == "byol")
    tables = "\n".join(report.lines).split("### ")
    [paper] = [table for table in tables if table.startswith("Paper mode")]
    [honest] = [table for table in tables if table.startswith("Honest mode")]
    assert "0.960 (0.963)" in paper and "the paper" not in honest
    assert all(
        0.9 < row.self_supervised[model] < 1 for rows in PAPER.values() for row in rows.values() for model in (0, 1)
    )


def test_nothing_is_reached_and_a_control_that_does_not_fall_is_said(made, tmp_path):
    report = protocol().report(tmp_path / "empty", Level(1.0, 1, 3))
    assert report.figures == [] and "\n".join(report.lines).count("Not reached.") >= 5
    metrics = json.loads((made.root / "control/seed0/metrics.json").read_text())
    (made.root / "control/seed0/metrics.json").write_text(json.dumps({**metrics, "collapsed": False, "collapse": ""}))
    byol = made.root / "paper_b/vit/seed1/byol/ssl/metrics.json"
    byol.write_text(json.dumps({**json.loads(byol.read_text()), "collapsed": True, "collapse": "a line"}))
    text = "\n".join(protocol().report(made.root, Level(1.0, 1, 3)).lines)
    assert "is NOT reported as collapsed" in text
    assert "Of 12 pretrained encoders 1 collapsed:\n\n- byol, vit, paper mode, Model B: a line" in text


@pytest.mark.slow
def test_a_whole_reproduction(tmp_path):
    """The real trainers, a few steps each."""
    argv = ["ssl", "--budget=20", "--out", str(tmp_path), "--recipe", str(TINY)]
    recipe = yaml.safe_load(TINY.read_text())
    shorter = tmp_path.parent / "shorter.yaml"
    shorter.write_text(yaml.safe_dump({**recipe, "levels": [{"scale": 1.0, "seeds": 1, "rows": 3}]}))
    argv[-1] = str(shorter)
    assert reproduce.main(argv) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["failed"] == {}
    reached = {part: {(row["data"], row["method"]) for row in table[part] if row["seeds"]} for part in TASK_TABLES}
    assert reached["classification"] == reached["axion_mass"] == {("paper_b", "byol"), ("paper_b", "simclr")}
    # augmented views of the comparison are a later row's runs
    assert reached["probes"] == reached["axion_mass"] | {("honest_a", "simclr")}
    assert table["control"] and table["views"][0]["differences"][0]["by_detectability"]
    for name in ("table.md", "table.png", "predicted.png", "simulate_or_augment.png"):
        assert (tmp_path / name).stat().st_size > 500
