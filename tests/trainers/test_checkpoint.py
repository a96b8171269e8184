"""A checkpoint is whole or not there, and a damaged or foreign one is refused with a reason."""

import json

import pytest
import torch
from torch import nn

import trainers.checkpoint
from trainers.checkpoint import (
    DESCRIPTION,
    MODEL,
    OPTIMIZER,
    checkpoints,
    load_optimizer,
    load_weights,
    read_checkpoint,
    seal,
    write_checkpoint,
)
from trainers.errors import CheckpointError


def trained(width=3):
    torch.manual_seed(width)
    model = nn.Linear(4, width)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    model(torch.ones(4)).sum().backward()
    optimizer.step()
    return model, optimizer


def write(run, step=10, keep=2, parts=None):
    return write_checkpoint(run, step, *(parts or trained()), {"trainer": "test"}, keep)


def test_what_is_written_comes_back(tmp_path):
    model, optimizer = trained()
    write(tmp_path, parts=(model, optimizer))
    other = nn.Linear(4, 3)
    other_optimizer = torch.optim.AdamW(other.parameters(), lr=0.1)
    checkpoint = read_checkpoint(tmp_path)
    load_weights(other, checkpoint)
    load_optimizer(other_optimizer, checkpoint.optimizer)
    for one, two in ((model, optimizer), (other, other_optimizer)):
        two.zero_grad()
        one(torch.arange(4.0)).square().sum().backward()
        two.step()
    assert torch.equal(model.weight, other.weight) and torch.equal(model.bias, other.bias)
    assert checkpoint.about["step"] == 10 and checkpoint.about["trainer"] == "test"
    assert "torch" in checkpoint.about["versions"]


def test_the_newest_are_kept_and_found(tmp_path):
    for step in (5, 10, 100, 99):
        write(tmp_path, step, keep=2)
    assert [path.name for path in checkpoints(tmp_path)] == ["step_000099", "step_000100"]
    assert read_checkpoint(tmp_path).about["step"] == 100
    assert read_checkpoint(tmp_path / "checkpoints" / "step_000099").about["step"] == 99


def test_steps_are_compared_as_numbers(tmp_path):
    for step in (999_998, 999_999, 1_000_000):
        write(tmp_path, step, keep=2)
    (tmp_path / "checkpoints" / "step_000001_copy").mkdir()
    assert [path.name for path in checkpoints(tmp_path)] == ["step_999999", "step_1000000"]
    assert read_checkpoint(tmp_path).about["step"] == 1_000_000


def test_a_checkpoint_can_be_written_again(tmp_path):
    write(tmp_path)
    model, optimizer = trained()
    nn.init.zeros_(model.weight)
    write(tmp_path, parts=(model, optimizer))
    assert not read_checkpoint(tmp_path).weights["weight"].any()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError(28, "No space left on device")])
@pytest.mark.parametrize("moment", ["save_file", "_digest", "_flush"])
def test_an_interrupted_write_leaves_the_former_checkpoint(tmp_path, monkeypatch, error, moment):
    write(tmp_path, 1)
    before = read_checkpoint(tmp_path)
    original, calls = getattr(trainers.checkpoint, moment), []

    def fails_the_second_time(*args):
        calls.append(args)
        if len(calls) == 2:
            raise error
        return original(*args)

    monkeypatch.setattr(trainers.checkpoint, moment, fails_the_second_time)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else CheckpointError) as raised:
        write(tmp_path, 2, keep=1)
    if isinstance(error, OSError):
        assert "No space left" in str(raised.value) and f"--resume {tmp_path}" in str(raised.value)
    monkeypatch.undo()
    after = read_checkpoint(tmp_path)
    assert after.path == before.path and torch.equal(after.weights["weight"], before.weights["weight"])
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step_000001"]
    assert read_checkpoint(write(tmp_path, 2)).about["step"] == 2


def test_what_a_kill_left_is_cleared_away(tmp_path):
    left = tmp_path / "checkpoints" / ".unfinished_step_000007"
    left.mkdir(parents=True)
    (left / MODEL).write_bytes(b"half")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)
    write(tmp_path, 10)
    assert not left.exists()


def truncate(path):
    path.write_bytes(path.read_bytes()[:-5])


def garble(path):
    content = bytearray(path.read_bytes())
    content[-3] ^= 0xFF
    path.write_bytes(content)


def randomise(path):
    path.write_bytes(bytes(range(256)) * 4)


@pytest.mark.parametrize("damage", [truncate, garble, randomise])
@pytest.mark.parametrize("name", [MODEL, OPTIMIZER])
def test_damaged_tensors_are_refused_and_the_one_before_is_named(tmp_path, name, damage):
    write(tmp_path, 1)
    damage(write(tmp_path, 2) / name)
    with pytest.raises(CheckpointError, match=rf"step_000002 is damaged: {name} is truncated or altered.*step_000001"):
        read_checkpoint(tmp_path)


def test_tensors_that_are_no_safetensors(tmp_path):
    path = write(tmp_path)
    randomise(path / MODEL)
    about = json.loads((path / DESCRIPTION).read_text())
    about["sha256"][MODEL] = trainers.checkpoint._digest(path / MODEL)
    (path / DESCRIPTION).write_text(seal(about))
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        read_checkpoint(path)


@pytest.mark.parametrize("change", [{"step": 11}, {"stream": {"taken": 2}}, {"sha256": {}}, {"sha256": None}])
def test_an_altered_description_is_refused(tmp_path, change):
    about = {"stream": {"taken": 1, "scale": 0.1}, "trainer": "test"}
    path = write_checkpoint(tmp_path, 10, *trained(), about, keep=1) / DESCRIPTION
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content))  # laid out in another way, but the same
    assert read_checkpoint(tmp_path).about["stream"] == about["stream"]
    path.write_text(json.dumps(content | change))
    with pytest.raises(
        CheckpointError, match=r"step_000010 is damaged: checkpoint\.json is altered.*start the run anew"
    ):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"{", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
        (b"[]", "no checkpoint of these trainers"),
        (b'{"format": "other"}', "no checkpoint of these trainers"),
        (b'{"format": "lensgen trainer checkpoint", "format_version": 99}', "format version 99; this lensgen reads"),
    ],
)
def test_foreign_descriptions_are_refused(tmp_path, content, message):
    path = write(tmp_path)
    (path / DESCRIPTION).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_checkpoint(path)


@pytest.mark.parametrize("name", [MODEL, OPTIMIZER, DESCRIPTION])
def test_missing_files_are_named(tmp_path, name):
    path = write(tmp_path)
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name} is missing"):
        read_checkpoint(path)


def test_a_lone_pickle_is_no_checkpoint(tmp_path):
    torch.save({"a": torch.ones(1)}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="holds no checkpoint"):
        read_checkpoint(tmp_path)


def test_weights_of_another_model_are_refused(tmp_path):
    write(tmp_path)
    with pytest.raises(CheckpointError, match=r"another model: bias is \(3,\) there and \(5,\) here"):
        load_weights(nn.Linear(4, 5), read_checkpoint(tmp_path))
    with pytest.raises(CheckpointError, match=r"0\.bias is missing there"):
        load_weights(nn.Sequential(nn.Linear(4, 3)), read_checkpoint(tmp_path))
