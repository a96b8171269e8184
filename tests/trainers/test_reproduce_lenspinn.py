"""LensPINN's paper: its runs are valid and comparable, and what is concluded from made-up results."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from made_runs import Made
from recipes_valid import require_valid_runs

from trainers import reproduce
from trainers.command_line import RECIPES
from trainers.errors import ConfigError
from trainers.models.classifier import build_classifier
from trainers.models.pinn import build_pinn
from trainers.reproduction.budget import Level
from trainers.reproduction.lenspinn.names import PAPER
from trainers.reproduction.lenspinn.protocol import LensPINNProtocol
from trainers.reproduction.model_table.names import SEEDS, run_folder
from trainers.stored import read_stored

TINY = Path(__file__).parent / "reproduce_lenspinn_tiny.yaml"
RECIPE_FILES = [TINY, *sorted(RECIPES.glob("reproduce_lenspinn_*.yaml"))]
HALF = Level(1.0, 1, 5)


def protocol(path=TINY, **changes):
    return LensPINNProtocol({**yaml.safe_load(Path(path).read_text()), **changes})


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_every_run_of_every_recipe_has_valid_options(path, tmp_path):
    whole = protocol(path)
    assert require_valid_runs(whole, tmp_path) == len(whole.rows)


@pytest.mark.parametrize("path", RECIPE_FILES, ids=lambda path: path.stem)
def test_models_beside_one_another_have_equal_steps_and_the_same_images(path):
    whole, alike = protocol(path), {}
    for cell in whole.cells(whole.levels[0]):
        data, _, seed = cell.name.split("/")
        own = {"model", "vit", "optimizer", "preprocessing", "physics", "hard", "floor"}
        options = {name: value for name, value in cell.options.items() if name not in own}
        alike.setdefault((data, seed), []).append((cell.steps, options))
    assert alike and all(one == same[0] for same in alike.values() for one in same)


@pytest.mark.parametrize("path", RECIPE_FILES[1:], ids=lambda path: path.stem)
def test_paper_mode_has_the_papers_sizes(path):
    whole = protocol(path)
    held = whole.recipe["all"]["validation"]
    assert whole.recipe["stored"] == 9000 and held["test"] == 0.2 * 9000
    assert whole.epoch == 9000 - sum(held.values())  # validation is taken from the 80 %
    [cell] = [cell for cell in whole.cells(whole.levels[0]) if cell.name == run_folder("paper", "vit", 0)]
    assert cell.options["images"] == whole.epoch
    assert cell.steps * cell.options["batch_size"] == pytest.approx(50 * whole.epoch, rel=1e-3)
    assert "set" not in cell.options and whole.data("paper")["set"] == ["noise.recipe=none"]


@pytest.mark.parametrize("model", PAPER)
def test_models_of_the_recipe_are_those_of_the_paper(model):
    recipe = dict(protocol(RECIPE_FILES[1]).recipe["models"][model])
    about = {"name": recipe["model"], "image_shape": [1, 64, 64], "classes": 3, "method": "finetune", "vit": {}}
    pinn = recipe["trainer"] == "pinn"
    network = build_pinn({**about, "options": {}}) if pinn else build_classifier(about, False)
    parameters = sum(parameter.numel() for parameter in network.parameters())
    assert parameters / 1e6 == pytest.approx(PAPER[model].parameters, abs=0.09 if model == "lensformer" else 0.01)


def test_the_first_rows_are_always_done_with_three_seeds():
    whole = protocol()
    cells = whole.cells(HALF)
    must = [cell.name for cell in cells if whole.must(cell)]
    assert must == [cell.name for cell in cells[: len(must)]]
    assert set(must) == {run_folder("paper", model, seed) for model in ("resnet18", "lenspinn_small") for seed in SEEDS}
    assert {cell.name for cell in cells[len(must) :]} == {
        run_folder("honest", model, 0) for model in ("resnet18", "lenspinn_small", "lenspinn_small_plain")
    }


def test_only_the_models_that_are_asked_for():
    whole = protocol(only=["lenspinn_small_plain"])
    assert {cell.name for cell in whole.cells(HALF)} == {
        run_folder("honest", "lenspinn_small_plain", seed) for seed in SEEDS
    }
    assert all(whole.must(cell) for cell in whole.cells(HALF))


def test_data_like_other_data_has_its_changes_too():
    whole = protocol()
    assert whole.data("honest_noiseless") == {
        "like": "honest",
        "mode": "honest",
        "preset": "model_a",
        "set": ["source.magnitude.truncated_normal.mean=19", "noise.recipe=none"],
    }
    by_name = {cell.name: cell for cell in whole.cells(whole.levels[0])}
    assert by_name["honest_noiseless/lenspinn_small/seed0"].steps == 8 == by_name["honest/resnet18/seed0"].steps / 2


def test_stored_sets_have_the_changes_of_their_data_and_streams_need_none(tmp_path):
    whole = protocol(stored=30)
    whole.prepare(tmp_path, whole.cells(HALF), progress=False)
    [file] = (tmp_path / "sets").iterdir()
    stored = read_stored(file)
    assert len(stored) == 30 and file.name == "paper.h5"
    corner = stored.image[:, 0, :4, :4]
    assert float(corner.std()) < 1e-3 * float(stored.image.std())  # no noise


def test_a_recipe_and_models_that_are_none(tmp_path, capsys):
    out = ["--out", str(tmp_path / "run")]
    recipe = tmp_path / "recipe.yaml"
    for right, wrong in (
        ("paper resnet18", "paper resnet19"),
        ("paper resnet18", "papers resnet18"),
        ("{mode: honest,", "{mode: honesty,"),
    ):
        assert right in TINY.read_text()
        recipe.write_text(TINY.read_text().replace(right, wrong))
        with pytest.raises(ConfigError, match=r"cannot be used as a recipe of lenspinn.*reproduce_lenspinn_"):
            reproduce.main(["lenspinn", "--recipe", str(recipe), *out])
    with pytest.raises(KeyError, match=r"resnet19(.|\n)*resnet18"):
        reproduce.main(["lenspinn", "--models", "resnet19", *out])
    with pytest.raises(SystemExit):
        reproduce.main(["mae", "--models", "resnet18", *out])
    assert "--models chooses among the models of lenspinn, " in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_models_that_were_asked_for_are_kept_with_the_recipe(tmp_path):
    config = reproduce.Reproduce("lenspinn", recipe=str(TINY), models=("resnet18",))
    assert reproduce.open_protocol(config, tmp_path).recipe["only"] == ["resnet18"]
    # what is kept is a recipe of its own
    kept = reproduce.Reproduce("lenspinn", recipe=str(tmp_path / "recipe.yaml"))
    assert reproduce.open_protocol(kept, tmp_path / "other").recipe["only"] == ["resnet18"]
    with pytest.raises(ConfigError, match="is not the recipe"):
        reproduce.open_protocol(reproduce.Reproduce("lenspinn", recipe=str(TINY)), tmp_path)


@pytest.fixture
def made(tmp_path):
    results = Made(tmp_path)
    for seed in SEEDS:
        results.trained(run_folder("paper", "resnet18", seed), 1.0, seed)
        results.trained(run_folder("paper", "lenspinn_small", seed), 3.0, seed, theta_E_rms_arcsec=0.05)
    for model, correlation in (("lenspinn_small", 0.98), ("lenspinn_small_plain", 0.97)):
        lens = {"theta_E_rms_arcsec": 0.04, "theta_E_correlation": correlation}
        results.trained(run_folder("honest", model, 0), 1.0, 0, **lens)
    return results


def test_conclusions_follow_from_the_runs_null_results_too(made):
    report = protocol().report(made.root, HALF)
    rows = {(row["data"], row["model"]): row for row in report.results["rows"]}
    pinn = rows["paper", "lenspinn_small"]
    assert pinn["seeds"] == 3 and pinn["epochs"] == 2 and pinn["seconds_per_epoch"] == 140 / 14
    assert rows["honest", "lenspinn_small"]["seconds_per_epoch"] == 140 / 14  # as the fastest elsewhere
    assert pinn["f1_micro"] == pytest.approx(pinn["accuracy"]["value"])  # of the probabilities, by scikit-learn
    assert pinn["curves"]["f1"]["epochs"] == [0, 2]
    np.testing.assert_allclose(pinn["curves"]["f1"]["mean"], [0.31, 0.8])
    assert rows["streamed", "lenspinn_small"]["seeds"] == 0
    gaps = {(gap["data"], gap["other"]): gap for gap in report.results["differences"]}
    assert gaps["paper", "resnet18"]["accuracy"]["verdict"] == "better" and gaps["paper", "resnet18"]["seeds"] == 3
    # the same probabilities
    assert gaps["honest", "lenspinn_small_plain"]["accuracy"]["value"] == 0
    assert gaps["honest", "lenspinn_small_plain"]["accuracy"]["verdict"] == "undecided"
    text = "\n".join(report.lines)
    assert "| LensPINN small | 7.17 | 3 | 280 (140 different) | 2.0 |" in text
    assert "| 7.17, 0.956, 0.957; 1.00, 0.99, 0.99 |" in text
    assert "| paper | LensPINN small | 3 | all alike | 0.050 |" in text
    assert "| honest | LensPINN small | 1 | 0.980 | 0.040 |" in text
    assert "without noise, 240 stored images" in text and "without noise, a stream" in text
    assert "0.0001 in the paper, is 0.0005 for ResNet18, 0.001 for all others." in report.introduction
    assert "after 2.0 of the paper's 50 epochs" in report.introduction
    # of the seed that both have
    assert "| honest | yes | LensPINN small | 2.0 | 1 | " in text
    assert "nor on a GPU:\n\n- honest: ResNet18\n- paper_noise: LensPINN small\n" in text
    assert set(report.figures) == {"table.png", "learning_paper.png", "learning_honest.png"}
    for name in report.figures:
        assert (made.root / name).stat().st_size > 10_000


def test_the_papers_figures_stand_in_paper_mode_alone(made):
    report = protocol().report(made.root, HALF)
    for row in report.results["rows"]:
        assert bool(row["paper"]) == (row["data"] == "paper" and row["model"] in PAPER)
    sections = "\n".join(report.lines).split("## ")
    named = {section.partition(":")[0]: "the paper:" in section for section in sections}
    assert named["paper"] and not named["honest"] and not named["streamed"]


def test_nothing_is_reached(tmp_path):
    report = protocol().report(tmp_path, HALF)
    assert report.figures == [] and "\n".join(report.lines).count("Not measured.") == 5 + 3


@pytest.mark.slow
def test_a_whole_reproduction(tmp_path):
    """The real trainers, a few steps each."""
    argv = ["lenspinn", "--budget=20", "--out", str(tmp_path), "--recipe"]
    recipe = yaml.safe_load(TINY.read_text())
    shorter = tmp_path.parent / "shorter.yaml"
    shorter.write_text(yaml.safe_dump({**recipe, "levels": [{"scale": 1.0, "seeds": 1, "rows": 5}]}))
    assert reproduce.main([*argv, str(shorter)]) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    assert table["failed"] == {}
    assert {(row["data"], row["model"]): row["seeds"] for row in table["rows"] if row["seeds"]} == {
        ("paper", "resnet18"): 3, ("paper", "lenspinn_small"): 3, ("honest", "resnet18"): 1,
        ("honest", "lenspinn_small"): 1, ("honest", "lenspinn_small_plain"): 1,
    }  # fmt: skip
    honest = next(row for row in table["rows"] if (row["data"], row["model"]) == ("honest", "lenspinn_small"))
    assert honest["theta_E_rms_arcsec"] > 0 and honest["parameters"] == 7_173_654
    assert len(table["differences"]) == 3
    for name in ("table.md", "table.png", "learning_paper.png", "learning_honest.png"):
        assert (tmp_path / name).stat().st_size > 500
