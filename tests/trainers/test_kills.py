"""However a run ends, what it lost are steps since its last checkpoint, and a resume takes them again as they were."""

import random
import signal
import time
from functools import partial

import pytest
import torch
from killed_runs import at_call, die, die_while_deleting, interrupt, limit_files, no_room, nothing, start

from trainers.checkpoint import UNFINISHED, checkpoints, read_checkpoint
from trainers.logs import read_table

SEED = 20_240  # of the random moments
FLAGS = ["--steps=12", "--validate-every=4", "--checkpoint-every=3", "--log-every=1"]


def losses(folder):
    """Equal to the last digit: one machine, one thread."""
    return [(row["step"], row["loss"], row["grad_norm"]) for row in read_table(folder / "train.csv")]


@pytest.fixture(scope="module")
def arguments(tiny, stored):
    """The command line of the runs, but for the folder."""
    return [*tiny, "--data", str(stored), *FLAGS]


@pytest.fixture
def forked(arguments, tmp_path):
    """Runs the trainer in a process of its own, changed before: `forked(change)` -> (the process, the run's folder)."""
    processes = []

    def begin(change):
        folder = tmp_path / "broken"
        processes.append(start(change, [*arguments, "--out", folder], tmp_path / "said"))
        return processes[-1], folder

    yield begin
    for process in processes:
        process.kill()
        process.join()


def status(process):
    process.join(120)
    return process.exitcode


def run(argv, said):
    """Runs the trainer in a process like those that are killed: this one is another in the last digits."""
    return status(start(nothing, argv, said))


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """The folder of a run that nothing happened to."""
    folder = tmp_path_factory.mktemp("kills") / "whole"
    assert run([*arguments, "--out", folder], folder.with_name("said")) == 0
    return folder


def go_on(folder, arguments=()):
    """Resumes, or begins anew where there is no checkpoint, as the messages say."""
    said = folder.with_name("said_again")
    if checkpoints(folder):
        assert read_checkpoint(folder).about["progress"]["step"] > 0
        return run(["--resume", folder], said)
    if arguments:
        assert not (folder / "config.yaml").exists()  # it is whole or not there
        return run([*arguments, "--out", folder], said)
    return run(["--config", folder / "config.yaml", "--out", folder], said)


def same(one, two):
    assert losses(one) == losses(two) and len(losses(one)) == 12
    assert read_table(one / "validation.csv") == read_table(two / "validation.csv")
    weights = read_checkpoint(one).weights, read_checkpoint(two).weights
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[1])
    assert not list((one / "checkpoints").glob(UNFINISHED + "*"))


# steps 3, 4 (a better validation), 6, 8, 9, 12 are saved; the second write calls each of these functions
MOMENTS = [
    ("save_file", 3),
    ("save_file", 4),
    ("_digest", 3),
    ("seal", 2),
    ("_flush", 6),
    ("_flush", 10),
    ("_remove", 1),
]


@pytest.mark.parametrize(("name", "number"), MOMENTS)
def test_a_kill_while_a_checkpoint_is_written(forked, whole, name, number):
    process, folder = forked(partial(at_call, "trainers.checkpoint", name, number, die))
    assert status(process) == -signal.SIGKILL
    kept = [path.name for path in checkpoints(folder)]
    assert kept[0] == "step_000003" and all(read_checkpoint(folder / "checkpoints" / name) for name in kept)
    assert go_on(folder) == 0
    same(folder, whole)


def test_a_kill_while_an_old_checkpoint_is_deleted(forked, whole):
    process, folder = forked(partial(die_while_deleting, UNFINISHED + "old_"))
    assert status(process) == -signal.SIGKILL
    assert list((folder / "checkpoints").glob(UNFINISHED + "old_*"))
    for path in checkpoints(folder):
        read_checkpoint(path)
    assert go_on(folder) == 0
    same(folder, whole)


@pytest.mark.parametrize("number", range(6))
def test_kills_at_random_moments(forked, whole, number):
    moments = random.Random(SEED + number)
    process, folder = forked(nothing)
    while not (folder / "config.yaml").exists():
        assert process.is_alive()
        time.sleep(0.001)
    time.sleep(moments.uniform(0, 0.5))
    process.kill()
    process.join()
    assert go_on(folder) == 0
    same(folder, whole)


@pytest.mark.parametrize(("name", "number"), [("save_file", 3), ("_flush", 7)])
def test_ctrl_c_while_a_checkpoint_is_written(forked, whole, tmp_path, name, number):
    process, folder = forked(partial(at_call, "trainers.checkpoint", name, number, interrupt))
    assert status(process) == 130
    assert f"go on with: python -m trainers.mae --resume {folder}" in (tmp_path / "said").read_text()
    assert [path.name for path in checkpoints(folder)][-1] == "step_000005"  # the step in hand is finished and saved
    assert go_on(folder) == 0
    same(folder, whole)


@pytest.mark.parametrize(
    ("place", "name", "number", "saved"),
    [
        ("trainers.logs:Table", "append", 9, "step_000004"),
        ("trainers.checkpoint", "save_file", 6, "step_000006 could not"),
        ("trainers.checkpoint", "_flush", 12, "step_000006 could not"),
        ("trainers.logs:SummaryWriter", "add_scalar", 50, "step_00000"),
    ],
)
def test_a_full_disk(forked, whole, tmp_path, place, name, number, saved):
    process, folder = forked(partial(at_call, place, name, number, no_room))
    assert status(process) == 2
    said = (tmp_path / "said").read_text()
    assert "No space left on device" in said and "Traceback" not in said and f"--resume {folder}" in said
    assert saved in said
    for path in checkpoints(folder):
        read_checkpoint(path)
    assert go_on(folder) == 0
    same(folder, whole)


@pytest.mark.parametrize("limit", [600, 2_000, 20_000, 60_000])
def test_files_that_cannot_grow(forked, whole, arguments, tmp_path, limit):
    """Writes that really fail, half-way: no file of the run may be larger than `limit` bytes."""
    process, folder = forked(partial(limit_files, limit))
    ended, said = status(process), (tmp_path / "said").read_text()
    assert ended == 2, said
    assert "File too large" in said and "make room" in said
    assert go_on(folder, arguments if limit == 600 else ()) == 0
    same(folder, whole)
