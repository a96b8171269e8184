"""Reproductions: what a budget allows, that the protocol's runs are valid, and that a stopped one goes on."""

import dataclasses
import json
from pathlib import Path

import pytest
import yaml
from recipes_valid import require_valid_runs

from trainers import reproduce
from trainers.command_line import RECIPES
from trainers.errors import ConfigError
from trainers.reproduction.budget import Cost, Level, Plan, choose_level, makespan
from trainers.reproduction.cell import Cell
from trainers.reproduction.mae.protocol import MAEProtocol
from trainers.reproduction.mae.results import as_markdown, collect
from trainers.reproduction.runner import Runner

TINY = Path(__file__).parent / "reproduce_tiny.yaml"


def protocol(path=TINY):
    return MAEProtocol(yaml.safe_load(Path(path).read_text()))


@pytest.mark.parametrize("path", [TINY, *sorted(RECIPES.glob("reproduce_mae_*.yaml"))], ids=lambda path: path.stem)
def test_every_run_of_every_recipe_has_valid_options(path, tmp_path):
    require_valid_runs(protocol(path), tmp_path)


def test_scratch_and_the_two_ratios_in_both_tasks_are_always_done():
    whole = protocol()
    least = {cell.name for cell in whole.cells(Level(0.01, 1, 3)) if whole.must(cell)}
    for mode in ("paper", "honest"):
        for row in ("scratch", "mask_0.5", "mask_0.9"):
            assert {f"{mode}/seed0/{row}/classify", f"{mode}/seed0/{row}/superres"} <= least
    assert sum(name.startswith("comparison/") for name in least) == 9
    assert not whole.must(next(cell for cell in whole.cells(Level(1, 2, 4)) if "mask_0.75" in cell.name))
    assert not whole.must(next(cell for cell in whole.cells(Level(1, 2, 4)) if "honest/seed1" in cell.name))


def test_rows_beside_one_another_have_equal_steps_and_the_same_data():
    for level in protocol().levels:
        found = {}
        for cell in protocol().cells(level):
            if not cell.name.startswith("comparison"):
                mode, seed, _, task = cell.name.split("/")
                options = {key: str(value) for key, value in cell.options.items() if key != "mask_ratio"}
                found.setdefault((mode, seed, task), []).append((cell.steps_at(level.scale), options))
        for same in found.values():
            assert all(one == same[0] for one in same)


def test_a_level_is_chosen_by_what_runs_cost():
    cells = [Cell(f"run{number}", "mae", "kind", 1000) for number in range(4)]
    levels = [Level(1.0, 3, 5), Level(0.5, 1, 3)]
    costs = {"kind": Cost(fixed=10.0, step=0.1)}
    assert makespan(cells, 1.0, costs, 2) == pytest.approx(4 * 110 / 2)
    chained = [cells[0], dataclasses.replace(cells[1], after="run0")]
    assert makespan(chained, 1.0, costs, 2) == pytest.approx(220)  # one after the other, whatever is free
    assert choose_level(lambda level: cells, levels, costs, 2, 1000)[0] == levels[0]
    assert choose_level(lambda level: cells, levels, costs, 2, 200)[0] == levels[1]
    smaller, estimate = choose_level(lambda level: cells, levels, costs, 2, 60)
    assert (smaller.seeds, smaller.rows) == (1, 3) and 0 < smaller.scale < 0.5 and estimate <= 60
    none, _ = choose_level(lambda level: cells, levels, costs, 2, 1)
    assert cells[0].steps_at(none.scale) == 8  # however little: what must be done is done


def test_rows_that_were_not_reached_say_so(tmp_path):
    rows = collect(tmp_path, protocol(), Level(1.0, 1, 3))
    assert all(row["seeds"] == 0 for row in rows)
    assert as_markdown(rows, Level(1.0, 1, 3), protocol()).count("not reached") == len(rows)


def test_a_plan_stays_what_it_is(tmp_path, monkeypatch):
    plan = Plan("mae", 2.0, Level(0.5, 1, 3), 1.0, 2, {"kind": Cost(1.0, 0.1)})
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan
    monkeypatch.setattr(MAEProtocol, "prepare", lambda *args, **options: None)
    with pytest.raises(ConfigError, match=r"planned for --budget 2, not 30.*another --out"):
        reproduce.main(["mae", "--out", str(tmp_path), "--recipe", str(TINY)])
    with pytest.raises(ConfigError, match="is not the recipe that was given"):
        reproduce.main(["mae", "--out", str(tmp_path), "--budget=2", "--recipe=reproduce_mae_cpu"])
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ConfigError, match=r"plan\.json is no plan"):
        reproduce.main(["mae", "--out", str(tmp_path), "--budget=2", "--recipe", str(TINY)])


@pytest.mark.slow
def test_a_whole_reproduction_stopped_once(tmp_path, monkeypatch, capsys):
    """The real trainers, a few steps each: everything that the command writes, and that it goes on after Ctrl-C."""
    run, count = Runner.run, []

    def interrupted(self, cells, *args, **options):
        count.append(1)
        if len(count) == 2:  # the rehearsal was the first; of the runs only a few are made
            run(self, cells[:3], *args, **options)
            raise KeyboardInterrupt
        return run(self, cells, *args, **options)

    argv = ["mae", "--budget=0.5", "--out", str(tmp_path), "--recipe", str(TINY)]
    monkeypatch.setattr(Runner, "run", interrupted)
    assert reproduce.main(argv) == 130
    assert f"python -m trainers.reproduce mae --budget=0.5 --out={tmp_path} --recipe=" in capsys.readouterr().err
    assert reproduce.main(argv) == 0
    table = json.loads((tmp_path / "table.json").read_text())
    reached = [row for row in table["rows"] if row["seeds"]]
    assert {(row["mode"], row["row"]) for row in reached} == {
        (mode, row) for mode in ("paper", "honest") for row in ("scratch", "0.5", "0.9")
    }
    for row in reached:
        assert row["images"]["classify"] >= 64 and row["macro_auc"]["low"] <= row["macro_auc"]["value"]
    assert set(table["comparison"]["sources"]) == {"stored_paper_size", "stored_scaled", "stream"}
    for name in ("table.md", "table.png", "stored_or_streamed.png"):
        assert (tmp_path / name).stat().st_size > 500
    assert "not reached" in (tmp_path / "table.md").read_text()
