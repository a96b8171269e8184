"""Steps that go wrong: what the run says of them, and that the command it prints makes their images again."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lensgen
from lensgen.plot import gallery, png
from trainers import mae
from trainers.checkpoint import checkpoints, read_checkpoint
from trainers.config import DataConfig
from trainers.errors import TrainingError
from trainers.failure import as_ranges, remake
from trainers.logs import read_table
from trainers.stored import StoredSet


@pytest.fixture
def spoil(monkeypatch):
    """Makes the loss of step `number` (from 1) go wrong by `how(loss, task)`; returns what it was fed with."""
    fed, original = [], mae.MAETask.loss

    def at(number, how):
        def loss(self, forward, batch, draws):
            value = original(self, forward, batch, draws)
            if draws.step + 1 != number:
                return value
            fed.append(batch)
            return how(value, self)

        monkeypatch.setattr(mae.MAETask, "loss", loss)
        return fed

    return at


def not_a_number(loss, task):
    return loss * torch.nan


def infinite(loss, task):
    return loss * torch.inf


def steep(loss, task):
    """The square root has an infinite slope at 0: the loss is as it was, its gradient is not finite."""
    return loss + (task.autoencoder.decoder_predict.bias * 0).sqrt().sum()


@pytest.mark.parametrize(
    ("how", "said"),
    [(not_a_number, "the loss of step 5 is nan"), (infinite, "the loss of step 5 is inf"),
     (steep, r"the loss of step 5 is [\d.]+, but the norm of its gradient is nan")],
)  # fmt: skip
def test_the_first_bad_step_is_named_and_no_damaged_weights_are_saved(train, tmp_path, stored, spoil, how, said):
    fed = spoil(5, how)
    with pytest.raises(TrainingError, match=said) as raised:
        train("--steps=8", "--checkpoint-every=2", "--log-every=8")
    message, folder = str(raised.value), tmp_path / "run"
    assert f"({'rows of ' + str(stored)}, seed 0, images {as_ranges(fed[0].index.tolist())})" in message
    assert "All images of the batch are finite themselves" in message and "Lower --optimizer.lr" in message
    assert f"The last checkpoint is {folder / 'checkpoints' / 'step_000004'}, from before this step" in message
    assert [path.name for path in checkpoints(folder)] == ["step_000003", "step_000004"]  # a validation chose 3
    assert all(value.isfinite().all() for value in read_checkpoint(folder).weights.values())
    assert [row["step"] for row in read_table(folder / "train.csv")] == ["1", "2", "3", "4", "5"]
    scope = {}
    exec(message.splitlines()[-1].strip(), scope)
    assert torch.equal(scope["images"], fed[0].image)


def test_an_image_that_is_not_finite_is_named(train, monkeypatch):
    original = StoredSet.take

    def take(self, rows, device):
        batch = original(self, rows, device)
        batch.image[batch.index == 17, 0, 3, 3] = torch.nan
        return batch

    monkeypatch.setattr(StoredSet, "take", take)
    with pytest.raises(TrainingError, match=r"these are not finite: image of 17\. .*There is no checkpoint yet\."):
        train("--batch-size=100", "--validate-every=100", "--steps=3")


def test_weights_that_an_update_broke_are_not_saved(train, tmp_path, monkeypatch):
    step = mae.Loop._train_step

    def breaks(self, batches):
        step(self, batches)
        if self.progress.step == 4:
            torch.nn.init.constant_(self.task.autoencoder.decoder_embed.bias, torch.inf)

    monkeypatch.setattr(mae.Loop, "_train_step", breaks)
    with pytest.raises(TrainingError, match=r"after step 4.*1 weights are not, first decoder_embed\.bias.*step_000002"):
        train("--checkpoint-every=2", "--validate-every=100")
    assert [path.name for path in checkpoints(tmp_path / "run")] == ["step_000002"]


def test_the_printed_command_makes_the_batch_of_a_stream_again(tiny, tmp_path, spoil, environment):
    fed = spoil(3, not_a_number)
    flags = ["--stream", "--set=grid.size=32", "--set=lens.theta_E={uniform: {low: 1, high: 1.2}}", "--seed=7"]
    with pytest.raises(TrainingError, match=r"preset model_a, seed 7, images 16-23") as raised:
        mae.main([*tiny, *flags, "--steps=4", "--out", str(tmp_path / "run")])
    command, code = (line.strip() for line in str(raised.value).splitlines()[-2:])
    scope = {"lensgen": lensgen}
    exec(code, scope)
    assert torch.equal(scope["batch"].image, fed[0].image) and torch.equal(scope["batch"].index, fed[0].index)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, env={**environment, "PATH": path}, timeout=120)
    assert (tmp_path / "batch.png").read_bytes() == png(gallery(fed[0], 8))


def test_truth_that_a_trainer_asked_for_is_in_the_command():
    stream = lensgen.LensStream("model_a", 4, seed=3, device="cpu", outputs=("image", "image_hr"), hr_factor=4)
    place, (command, code) = remake(DataConfig(stream=True, seed=3), stream, [8, 9, 10, 11])
    assert place == "preset model_a" and "--start 8 --count 4 --device cpu --out batch.png" in command
    scope = {}
    exec(code, scope)
    assert set(scope["batch"].maps) == {"image_hr"}
    assert scope["batch"].maps["image_hr"].shape[-1] == 4 * scope["batch"].image.shape[-1]


def test_a_stream_of_one_class_is_made_again():
    stream = lensgen.LensStream("model_a", 4, seed=3, device="cpu", engine="torch", label="axion")
    _, (code,) = remake(DataConfig(stream=True, seed=3), stream, [8, 9, 10, 11])
    scope = {}
    exec(code, scope)
    assert scope["batch"].label.tolist() == [2] * 4 and scope["batch"].index.tolist() == [8, 9, 10, 11]


def test_ranges():
    assert as_ranges([3, 1, 2, 7]) == "1-3, 7" and as_ranges(np.arange(5).tolist()) == "0-4" and as_ranges([]) == ""
    assert re.fullmatch(r"1000000000000-1000000000001", as_ranges([10**12, 10**12 + 1]))
