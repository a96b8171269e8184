"""Lens-JEPA's paper: its runs are valid and comparable, and what is concluded from made-up results."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from made_runs import NAMES, Made
from recipes_valid import CONFIGS, require_valid_runs

from trainers import reproduce
from trainers.command_line import RECIPES, read_recipe, with_values
from trainers.errors import ConfigError
from trainers.models import jepa
from trainers.models.classifier import build_classifier
from trainers.models.pinn import build_pinn
from trainers.reproduction.budget import Level
from trainers.reproduction.lens_jepa.names import PAPER, pretraining_folder
from trainers.reproduction.lens_jepa.protocol import LensJEPAProtocol
from trainers.reproduction.model_table.names import SEEDS, run_folder
from trainers.reproduction.model_table.protocol import Row, changed_preset
from trainers.stored import read_stored

TINY = Path(__file__).parent / "reproduce_lens_jepa_tiny.yaml"
RECIPE_FILES = [TINY, *sorted(RECIPES.glob("reproduce_lens_jepa_*.yaml"))]
LEAST = Level(1.0, 1, 2)


def protocol(path=TINY, **changes):
    return LensJEPAProtocol({**yaml.safe_load(Path(path).read_text()), **changes})


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_every_run_of_every_recipe_has_valid_options(path, tmp_path):
    whole = protocol(path)
    assert require_valid_runs(whole, tmp_path) == len(whole.rows) + len(whole.pretraining_rows())


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_models_beside_one_another_have_equal_steps_and_the_same_images(path):
    whole, alike = protocol(path), {}
    for cell in whole.cells(whole.levels[0]):
        data, _, seed, *pretrain = cell.name.split("/")
        own = {"model", "vit", "optimizer", "encoder"}
        options = {name: value for name, value in cell.options.items() if name not in own}
        alike.setdefault((data, seed, *pretrain), []).append((cell.steps, options))
    assert alike and all(one == same[0] for same in alike.values() for one in same)


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_a_pretrained_network_and_the_same_from_scratch_differ_in_how_they_begin_alone(path, tmp_path):
    whole = protocol(path)
    cells = {cell.name: cell for cell in whole.cells(whole.levels[0])}
    for model in ("ijepa", "lens_jepa"):
        pretrained, scratch = (cells[run_folder("paper", name, 0)] for name in (model, f"{model}_scratch"))
        assert pretrained.after == pretraining_folder("paper", model, 0) and scratch.after is None
        assert pretrained.options == scratch.options and pretrained.steps == scratch.steps
        recipe = pretrained.recipe(tmp_path, 1.0)
        assert recipe["encoder"] == str(tmp_path / pretrained.after) and "model" not in recipe
        before = cells[pretrained.after]
        assert before.options["seed"] != pretrained.options["seed"]
        assert jepa.NAMES[before.options["encoder"]] == scratch.options["model"]
        assert before.options["vit"] == scratch.options["vit"]


@pytest.mark.parametrize("path", RECIPE_FILES[1:], ids=lambda path: path.stem)
def test_paper_mode_has_the_papers_sizes(path):
    whole = protocol(path)
    held = whole.recipe["all"]["validation"]
    assert whole.recipe["stored"] == 9000 and held["test"] == 0.2 * 9000
    cells = {cell.name: cell for cell in whole.cells(whole.levels[0])}
    training, before = cells[run_folder("paper", "ijepa", 0)], cells[pretraining_folder("paper", "ijepa", 0)]
    assert training.options["images"] == whole.epoch == 9000 - sum(held.values())
    assert training.steps * training.options["batch_size"] == pytest.approx(50 * whole.epoch, rel=1e-3)
    assert before.options["images"] == 10_000
    assert whole.stored_sets()[before.options["data"]].images == 10_000 + sum(before.options["validation"].values())
    if "gpu" in path.stem:
        assert float(training.options["optimizer"]["lr"]) == whole.learning_rate
        assert "150" not in whole.about_modes
    else:
        assert "`lens_jepa_a` have 64 pixels a side, of 0.117 arcsec where the paper's 150 are" in whole.about_modes
        assert "`lens_jepa_b` have 64 pixels a side, the middle of the paper's 150." in whole.about_modes


@pytest.mark.parametrize("path", RECIPE_FILES[1:], ids=lambda path: path.stem)
def test_models_take_the_images_of_every_data(path, tmp_path):
    whole = protocol(path)
    for data in ("paper", "honest"):
        shape = whole.preset(data).image_shape
        assert shape == changed_preset(whole.pretraining_data(data)).image_shape
        for model in whole.recipe["models"]:
            [*before, training] = whole.runs(Row(data, model), 0)
            config = read_config(training, tmp_path)
            about = {"name": config.model, "image_shape": list(shape), "classes": 3, "method": "finetune"}
            about |= {"vit": vars(config.vit), "options": getattr(config, "options", {})}
            with torch.device("meta"):
                build_pinn(about) if training.trainer == "pinn" else build_classifier(about, False)
            for cell in before:
                own = read_config(cell, tmp_path)
                jepa.JEPA(jepa.NAMES[own.encoder], shape, own.vit, own.predictor, own.mask)


def read_config(cell, folder):
    (folder / "recipe.yaml").write_text(yaml.safe_dump({**cell.options, "steps": cell.steps}))
    kind = CONFIGS[cell.trainer]
    return with_values(kind(), read_recipe(kind, folder / "recipe.yaml"))


def test_what_is_always_done_is_every_probe_and_the_first_rows_with_three_seeds():
    whole = protocol()
    cells = whole.cells(Level(1.0, 1, 3))
    must = [cell.name for cell in cells if whole.must(cell)]
    assert must == [cell.name for cell in cells[: len(must)]]
    probes = [pretraining_folder("honest", model, seed) for model in ("ijepa", "ijepa_vitsd", "lens_jepa")
              for seed in SEEDS]  # fmt: skip
    assert must[: len(probes)] == probes
    rows = [name for seed in SEEDS for name in (pretraining_folder("paper", "ijepa", seed),
                                                run_folder("paper", "ijepa", seed))]  # fmt: skip
    assert set(must[len(probes) :]) == {*rows, *(run_folder("paper", "resnet18", seed) for seed in SEEDS)}
    assert [cell.name for cell in cells[len(must) :]] == [run_folder("paper", "ijepa_scratch", 0)]
    # a probe is the pretraining of a row too
    assert sum(cell.name == probes[-3] for cell in whole.cells(whole.levels[0])) == 1


def test_only_the_models_that_are_asked_for():
    whole = protocol(only=["lens_jepa"])
    names = {cell.name for cell in whole.cells(LEAST)}
    assert names == {pretraining_folder("honest", "lens_jepa", seed) for seed in SEEDS} | {
        folder("paper", "lens_jepa", seed) for seed in SEEDS for folder in (pretraining_folder, run_folder)
    }
    assert {cell.name for cell in protocol(only=["resnet18"]).cells(LEAST)} == {
        run_folder("paper", "resnet18", seed) for seed in SEEDS
    }


def test_sets_are_stored_to_train_and_to_pretrain_on(tmp_path):
    whole = protocol()
    whole.prepare(tmp_path, [cell for cell in whole.cells(LEAST) if "resnet18" in cell.name], progress=False)
    assert [file.name for file in (tmp_path / "sets").iterdir()] == ["paper.h5"]
    whole.prepare(tmp_path, whole.cells(LEAST), progress=False)
    stored = {file.stem: read_stored(file) for file in (tmp_path / "sets").iterdir()}
    assert {name: len(found) for name, found in stored.items()} == {"paper": 240, "paper_pretrain": 140 + 100}
    assert stored["paper"].pixel_scale == 0.101 and stored["paper_pretrain"].pixel_scale == 0.2


def test_a_recipe_and_models_that_are_none(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    recipe = tmp_path / "recipe.yaml"
    for right, wrong in (
        ("paper resnet18,", "paper resnet19,"),
        ("probes: [honest ijepa,", "probes: [honest resnet18,"),
        ("pretrain: {preset: model_a,", "pretraining: {preset: model_a,"),
    ):
        assert right in TINY.read_text()
        recipe.write_text(TINY.read_text().replace(right, wrong))
        with pytest.raises(ConfigError, match=r"cannot be used as a recipe of lens-jepa.*/reproduce_lens_jepa_"):
            reproduce.main(["lens-jepa", "--recipe", str(recipe), *out])
    with pytest.raises(KeyError, match=r"lens_jeba(.|\n)*lens_jepa"):
        reproduce.main(["lens-jepa", "--models", "lens_jeba", *out])
    with pytest.raises(SystemExit):
        reproduce.main(["ssl", "--models", "ijepa", *out])
    said = " ".join(capsys.readouterr().err.replace("│", "").split())
    assert "--models chooses among the models of lenspinn, lens-jepa; ssl has none" in said
    assert not (tmp_path / "run").exists()


@pytest.fixture
def made(tmp_path):
    """Of the tiny recipe: Lens-JEPA has learnt from its pretraining, I-JEPA has not and once collapsed."""
    results = Made(tmp_path)
    for seed in SEEDS:
        about = {"untrained_feature_rank": 5.0 + seed}
        lens = {"theta_E_rms_arcsec": 0.04, "theta_E_correlation": 0.98}
        lens |= {"k_correlation": {"no_sub": None, "cdm": 0.4 + 0.1 * seed, "axion": 0.7}}
        lens |= {"k_correlation_with_others": {"no_sub": None, "cdm": 0.1, "axion": None}}
        fell = "all are the same" if seed == 1 else ""
        results.pretrained(pretraining_folder("honest", "lens_jepa", seed), 2.0, 0.5, seed, **about, **lens)
        results.pretrained(pretraining_folder("honest", "ijepa", seed), 0.5, 0.5, seed, fell, **about)
        results.trained(run_folder("paper", "ijepa", seed), 2.0, seed)
        results.pretrained(pretraining_folder("paper", "ijepa", seed), 1.0, 1.0, seed, **about)
    results.trained(run_folder("paper", "ijepa_scratch", 0), 1.0, 0)
    return results


def test_conclusions_follow_from_the_runs_null_results_too(made):
    report = protocol().report(made.root, LEAST)
    rows = {(row["data"], row["model"]): row for row in report.results["rows"]}
    assert rows["paper", "ijepa"]["pretrained_on"] == {"images_seen": 6400, "images_distinct": 6400}
    assert "pretrained_on" not in rows["paper", "ijepa_scratch"] and rows["paper", "lens_jepa"]["seeds"] == 0
    [worth] = report.results["differences"]
    assert (worth["one"], worth["other"], worth["seeds"]) == ("ijepa", "ijepa_scratch", 1)
    assert worth["accuracy"]["verdict"] == "better"
    probes = {(row["data"], row["model"]): row for row in report.results["probes"]}
    assert set(probes) == {(row.data, row.model) for row in protocol().pretraining_rows()}
    lens = probes["honest", "lens_jepa"]
    assert lens["gain"]["macro_auc"]["verdict"] == "better" and lens["untrained_feature_rank"] == [5, 6, 7]
    assert lens["k_correlation"] == {"no_sub": None, "cdm": pytest.approx(0.5), "axion": pytest.approx(0.7)}
    assert probes["honest", "ijepa"]["gain"]["macro_auc"]["verdict"] == "undecided"
    [gap] = report.results["probe_differences"]
    assert (gap["data"], gap["one"], gap["other"]) == ("honest", "lens_jepa", "ijepa")
    assert gap["accuracy"]["verdict"] == "better" and gap["one_accuracy"]["value"] > gap["other_accuracy"]["value"]
    text = "\n".join(report.lines)
    assert (
        "| I-JEPA | 7.17 | 3 | 280 (140 different) | 2.0 |" in text and "| 6,400 | 0.9017; 0.98, 0.95, 0.96 |" in text
    )
    assert "- better than the untrained one: Lens-JEPA\n" in text
    assert "- not to be told from the untrained one by these runs: I-JEPA\n" in text
    assert "- I-JEPA collapsed: all are the same" in text and "7.0, 7.0, 7.0 | 5.0, 6.0, 7.0 | better |" in text
    assert "| honest | Lens-JEPA | 3 | 0.980 | 0.040 |" in text
    assert "| honest | Lens-JEPA | 3 | - (-) | +0.50 (+0.10) | +0.70 (-) |" in text
    assert "1e-05 in the paper, is 0.001 for all." in report.introduction
    assert set(report.figures) == {"table.png", "learning_paper.png", "probes.png"}
    for name in report.figures:
        assert (made.root / name).stat().st_size > 10_000
    json.dumps(report.results)


def test_the_papers_figures_stand_in_paper_mode_alone(made):
    report = protocol().report(made.root, LEAST)
    for row in report.results["rows"]:
        assert bool(row["paper"]) == (row["data"] == "paper" and row["model"] in PAPER)
    assert all(
        0.8 < row.accuracy < min(row.auc[0], row.auc[2]) <= 1 and row.auc[1] < row.auc[0] for row in PAPER.values()
    )


def test_nothing_is_reached(tmp_path):
    report = protocol().report(tmp_path, LEAST)
    assert report.figures == [] and "\n".join(report.lines).count("Not measured.") == 3 + 1 + 3 + 1 + 2


@pytest.mark.slow
def test_a_whole_reproduction(tmp_path):
    """The real trainers, a few steps each."""
    recipe = {**yaml.safe_load(TINY.read_text()), "levels": [{"scale": 1.0, "seeds": 1, "rows": 6}]}
    shorter = tmp_path.parent / "shorter.yaml"
    shorter.write_text(yaml.safe_dump(recipe))
    assert reproduce.main(["lens-jepa", "--budget=20", "--out", str(tmp_path), "--recipe", str(shorter)]) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["failed"] == {}
    assert {(row["data"], row["model"]): row["seeds"] for row in table["rows"] if row["seeds"]} == {
        ("paper", "resnet18"): 3, ("paper", "ijepa"): 3, ("paper", "ijepa_scratch"): 1, ("paper", "lens_jepa"): 1,
        ("paper", "lens_jepa_scratch"): 1, ("honest", "lens_jepa"): 1,
    }  # fmt: skip
    probes = {(row["data"], row["model"]): row for row in table["probes"] if row["seeds"]}
    assert {place: row["seeds"] for place, row in probes.items()} == {
        ("honest", "ijepa"): 3, ("honest", "ijepa_vitsd"): 3, ("honest", "lens_jepa"): 3, ("paper", "ijepa"): 3,
        ("paper", "lens_jepa"): 1,
    }  # fmt: skip
    assert set(probes["honest", "lens_jepa"]["k_correlation"]) == set(NAMES)
    assert len(table["probe_differences"]) == 4 and len(table["differences"]) == 3
    for name in ("table.md", "table.png", "probes.png", "learning_paper.png", "learning_honest.png"):
        assert (tmp_path / name).stat().st_size > 500
