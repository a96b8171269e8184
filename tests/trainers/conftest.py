"""A small stored set and a tiny model: most of a trainer can be tested without simulating anything."""

import contextlib
import dataclasses
import os
import signal

import numpy as np
import pytest
import torch

from trainers import mae
from trainers.checkpoint import write_checkpoint
from trainers.loop import Loop
from trainers.models.registry import build_model
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform

TINY = [
    "--accelerator=cpu", "--workers=0", "--batch-size=8", "--log-every=2", "--minutes=None",
    "--validation.fit=30", "--validation.score=12", "--validation.test=20", "--validation.neighbours=3",
    "--vit.patch-size=4", "--vit.depth=1", "--vit.width=16", "--vit.heads=2",
    "--decoder.depth=1", "--decoder.width=16", "--decoder.heads=2",
]  # fmt: skip

VIT = ViTConfig(patch_size=4, depth=1, width=16, heads=2)


def blobs(count: int, side: int = 16) -> dict[str, np.ndarray]:
    """Images `[N, side, side]` of a spot whose place is the target `x` and whose brightness is the label."""
    rng = np.random.default_rng(0)
    label, x = rng.integers(0, 3, count), rng.uniform(-3, 3, count)
    axis = np.arange(side) - (side - 1) / 2
    distance = (axis[None, None, :] - x[:, None, None]) ** 2 + axis[None, :, None] ** 2
    image = (1 + label[:, None, None]) * np.exp(-distance / 8) + rng.normal(0, 0.02, (count, side, side))
    return {"image": image.astype(np.float32), "label": label, "x": x.astype(np.float32)}


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Models this small are slowed down by a second thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def stored(tmp_path_factory):
    """The path of a small stored set."""
    path = tmp_path_factory.mktemp("stored") / "blobs.npz"
    np.savez(path, **blobs(200))
    return path


@pytest.fixture(scope="session")
def make_blobs():
    """`blobs` itself, for tests that need other sets."""
    return blobs


@pytest.fixture(scope="session")
def tiny():
    """Flags that make a run small."""
    return list(TINY)


@pytest.fixture
def train(stored, tmp_path, monkeypatch):
    """Runs the MAE trainer on the stored set: `train("--steps", "4", out=...)` -> the run's folder.

    Without its figures, which take longer than all the rest, unless `figures=True` asks for them.
    """
    draw = mae.MAETask.draw

    def run(*flags, out="run", status=0, figures=False):
        monkeypatch.setattr(mae.MAETask, "draw", draw if figures else lambda self, folder: [])
        folder = tmp_path / out
        argv = [*TINY, "--data", str(stored), "--out", str(folder), "--steps", "6", "--validate-every", "3", *flags]
        assert mae.main(argv) == status
        return folder

    return run


@pytest.fixture(scope="session")
def environment():
    """For subprocesses: one thread each, as the machine that runs the tests is small."""
    return {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="session")
def pretend_ssl():
    """Writes a checkpoint as trainers.ssl does, of any model: `pretend_ssl(folder, "cnn")` -> the encoder in it."""

    def write(folder, name, image_shape=(1, 16, 16), vit=VIT):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(5)
            encoder = build_model(name, image_shape, 0, vit).train()
            with torch.no_grad():
                encoder(1 + 2 * torch.randn(16, *image_shape))  # so that batch norms have statistics of their own
        whole = torch.nn.ModuleDict({"encoder": encoder, "projector": torch.nn.Linear(3, 2)})
        about = {
            "trainer": "ssl",
            "model": {"name": name, "image_shape": list(image_shape), "vit": dataclasses.asdict(vit), "heads": {}},
            "transform": InputTransform((0.37,)).as_json(),
            "data": {"fingerprint": "another set"},
            "class_names": [],
            "seen": [],
            "config": {"validation": {"test": 0}},
        }
        write_checkpoint(folder, 3, whole, torch.optim.SGD(whole.parameters()), about, keep=1)
        return encoder.eval()

    return write


@pytest.fixture
def after_steps(monkeypatch):
    """`with after_steps(5):` a run gets Ctrl-C after its fifth step."""

    @contextlib.contextmanager
    def interrupted_after(steps):
        step, count = Loop._train_step, []

        def interrupted(self, batches):
            step(self, batches)
            count.append(1)
            if len(count) == steps:
                signal.raise_signal(signal.SIGINT)

        with monkeypatch.context() as patch:
            patch.setattr(Loop, "_train_step", interrupted)
            yield

    return interrupted_after
