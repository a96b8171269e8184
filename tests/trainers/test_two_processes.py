"""Two processes are one: the same losses, gradients and figures of the same global batch; and none is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.fabric import Fabric

from trainers import mae
from trainers.checkpoint import checkpoints, read_checkpoint
from trainers.config import RunConfig
from trainers.errors import ConfigError
from trainers.logs import read_table
from trainers.session import layout

DROPPING = ["--vit.dropout=0.1", "--vit.drop-path=0.2", "--vit.depth=2", "--steps=10", "--validate-every=5"]
CLOSE = 1e-5  # absolute; sums over images are taken in another order

# writes down the gradients that all ranks agreed on, before they are clipped
WRITES_GRADIENTS = """
import os, sys, torch
from lightning.fabric import Fabric
from trainers import mae
clip, found = Fabric.clip_gradients, []
def noting(self, module, optimizer, **options):
    found.append({name.removeprefix("module."): weight.grad.clone() for name, weight in
                  module._forward_module.named_parameters() if weight.grad is not None})
    return clip(self, module, optimizer, **options)
Fabric.clip_gradients = noting
mae.MAETask.draw = lambda self, folder: []  # takes longer than the steps
status = mae.main(sys.argv[2:])
if os.environ.get("LOCAL_RANK", "0") == "0":
    torch.save(found, sys.argv[1])
sys.exit(status)
"""

# one image's loss is not finite, on whichever rank it is
SPOILS_AN_IMAGE = """
import sys, torch
from trainers import mae
from trainers.command_line import exit_with_message
loss = mae.MAETask.loss
def spoiled(self, forward, batch, draws):
    return loss(self, forward, batch, draws) * (torch.nan if 21 in batch.index else 1)
mae.MAETask.loss = spoiled
exit_with_message(lambda: mae.main(sys.argv[1:]))
"""


def table(folder, name):
    return [{key: float(value) for key, value in row.items()} for row in read_table(folder / f"{name}.csv")]


def trainer(*flags):
    return [sys.executable, "-m", "trainers.mae", *map(str, flags)]


@pytest.fixture
def script(tmp_path, environment):
    """Runs a Python text with arguments: `script(text, *arguments)` -> the ended process."""

    def run(text, *arguments):
        path = tmp_path / "script.py"
        path.write_text(text)
        command = [sys.executable, str(path), *map(str, arguments)]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)

    return run


@pytest.mark.parametrize(
    "source",
    ["stored", pytest.param("stream", marks=pytest.mark.slow)],
)
def test_losses_gradients_and_figures_are_those_of_one_process(source, tiny, stored, tmp_path, script, monkeypatch):
    images = ["--data", str(stored)] if source == "stored" else ["--stream", "--set=grid.size=32"]
    two, gradients = tmp_path / "two", tmp_path / "gradients.pt"
    ended = script(
        WRITES_GRADIENTS, gradients, *tiny, *images, *DROPPING, "--batch-size=4", "--devices=2", "--out", two
    )
    assert ended.returncode == 0, ended.stderr
    one, found, clip = tmp_path / "one", [], Fabric.clip_gradients

    def noting(self, module, optimizer, **options):
        weights = module._forward_module.named_parameters()
        found.append({name: weight.grad.clone() for name, weight in weights if weight.grad is not None})
        return clip(self, module, optimizer, **options)

    monkeypatch.setattr(Fabric, "clip_gradients", noting)
    monkeypatch.setattr(mae.MAETask, "draw", lambda self, folder: [])
    assert mae.main([*tiny, *images, *DROPPING, "--batch-size=8", "--out", str(one)]) == 0
    other = torch.load(gradients, weights_only=True)
    assert len(found) == len(other) == 10
    for step, (mine, theirs) in enumerate(zip(found, other, strict=True)):
        assert mine.keys() == theirs.keys() and len(mine) > 20
        for name in mine:
            assert float((mine[name] - theirs[name]).abs().max()) < CLOSE, (step, name)
    for name, columns in (("train", ("loss", "grad_norm")), ("validation", None)):
        rows = list(zip(table(one, name), table(two, name), strict=True))
        assert len(rows) == (10 if name == "train" else 3)
        for mine, theirs in rows:
            for column in columns or mine:
                assert mine[column] == pytest.approx(theirs[column], abs=CLOSE), (name, column)


@pytest.mark.parametrize("compactness", [0, 1])
def test_a_jepa_of_two_processes_and_its_running_mean_are_those_of_one(
    compactness, tiny, stored, tmp_path, environment
):
    flags = [flag for flag in tiny if not flag.startswith(("--decoder", "--vit.patch-size"))]
    flags += [f"--data={stored}", "--encoder=physics", f"--compactness={compactness}", "--vit.patch-size=2",
              "--steps=4", "--validate-every=4", "--momentum=0.5", "--predictor.width=16"]  # fmt: skip
    commands = {"one": ["--batch-size=8"], "two": ["--batch-size=4", "--devices=2"]}
    for name, more in commands.items():
        command = [sys.executable, "-m", "trainers.jepa", *flags, *more, f"--out={tmp_path / name}"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr
    for mine, theirs in zip(*(table(tmp_path / name, "train") for name in commands), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=CLOSE)
        assert mine["grad_norm"] == pytest.approx(theirs["grad_norm"], rel=1e-3)
    one, two = (read_checkpoint(tmp_path / name).weights for name in commands)
    moved = [name for name in one if name.startswith("target.")]
    assert len(moved) > 20 and any(
        not torch.equal(one[name], one[name.replace("target.", "encoder.")]) for name in moved
    )
    for name in moved:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=2e-4)  # Adam turns roundings into small steps


@pytest.fixture
def started(environment):
    """Starts a run of two processes and finds them once it trains: `started(*flags, out=...)` -> (main, child pid)."""
    main = []

    def start(*flags, out):
        command = trainer(*flags, "--batch-size=4", "--devices=2", "--out", out)
        main.append(
            subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True)
        )
        until = time.monotonic() + 120
        while not checkpoints(out) and main[0].poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        assert main[0].poll() is None, main[0].stderr.read()
        return main[0], children(main[0].pid)[0]

    yield start
    for process in main:
        if process.poll() is None or not gone(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def children(pid):
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def gone(pid):
    """Whether a process has ended (a zombie has)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def lose(started, rank, folder, flags):
    """Kills a rank; returns what was said until both had ended, within a minute."""
    main, child = started(*flags, out=folder)
    os.kill((main.pid, child)[rank], signal.SIGKILL)
    until = time.monotonic() + 60
    while not (gone(main.pid) and gone(child)) and time.monotonic() < until:
        time.sleep(0.02)
    assert gone(main.pid) and gone(child), "a process was left behind"
    said = main.communicate(timeout=10)[1]
    assert main.returncode == (-signal.SIGKILL, 2)[rank]
    assert f"process {rank} of 2 is gone" in said
    assert f"{checkpoints(folder)[-1]} is whole; go on with: python -m trainers.mae --resume {folder}" in said
    return said


finds_processes = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
ENDLESS = ["--checkpoint-every=5", "--validate-every=100000", "--log-every=1", "--vit.dropout=0.1"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "flags"),
    [
        ("classify", ["--augment=d4", "--optimizer.layer-decay=0.7"]),
        ("classify", ["--method=linear", "--optimizer.lr=0.1"]),
        ("superres", ["--low=downsample", "--entry=resample", "--vit.patch-size=16", "--decoder.width=16"]),
    ],
)
def test_other_trainers_on_two_processes_are_those_on_one(name, flags, tiny, make_blobs, tmp_path, environment):
    np.savez(tmp_path / "set.npz", **make_blobs(150, 64))
    shared = [flag for flag in tiny if not flag.startswith("--decoder")]
    shared += ["--data", tmp_path / "set.npz", *DROPPING, "--vit.patch-size=16", *flags]
    for devices, size in ((1, 8), (2, 4)):
        flags = [*shared, f"--devices={devices}", f"--batch-size={size}", "--out", tmp_path / str(devices)]
        command = [sys.executable, "-m", f"trainers.{name}", *map(str, flags)]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert ended.returncode == 0, ended.stderr
    for file in ("train", "validation"):
        rows = list(zip(table(tmp_path / "1", file), table(tmp_path / "2", file), strict=True))
        assert len(rows) == (10 if file == "train" else 3)
        for one, two in rows:
            for column in {"loss", "grad_norm", "macro_auc", "psnr", "ssim"} & one.keys():
                # decibels of an image are 4.3 times the relative error of its mean square
                assert one[column] == pytest.approx(two[column], abs=CLOSE, rel=CLOSE), column


@finds_processes
def test_a_lost_process_ends_the_other_with_a_message(started, tiny, stored, tmp_path):
    said = lose(started, 1, tmp_path / "run", [*tiny, "--data", stored, *ENDLESS, "--steps=100000"])
    assert "Traceback" not in said


@finds_processes
@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 1])
def test_a_lost_process_costs_steps_and_no_losses(started, tiny, tmp_path, environment, rank):
    """With workers, which are forked and would keep a dead process's connections open."""
    flags = [*tiny, "--stream", "--set=grid.size=32", *ENDLESS, "--workers=1", "--steps=80"]
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    lose(started, rank, broken, flags)  # what the workers of the dead say is theirs
    resumed = subprocess.run(trainer("--resume", broken), env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    straight = trainer(*flags, "--batch-size=4", "--devices=2", "--out", whole)
    subprocess.run(straight, env=environment, check=True, capture_output=True)
    rows = [[(row["step"], row["loss"], row["grad_norm"]) for row in read_table(folder / "train.csv")]
            for folder in (broken, whole)]  # fmt: skip
    assert rows[0] == rows[1] and len(rows[0]) == 80


@pytest.mark.slow
def test_a_loss_that_is_not_finite_on_one_rank_stops_both(tiny, stored, tmp_path, script):
    flags = [*tiny, "--data", stored, "--batch-size=4", "--devices=2", "--log-every=50", "--validate-every=50"]
    ended = script(SPOILS_AN_IMAGE, *flags, "--steps=50", "--out", tmp_path / "run")
    assert ended.returncode == 2 and "is gone" not in ended.stderr and "Traceback" not in ended.stderr
    assert "is nan (rows of" in ended.stderr
    index = ended.stderr.split("images ")[1].split(")")[0]
    assert index.count(",") + 1 + index.count("-") == 8 and "21" in index
    assert not checkpoints(tmp_path / "run")


@pytest.mark.slow
def test_a_full_disk_on_rank_0_ends_rank_1_too(tiny, stored, tmp_path, script):
    """Only rank 0 writes; the other waits for it."""
    full = SPOILS_AN_IMAGE.split("loss =")[0] + (
        "from trainers import checkpoint\n"
        "def no_room(*args):\n    raise OSError(28, 'No space left on device')\n"
        "checkpoint.save_file = no_room\n"
        "exit_with_message(lambda: mae.main(sys.argv[1:]))\n"
    )
    begin = time.monotonic()
    ended = script(
        full, *tiny, "--data", stored, "--batch-size=4", "--devices=2", "--steps=4", "--out", tmp_path / "run"
    )
    assert time.monotonic() - begin < 100
    assert ended.returncode == 2 and "No space left on device" in ended.stderr
    assert "process 0 of 2 is gone" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.slow
def test_torchrun_needs_no_flags(tiny, stored, tmp_path, environment):
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "-m", "trainers.mae"]
    flags = [*tiny, "--data", str(stored), "--batch-size=4", "--steps=4", "--validate-every=2"]
    ended = subprocess.run(
        [*torchrun, *flags, "--out", tmp_path / "run"], env=environment, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr
    assert mae.main([*flags, "--batch-size=8", "--out", str(tmp_path / "one")]) == 0
    for mine, theirs in zip(table(tmp_path / "one", "train"), table(tmp_path / "run", "train"), strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], abs=CLOSE)
    # resumed without torchrun: config.yaml says how many processes there were
    before = read_table(tmp_path / "run" / "train.csv")
    resume = trainer("--resume", tmp_path / "run" / "checkpoints" / "step_000002")
    subprocess.run(resume, env=environment, check=True, capture_output=True)
    after = read_table(tmp_path / "run" / "train.csv")
    assert [row["loss"] for row in before] == [row["loss"] for row in after]


def test_torchrun_with_another_number_of_devices_is_refused(monkeypatch):
    assert layout(RunConfig(devices=3)) == (3, 1)
    for name, value in {"TORCHELASTIC_RUN_ID": "x", "LOCAL_WORLD_SIZE": "2", "WORLD_SIZE": "8"}.items():
        monkeypatch.setenv(name, value)
    assert layout(RunConfig()) == layout(RunConfig(devices=2)) == (2, 4)
    with pytest.raises(ConfigError, match=r"--devices 3, but torchrun started 2 .*--nproc-per-node 3"):
        layout(RunConfig(devices=3))
