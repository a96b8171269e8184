"""The best checkpoint is found, kept beside the newest, and known after a resume."""

import json
import math

import pytest

from trainers import checkpoint, mae
from trainers.best import Best, better
from trainers.checkpoint import best_or_newest, checkpoints, read_checkpoint
from trainers.errors import ConfigError, TrainingError


@pytest.mark.parametrize(
    ("selects", "values", "chosen"),
    [("-x", [3, 2, 2, 4, 1], [0, 1, 4]), ("+x", [3, 2, 3, 4, math.inf], [0, 3]), ("+x", [math.nan, 1, math.nan], [1])],
)
def test_better(selects, values, chosen):
    best, found = None, []
    for step, value in enumerate(values):
        if new := better(selects, {"x": value, "y": -value}, step, best):
            best = new
            found.append(step)
    assert found == chosen and best == Best(chosen[-1], "x", values[chosen[-1]])


@pytest.mark.parametrize("selects", ["x", "-z", ""])
def test_a_figure_that_is_not_there(selects):
    with pytest.raises(ConfigError, match=f"chosen by '{selects}'; write \\+ or - and one of: x, y"):
        better(selects, {"x": 1.0, "y": 2.0}, 1, None)


@pytest.fixture
def validated(train, monkeypatch):
    """Runs whose validations of steps 0, 2, 4, ... give these values; returns the folder and the loop."""
    loops, create = [], mae.Loop.__init__
    monkeypatch.setattr(mae.Loop, "__init__", lambda self, *args: loops.append(self) or create(self, *args))
    for name in ("draw", "export"):
        monkeypatch.setattr(mae.MAETask, name, lambda *args: [])

    def go(values, *flags, resume=None):
        figures = lambda self: {"masked_mse": values[loops[-1].progress.step // 2]}  # noqa: E731
        monkeypatch.setattr(mae.MAETask, "validate", figures)
        if resume is None:
            train(f"--steps={2 * len(values) - 2}", "--validate-every=2", "--checkpoint-every=100", *flags)
        else:
            assert mae.main(["--resume", str(resume)]) == 0
        return loops[-1].folder, loops[-1]

    return go


def names(folder):
    return [path.name for path in checkpoints(folder)]


def test_the_best_stays_beside_the_newest(validated):
    folder, loop = validated([0.1, 5, 3, math.nan, 4, 6], "--checkpoint-every=1", "--keep=2")
    assert names(folder) == ["step_000004", "step_000009", "step_000010"]
    assert loop.best == folder / "checkpoints" / "step_000004" == best_or_newest(folder)
    assert loop.checkpoint == folder / "checkpoints" / "step_000010"
    assert read_checkpoint(folder).about["best"] == {"step": 4, "figure": "masked_mse", "value": 3.0}
    one = folder / "checkpoints" / "step_000009"
    assert best_or_newest(one) == one


def test_a_better_validation_is_saved_at_once(validated):
    folder, _ = validated([9, 5, 7, 4, 8], "--keep=5")
    assert names(folder) == ["step_000002", "step_000006", "step_000008"]


def test_a_resumed_run_knows_the_best(validated):
    values = [9, 5, 7, 8, 6]
    folder, _ = validated(values, "--checkpoint-every=1", "--keep=3")
    assert names(folder) == ["step_000002", "step_000006", "step_000007", "step_000008"]
    _, loop = validated(values, resume=folder / "checkpoints" / "step_000006")
    assert loop.best.name == "step_000002" and loop._best == Best(2, "masked_mse", 5.0)
    assert names(folder) == ["step_000002", "step_000006", "step_000007", "step_000008"]


def test_a_best_that_was_deleted_since_is_chosen_anew(validated):
    values = [9, 5, 7, 4, 8]
    folder, _ = validated(values, "--checkpoint-every=1", "--keep=4")
    assert names(folder) == ["step_000005", "step_000006", "step_000007", "step_000008"]
    _, loop = validated(values, resume=folder / "checkpoints" / "step_000005")
    assert loop.best.name == "step_000006"


def test_checkpoints_from_before_there_was_a_best_are_resumed(validated):
    values = [9, 5, 7, 8]
    folder, _ = validated(values, "--checkpoint-every=1", "--keep=3")
    path = folder / "checkpoints" / "step_000005"
    about = json.loads((path / checkpoint.DESCRIPTION).read_text())
    del about["best"]
    (path / checkpoint.DESCRIPTION).write_text(checkpoint.seal(about))
    assert best_or_newest(path) == path
    _, loop = validated(values, resume=path)
    assert loop.best.name == "step_000006"


def test_without_a_finite_figure_there_is_no_best(validated):
    folder, loop = validated([1.0, math.nan, math.inf])
    with pytest.raises(TrainingError, match="had a finite masked_mse: there is no best"):
        _ = loop.best
    assert best_or_newest(folder) == folder / "checkpoints" / "step_000004"
    assert read_checkpoint(folder).about["best"] is None


def test_a_checkpoint_just_written_is_not_deleted_for_newer_ones(train, monkeypatch):
    """Those of the future that the run had before it was resumed from further back."""
    monkeypatch.setattr(mae.MAETask, "draw", lambda self, folder: [])
    folder = train("--steps=6", "--checkpoint-every=1", "--validate-every=100", "--keep=6")
    seen, write = [], mae.Loop._save

    def save(self):
        write(self)
        seen.append(self.checkpoint.is_dir())

    monkeypatch.setattr(mae.Loop, "_save", save)
    assert mae.main(["--resume", str(folder / "checkpoints" / "step_000002"), "--keep=1"]) == 0
    assert seen == [True] * 4 and names(folder) == ["step_000006"]
