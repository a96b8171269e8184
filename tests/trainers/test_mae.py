"""Whole small runs: what is left behind, that they learn, and that they can be taken up again."""

import csv
import json
import signal

import numpy as np
import pytest
import torch

from trainers import checkpoint, logs, loop, mae
from trainers.command_line import exit_with_message, load_config
from trainers.errors import CheckpointError, ConfigError, OutputError
from trainers.logs import read_table
from trainers.mae import MAEConfig
from trainers.models.encoders import load_encoder
from trainers.stored import StoredStream, read_stored
from trainers.transform import InputTransform


def losses(folder):
    return [(int(row["step"]), round(float(row["loss"]), 6)) for row in read_table(folder / "train.csv")]


def test_a_run_leaves_everything_behind(train, stored, capsys):
    folder = train(figures=True)
    names = {path.name for path in folder.iterdir()}
    assert names == {"checkpoints", "config.yaml", "encoder", "loss.png", "reconstructions.png", "summary.json",
                     "tensorboard", "train.csv", "validation.csv"}  # fmt: skip
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["images_seen"], summary["images_distinct"], summary["images_repeated"]) == (48, 48, 0)
    assert set(summary["trained"]) == {"masked_mse", "mean_image_mse", "knn_accuracy", "linear_accuracy", "r2/x",
                                       "feature_rank"}  # fmt: skip
    assert 0 < summary["share_of_time_simulating"] < 1
    assert [row["step"] for row in read_table(folder / "validation.csv")] == ["0", "3", "6"]
    assert summary["checkpoint"] == str(folder / "checkpoints" / "step_000006")
    said = capsys.readouterr().out
    assert "48, all different" in said and "the mean image is no worse" in said


def test_repeats_of_a_stored_set_are_said(train):
    summary = json.loads((train("--batch-size=100") / "summary.json").read_text())
    assert (summary["images_seen"], summary["images_distinct"], summary["images_repeated"]) == (600, 138, 462)


def test_images_that_come_again_are_counted(train, monkeypatch, capsys):
    monkeypatch.setattr(StoredStream, "_rows_at", lambda self, first: self.rows[first % 16 : first % 16 + 8])
    summary = json.loads((train() / "summary.json").read_text())
    assert (summary["images_seen"], summary["images_distinct"], summary["images_repeated"]) == (48, 16, 32)
    assert "48, 32 of them repeats" in capsys.readouterr().out


def test_training_beats_the_mean_image_and_the_untrained_encoder(train, capsys):
    folder = train("--steps=400", "--validate-every=400", "--optimizer.lr=5e-3", "--batch-size=16")
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["trained"]["masked_mse"] < 0.7 * summary["trained"]["mean_image_mse"]
    assert summary["trained"]["masked_mse"] < 0.7 * summary["untrained"]["masked_mse"]
    assert "the mean image is no worse" not in capsys.readouterr().out


def test_norm_pix_and_clip_off_run(train):
    train("--norm-pix", "--optimizer.clip=None", "--steps=2")


def test_ctrl_c_saves_and_resume_gives_the_losses_of_an_uninterrupted_run(train, monkeypatch, capsys):
    whole = train("--steps=12", "--checkpoint-every=4")
    step, count = mae.Loop._train_step, []

    def interrupted(self, batches):
        step(self, batches)
        count.append(1)
        if len(count) == 7:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(mae.Loop, "_train_step", interrupted)
    broken = train("--steps=12", "--checkpoint-every=4", out="broken", status=130)
    monkeypatch.undo()
    assert f"go on with: python -m trainers.mae --resume {broken}" in capsys.readouterr().err
    assert checkpoint.checkpoints(broken)[-1].name == "step_000007"
    assert mae.main(["--resume", str(broken)]) == 0
    assert losses(broken) == losses(whole)
    assert read_table(broken / "validation.csv") == read_table(whole / "validation.csv")
    assert json.loads((broken / "summary.json").read_text())["images_distinct"] == 96


def test_resuming_an_older_checkpoint_repeats_its_future_without_doubled_rows(train):
    folder = train("--checkpoint-every=3")
    before = losses(folder)
    assert mae.main(["--resume", str(folder / "checkpoints" / "step_000003")]) == 0
    assert losses(folder) == before
    with (folder / "train.csv").open() as file:
        assert [row[0] for row in csv.reader(file)] == ["step", *map(str, range(1, 7))]


def test_a_resumed_run_stays_the_same_run(train, tmp_path):
    folder = train()
    with pytest.raises(ConfigError, match=r"had vit.depth = 1, not 2"):
        mae.main(["--resume", str(folder), "--vit.depth=2"])
    with pytest.raises(ConfigError, match="holds a run"):
        train()
    with pytest.raises(ConfigError, match=r"holds no config\.yaml"):
        mae.main(["--resume", str(tmp_path / "nowhere")])


def test_a_run_that_ended_before_its_first_checkpoint_is_begun_anew(train, monkeypatch):
    monkeypatch.setattr(mae.Loop, "run", lambda self: signal.raise_signal(signal.SIGINT))
    folder = train(status=130)
    monkeypatch.undo()
    assert (folder / "config.yaml").exists()
    anew = f"holds no checkpoint.*start that run anew with --config {folder}/config.yaml --out {folder}"
    with pytest.raises(CheckpointError, match=anew):
        mae.main(["--resume", str(folder)])
    assert mae.main(["--config", f"{folder}/config.yaml", "--out", str(folder)]) == 0
    assert len(losses(folder)) == 6
    with pytest.raises(ConfigError, match="holds a run"):
        train()


@pytest.mark.parametrize(
    ("name", "value"),
    [("images_per_step", None), ("stream", None), ("progress", None), ("progress", {"stride": 1}), ("seen", None)],
)
def test_a_checkpoint_that_lacks_what_a_resume_needs_is_refused(train, name, value):
    folder = train("--steps=2")
    path = folder / "checkpoints" / "step_000002" / "checkpoint.json"
    about = json.loads(path.read_text())
    del about[name]
    path.write_text(checkpoint.seal(about if value is None else about | {name: value}))
    with pytest.raises(CheckpointError, match=f"step_000002 cannot be resumed.*({name}|stride)"):
        mae.main(["--resume", str(folder)])


def test_a_checkpoint_of_other_data_is_refused(train, tmp_path, stored):
    folder = train()
    other = tmp_path / "other.npz"
    with np.load(stored) as arrays:
        np.savez(other, image=arrays["image"][::-1], label=arrays["label"], x=arrays["x"])
    text = (folder / "config.yaml").read_text().replace(str(stored), str(other))
    (folder / "config.yaml").write_text(text)
    with pytest.raises(CheckpointError, match=r"cannot go on with these data: fingerprint of .*another set"):
        mae.main(["--resume", str(folder)])


def test_the_transform_is_the_same_in_training_evaluation_and_load(train, stored, monkeypatch):
    used = []
    original = InputTransform.__call__
    monkeypatch.setattr(InputTransform, "__call__", lambda self, image: used.append(self) or original(self, image))
    folder = train("--steps=2")
    encoder = load_encoder(folder)
    vit, transform = encoder.module, encoder.transform
    assert set(used) == {transform} and len(used) > 4
    image = read_stored(stored).image[:3]
    assert torch.equal(transform(image), torch.asinh(image / transform.scale[0]))
    assert checkpoint.read_checkpoint(folder).about["transform"] == {"name": "asinh", "scale": list(transform.scale)}
    assert vit.forward_features(transform(image)).shape == (3, 17, 16)


def test_the_untrained_figures_are_of_the_same_initialisation(train):
    one, two = train("--steps=1", out="one"), train("--steps=2", out="two")
    first = [read_table(folder / "validation.csv")[0] for folder in (one, two)]
    assert first[0] == first[1]


def no_room(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize(
    ("place", "name", "saved"),
    [(logs.Table, "append", None), (logs.SummaryWriter, "add_scalar", None), (loop, "save_config", None),
     (mae, "draw_reconstructions", 6), (logs.SummaryWriter, "close", 6)],
)  # fmt: skip
def test_a_full_disk_ends_with_what_is_saved(train, tmp_path, monkeypatch, capsys, place, name, saved):
    with monkeypatch.context() as full:
        full.setattr(place, name, no_room)
        with pytest.raises(SystemExit, match="2"):
            exit_with_message(lambda: train(figures=True) and 0)
    said, folder = capsys.readouterr().err, tmp_path / "run"
    assert "error: the run's output" in said and "No space left" in said and "Traceback" not in said
    if saved is None:
        assert "There is no checkpoint yet; make room or mend this, then start the run again." in said
        train()
    else:
        assert f"step_{saved:06d} is whole; make room or mend this, then go on with --resume {folder}." in said
        assert mae.main(["--resume", str(folder)]) == 0
    assert (folder / "summary.json").is_file() and len(losses(folder)) == 6


def test_a_summary_that_cannot_be_written_is_written_by_a_resume(train, tmp_path):
    place = tmp_path / "run" / "summary.json"
    place.mkdir(parents=True)
    with pytest.raises(OutputError, match=r"summary\.json.*step_000006 is whole.*--resume"):
        train()
    place.rmdir()
    assert mae.main(["--resume", str(place.parent)]) == 0
    assert json.loads(place.read_text())["images_seen"] == 48


def test_minutes_lower_the_steps_once_and_are_kept(train, monkeypatch, capsys):
    monkeypatch.setattr(mae.Loop, "_affordable_steps", lambda self, budget, validation: 4)
    folder = train("--minutes=1")
    assert "steps fit into --minutes 1, and the learning rate spans those" in capsys.readouterr().out
    assert load_config(MAEConfig, folder).run.steps == 4 and len(losses(folder)) == 4
    monkeypatch.undo()
    roomy = train("--minutes=1000", "--steps=2", out="roomy")
    assert "fit into --minutes" not in capsys.readouterr().out
    assert len(losses(roomy)) == 2
