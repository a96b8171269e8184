"""Two processes are one, for every method: each works out the loss of the whole batch."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ssl_processes import buffers, gradients

from trainers.gather import gathered
from trainers.logs import read_table
from trainers.self_supervision.registry import METHODS

CLOSE = 1e-5  # sums over images are taken in another order
SSL = [
    "--workers=0", "--log-every=2", "--minutes=None", "--steps=4", "--validate-every=4",
    "--validation.fit=30", "--validation.score=12", "--validation.test=20", "--validation.neighbours=3",
    "--vit.patch-size=4", "--vit.depth=2", "--vit.width=16", "--vit.heads=2", "--head-hidden=32", "--head-width=16",
    "--vit.dropout=0.1", "--vit.drop-path=0.2", "--optimizer.warmup=0", "--optimizer.lr=1e-4",
]  # fmt: skip
LAYER = [method for method in METHODS if "layer" in METHODS[method].norms]
NONE = [method for method in METHODS if method not in LAYER]


def test_one_process_has_its_own_values():
    values = torch.randn(3, 4, requires_grad=True)
    assert gathered(values, dim=1) is values


def require_equal(methods, flags, tmp_path, environment, close=CLOSE):
    """Runs of these methods on two processes and on one with the whole batch: gradients, buffers and losses."""
    two = tmp_path / "two"
    two.mkdir()
    script = Path(__file__).with_name("ssl_processes.py")
    ended = subprocess.run(
        [sys.executable, script, two, ",".join(methods), *flags, "--batch-size=4", "--devices=2"],
        env=environment, capture_output=True, text=True, timeout=380,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    everything = torch.load(two / "gradients.pt", weights_only=True, map_location="cpu")
    for method in methods:
        theirs, folder = everything[method], tmp_path / method
        loop, mine = gradients(method, [*flags, "--batch-size=8", f"--out={folder}"])
        assert len(mine) == len(theirs["gradients"]) == 4
        for here, there in zip(mine, theirs["gradients"], strict=True):
            assert here.keys() == there.keys() and len(here) > 20
            largest = max(float(value.abs().max()) for value in here.values())
            assert largest > 1e-3, method
            for name in here:  # those of DINO's smallest heads are hundreds
                difference = float((here[name].cpu() - there[name]).abs().max())
                assert difference < close * max(1, largest), (method, name)
        kept = buffers(loop.task.model)
        assert "criterion.center" in kept or method != "dino"
        for name, value in kept.items():
            torch.testing.assert_close(value.cpu(), theirs["buffers"][name], atol=close, rtol=close)
        rows = [read_table(run / "train.csv") for run in (folder, two / method)]
        assert len(rows[0]) == len(rows[1]) == 4
        for here, there in zip(*rows, strict=True):
            assert float(here["loss"]) == pytest.approx(float(there["loss"]), abs=close, rel=close), method


@pytest.mark.timeout(400)
@pytest.mark.parametrize(
    ("norm", "methods"),
    [
        ("layer", ["byol"]),
        pytest.param("layer", [method for method in LAYER if method != "byol"], marks=pytest.mark.slow),
        pytest.param("none", NONE, marks=pytest.mark.slow),
    ],
)
def test_losses_and_gradients_are_those_of_one_process(norm, methods, stored, tmp_path, environment):
    flags = [*SSL, "--accelerator=cpu", f"--data={stored}", f"--head-norm={norm}"]
    require_equal(methods, flags, tmp_path, environment)


@pytest.mark.gpu
@pytest.mark.timeout(600)
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_batch_norms_take_the_statistics_of_all_gpus(stored, tmp_path, environment):
    flags = [*SSL, "--accelerator=cuda", "--precision=32-true", "--model=cnn", f"--data={stored}", "--head-norm=batch"]
    flags = [flag for flag in flags if not flag.startswith("--vit.d")]
    require_equal(list(METHODS), flags, tmp_path, environment, close=1e-4)  # convolutions sum in another order
