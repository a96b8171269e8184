"""Training on simulated images: killed, resumed, and shared out among processes."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch

import trainers.ahead
from lensgen.errors import LensgenError, PresetError, UnknownNameError
from trainers import mae
from trainers.ahead import SimulatedAhead, usable_cores
from trainers.checkpoint import checkpoints
from trainers.config import DataConfig, ValidationConfig
from trainers.data import open_data
from trainers.logs import read_table

CPU = torch.device("cpu")
SMALL = ["--stream", "--workers=1", "--set=grid.size=32", "--steps=40", "--checkpoint-every=5", "--validate-every=20"]


def losses(folder):
    return [(int(row["step"]), round(float(row["loss"]), 6)) for row in read_table(folder / "train.csv")]


def trainer(*flags):
    return [sys.executable, "-m", "trainers.mae", *map(str, flags)]


def test_a_streamed_run(tiny, tmp_path):
    assert mae.main([*tiny, *SMALL, "--steps=3", f"--out={tmp_path / 'run'}"]) == 0
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["images_seen"], summary["images_distinct"], summary["images_repeated"]) == (24, 24, 0)
    assert {"r2/lens.theta_E", "r2/source.center_x", "r2/source.center_y", "knn_accuracy"} <= set(summary["trained"])


def test_validation_images_are_not_trained_on():
    data = open_data(
        DataConfig(stream=True, set=("grid.size=32",)),
        ValidationConfig(fit=20, score=10, test=20, neighbours=3),
        30,
        CPU,
    )
    held_out = torch.cat([data.fit.image, data.score.image])
    trained = next(iter(data.source)).image
    assert data.image_shape == (1, 32, 32) and held_out.shape == trained.shape
    assert torch.cdist(trained.flatten(1), held_out.flatten(1)).min() > 0
    assert not torch.equal(data.fit.image[:10], data.score.image)


def test_workers_change_nothing_but_the_speed(tiny, tmp_path):
    assert torch.get_num_threads() == 1  # the losses are equal for the same number of threads
    for workers in (0, 2):
        out = tmp_path / str(workers)
        assert mae.main([*tiny, *SMALL, "--steps=6", "--log-every=4", f"--workers={workers}", f"--out={out}"]) == 0
    assert losses(tmp_path / "0") == losses(tmp_path / "2")


def test_a_stream_with_workers_goes_on_where_it_stood():
    config = DataConfig(stream=True, set=("grid.size=32",), workers=1)
    validation = ValidationConfig(fit=10, score=10, test=20, neighbours=3)
    source = open_data(config, validation, 4, CPU).source
    batches = iter(source)
    assert [next(batches).index[0].item() for _ in range(3)] == [0, 4, 8]
    again = open_data(config, validation, 4, CPU).source
    again.load_state_dict(source.state_dict())
    assert next(iter(again)).index.tolist() == next(batches).index.tolist() == [12, 13, 14, 15]
    assert next(iter(source)).index[0].item() == 16  # iterated once more


def test_changes_of_the_preset_are_read_as_everywhere_in_lensgen(tiny, tmp_path):
    validation = ValidationConfig(fit=10, score=10, test=20, neighbours=3)
    with pytest.raises(LensgenError, match=r"grid\.size.*32\.0"):  # a number, which plain YAML takes for text
        open_data(DataConfig(stream=True, set=("grid.size=3.2e1",)), validation, 4, CPU)
    with pytest.raises(PresetError, match="write field=value"):
        mae.main([*tiny, "--stream", "--steps=1", f"--out={tmp_path / 'run'}", "--set=grid.size"])


@pytest.mark.parametrize(
    ("allowed", "cores", "workers", "expected"), [(8, 4, 1, 3), (2, 16, 1, 2), (8, 2, 2, 1), (1, 8, 2, 1)]
)
def test_torch_leaves_the_workers_their_cores_and_takes_them_back(monkeypatch, allowed, cores, workers, expected):
    now = [allowed]
    monkeypatch.setattr(torch, "get_num_threads", lambda: now[-1])
    monkeypatch.setattr(torch, "set_num_threads", now.append)
    monkeypatch.setattr(trainers.ahead, "usable_cores", lambda: cores)
    monkeypatch.setattr(trainers.ahead, "DataLoader", lambda *_, **__: itertools.repeat("batch"))
    batches = iter(SimulatedAhead(SimpleNamespace(skip=int), workers))
    assert next(batches) == next(batches) == "batch" and now[-1] == expected
    batches.close()
    assert now[-1] == allowed


def test_usable_cores_without_affinity(monkeypatch):
    assert 1 <= usable_cores() <= os.cpu_count()
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert usable_cores() == os.cpu_count()


def test_unknown_presets_and_fields_are_explained(tiny, tmp_path):
    for flags in (["--preset=model_q"], ["--set=grid.siez=32"]):
        with pytest.raises(UnknownNameError, match="Did you mean"):
            mae.main([*tiny, "--stream", "--steps=1", f"--out={tmp_path / 'run'}", *flags])


@pytest.mark.slow  # on stored sets test_kills does it in every `make test`
def test_killed_and_resumed_logs_the_losses_of_an_uninterrupted_run(tiny, tmp_path, environment):
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    process = subprocess.Popen(trainer(*tiny, *SMALL, "--out", broken), env=environment, stderr=subprocess.DEVNULL)
    until = time.monotonic() + 120
    while not checkpoints(broken) and process.poll() is None and time.monotonic() < until:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "the run ended before it could be killed"
    resumed = subprocess.run(trainer("--resume", broken), env=environment, capture_output=True, text=True)
    assert resumed.returncode == 0, resumed.stderr
    straight = subprocess.run(trainer(*tiny, *SMALL, "--out", whole), env=environment, capture_output=True, text=True)
    assert straight.returncode == 0, straight.stderr
    assert losses(broken) == losses(whole) and len(losses(whole)) == 40
    assert read_table(broken / "validation.csv") == read_table(whole / "validation.csv")


def test_mistakes_end_with_a_message_and_no_traceback(environment, tmp_path):
    for flags, message in (([], "give --stream"), (["--data", tmp_path / "no.npz"], "there is no such file")):
        ended = subprocess.run(trainer(*flags), env=environment, capture_output=True, text=True, cwd=tmp_path)
        assert ended.returncode == 2 and message in ended.stderr and "Traceback" not in ended.stderr


RANKS = """
import sys, json, torch
from trainers.config import DataConfig, RunConfig, ValidationConfig
from trainers.data import open_data
from trainers.session import launch
fabric = launch(RunConfig(devices=2, accelerator="cpu"))
data = open_data(DataConfig(stream=True, set=("grid.size=32",)),
                 ValidationConfig(fit=10, score=10, test=20, neighbours=3), 4,
                 fabric.device, fabric.global_rank, fabric.world_size)
batches = iter(data.source)
index = torch.cat([next(batches).index for _ in range(5)])
every = fabric.all_gather(index)
if fabric.is_global_zero:
    open(sys.argv[1], "w").write(json.dumps(every.tolist()))
"""


@pytest.mark.slow
def test_two_processes_see_disjoint_images(tmp_path, environment):
    script, found = tmp_path / "ranks.py", tmp_path / "found.json"
    script.write_text(RANKS)
    subprocess.run([sys.executable, script, found], env=environment, check=True, timeout=240)
    one, two = json.loads(found.read_text())
    assert sorted(one + two) == list(range(40)) and one[:4] == [0, 1, 2, 3] and two[:4] == [4, 5, 6, 7]


@pytest.mark.slow
def test_two_processes_train_and_resume(tiny, tmp_path, environment):
    folder = tmp_path / "run"
    flags = [*tiny, *SMALL, "--steps=10", "--devices=2", "--out", folder]
    subprocess.run(trainer(*flags), env=environment, check=True, timeout=240)
    before = losses(folder)
    summary = json.loads((folder / "summary.json").read_text())
    assert len(before) == 10 and summary["images_seen"] == summary["images_distinct"] == 160
    first = checkpoints(folder)[0]
    assert first.name == "step_000005"
    subprocess.run(trainer("--resume", first), env=environment, check=True, timeout=240)
    assert losses(folder) == before
