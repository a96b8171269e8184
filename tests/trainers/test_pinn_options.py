"""What trainers.pinn does of its options: idle ones are refused, nothing is worked out before its time."""

import contextlib
import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import lensgen
from lensgen.errors import ParameterError
from trainers import pinn
from trainers.checkpoint import read_checkpoint
from trainers.config import DataConfig, ValidationConfig
from trainers.data import open_data
from trainers.draws import Draws
from trainers.errors import CheckpointError, ConfigError
from trainers.finetune import Origin
from trainers.models.lenspinn import LensPINN
from trainers.models.physics.splat import splat
from trainers.models.pinn import restore
from trainers.models.vit import ViTConfig
from trainers.pinn_config import PinnConfig
from trainers.relensed import Relensed, require_no_lens_light

CPU = torch.device("cpu")
SMALL = ValidationConfig(fit=12, score=10, test=6, neighbours=3)


@pytest.fixture(scope="module")
def few(tmp_path_factory):
    """The path of 60 noisy rings."""
    rng = np.random.default_rng(0)
    radius, axis = rng.uniform(3, 6, 60), np.arange(16) - 7.5
    distance = np.hypot(axis[:, None], axis[None, :])
    image = 40 * np.exp(-((distance - radius[:, None, None]) ** 2)) + rng.normal(0, 1, (60, 16, 16))
    path = tmp_path_factory.mktemp("few") / "few.npz"
    arrays = {"image": image.astype(np.float32), "label": np.arange(60) % 3, "lens.theta_E": radius}
    np.savez(path, **arrays, input_scale=1.0, pixel_scale=1.0)
    return path


@pytest.fixture(scope="module")
def flags(tiny, few):
    """Those of a tiny run on them."""
    own = [flag for flag in tiny if not flag.startswith(("--decoder", "--vit", "--validation"))]
    sizes = ["--validation.fit=12", "--validation.score=10", "--validation.test=6", "--validation.neighbours=3"]
    return [*own, *sizes, "--data", str(few), "--steps=2", "--validate-every=2", "--augment=none"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"physics_after": 0.2}, r"--physics-after 0\.2 is of chi-square, which has no weight"),
        ({"preprocessing": False, "floor": 0.1}, r"--floor 0\.1 is of the preprocessing that --no-preprocessing leave"),
    ],
)
def test_options_that_do_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        PinnConfig(**options)


def test_defaults_may_stand_beside_anything():
    assert PinnConfig(physics_after=0.5, physics_weight=0.0).physics_after == 0.5
    assert not PinnConfig(floor=0.02, preprocessing=False).preprocessing
    assert PinnConfig(physics_after=0.0, physics_weight=0.1).weights["chi_square"] == 0.1


@pytest.fixture
def late_task(monkeypatch):
    """A task with chi-square from half of its steps on, a batch, and how often chi-square was worked out."""
    simulated = DataConfig(stream=True, preset="lenspinn", set=("grid.size=32",))
    config = PinnConfig(data=simulated, validation=SMALL, physics_weight=0.5)
    task = pinn.PinnTask(config, open_data(simulated, SMALL, 4, CPU), CPU, Origin(None, None, {}))
    calls = []

    def infinite(images, params, theta_E):
        calls.append(len(images))
        return theta_E / torch.zeros_like(theta_E)

    monkeypatch.setattr(task._relensed, "chi_square", infinite)
    return task, next(iter(task.data.source)), calls


def test_chi_square_is_not_there_before_its_time(late_task):
    task, batch, calls = late_task
    early = task.loss(task.model, batch, Draws(0, 4, batch.index, 10))
    early.backward()
    assert early.isfinite() and not calls
    assert all(own.grad is None or own.grad.isfinite().all() for own in task.model.parameters())
    assert not task.loss(task.model, batch, Draws(0, 5, batch.index, 10)).isfinite() and calls == [4]


def test_a_run_with_minutes_tries_its_steps_with_chi_square(tmp_path, flags, monkeypatch):
    """And takes its first steps without it."""
    seen = []

    class Watched(pinn.PinnTask):
        def lens_losses(self, images, params, theta_E, late=True):
            if theta_E.requires_grad:
                seen.append(late)
            return super().lens_losses(images, params, theta_E, late)

        def test(self, folder, checkpoint):
            return []

    monkeypatch.setattr(pinn, "PinnTask", Watched)
    own = [flag for flag in flags if not flag.startswith("--minutes")]
    # the clock runs since this process, with all tests before this one, was begun
    with contextlib.redirect_stdout(io.StringIO()):
        assert pinn.main([*own, "--minutes=600", f"--out={tmp_path / 'run'}"]) == 0
    tried = len(seen) - 2  # as many as the machine's speed asks for
    assert tried > 0 and seen == [True] * tried + [False, True]  # of two steps the second is late
    seen.clear()
    with contextlib.redirect_stdout(io.StringIO()):
        assert pinn.main([*flags, f"--out={tmp_path / 'other'}"]) == 0
    assert seen == [False, True]


@pytest.mark.parametrize("model", ["lenspinn_small", "lensformer"])
def test_hard_trains_all_that_it_says_it_trains(few, model):
    source = DataConfig(data=few)
    config = PinnConfig(data=source, validation=SMALL, model=model, hard=True)
    task = pinn.PinnTask(config, open_data(source, SMALL, 4, CPU), CPU, Origin(None, None, {}))
    batch = next(iter(task.data.source))
    task.loss(task.model, batch, Draws(0, 0, batch.index)).backward()
    parameters = dict(task.model.named_parameters())
    frozen = {name.split(".")[0] for name, own in parameters.items() if not own.requires_grad}
    assert frozen == {"radius" if isinstance(task.network, LensPINN) else "correction"}
    assert all((own.grad is not None) == own.requires_grad for own in parameters.values())


def test_hard_on_two_processes(tmp_path, flags, environment):
    """With the plain ddp, which waits for the gradient of all that is trained: it ended in the second step."""
    script = tmp_path / "run.py"  # a file, as the second process is started by its name
    script.write_text("from trainers import pinn\npinn.PinnTask.test = lambda *_: []\npinn.main()\n")
    own = ["--hard", "--devices=2", "--strategy=ddp", "--batch-size=2", f"--out={tmp_path / 'run'}", "--steps=3"]
    done = subprocess.run(
        [sys.executable, str(script), *flags, *own],
        env=environment | {"PYTHONPATH": str(Path.cwd())}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert read_checkpoint(tmp_path / "run").about["progress"]["step"] == 3


def test_shapes_that_do_not_belong_together_are_named():
    values, place = torch.rand(2, 1, 9), torch.zeros(2, 9)
    splat(values, place, place, (3, 3))
    for wrong in (place[:, :8], place[:1], place[0]):
        with pytest.raises(ParameterError, match=r"values are \[2, 1, 9\], .*a position for every value"):
            splat(values, place, wrong, (3, 3))


def test_messages_say_what_to_do():
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, .* open this one by trainers\.load"):
        restore({"trainer": "mae"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "lensformer", "preprocessing": False}, "--no-preprocessing takes a part of LensPINN away"),
        ({"model": "lensformer", "physics": False}, "--no-physics takes a part of LensPINN away"),
        ({"hard": True, "physics": False}, "--hard is of the source that --no-physics leaves out"),
        ({"hard": True, "compactness": 1.0}, "--compactness 1 teaches a lens that --hard leaves untaught"),
        ({"hard": True, "physics_weight": 0.1}, r"--physics-weight 0\.1 teaches a lens that --hard leaves untaught"),
        ({"physics": False, "compactness": 2.0}, "--compactness 2 teaches a lens that --no-physics leaves out"),
        ({"physics_weight": 0.1, "model": "lensformer"}, "take --model lenspinn_small or lenspinn_large, or --physics"),
        ({"physics_weight": 0.1, "data": DataConfig(data=Path("a.npz"))}, "give --stream, or --physics-weight 0"),
        ({"augment": "simsiam"}, "simsiam crops images, which .*; allowed: none, d4, rotation, noise, byol"),
        ({"encoder": Path("a")}, "encoder, pretrained and vit are options of trainers.classify"),
        ({"vit": ViTConfig(depth=2)}, "encoder, pretrained and vit are options of trainers.classify"),
        ({"floor": 0.0}, "floor is 0.0; allowed: 1e-06 to 0.9"),
        ({"compactness": -1.0}, "compactness is -1.0; allowed: 0 or more"),
        ({"physics_weight": -1.0}, "physics_weight is -1.0; allowed: 0 or more"),
        ({"physics_after": 1.1}, "physics_after is 1.1; allowed: 0 to 1"),
        ({"dropout": 1.0}, "dropout is 1.0; allowed: 0 to 0.9"),
        ({"label_smoothing": 1.0}, r"label_smoothing is 1\.0; allowed: 0 to 0\.9"),
    ],
)  # fmt: skip
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        PinnConfig(**options)


def test_weights_are_those_that_are_not_zero():
    assert PinnConfig().weights == {"compactness": 10.0}
    assert (
        PinnConfig(hard=True).weights == PinnConfig(physics=False).weights == PinnConfig(compactness=0.0).weights == {}
    )
    assert PinnConfig(compactness=2.0, physics_weight=0.1).weights == {"compactness": 2.0, "chi_square": 0.1}
    assert "preprocessing" not in PinnConfig(model="lensformer").options


@pytest.mark.parametrize(
    ("preset", "message"),
    [
        (
            "deeplense_ii_legacy",
            r"images of preset deeplense_ii_legacy have none; give --set noise\.recipe=ccd, or --ph",
        ),
        ("deeplense_iv_legacy_macro", "are divided by their peak, and it with them; give --set normalise=none"),
        ("hst", "--physics-weight takes all light .* preset hst show the lens's own too; give --set lens_light=null"),
    ],
)
def test_presets_that_cannot_be_lensed_again_are_refused_and_their_fixes_help(preset, message):
    made = lensgen.load_preset(preset)
    with pytest.raises(ConfigError, match=message):
        Relensed(made)
    fixes = {"noise.recipe": "ccd", "normalise": "none", "lens_light": None}
    Relensed(made.override(fixes))


def test_lens_light_is_no_sources_light():
    with pytest.raises(
        ConfigError, match=r"--compactness takes all light .* give --set lens_light=null, or --compactn"
    ):
        require_no_lens_light("--compactness", lensgen.load_preset("hst"))
    assert lensgen.parse_overrides(("lens_light=null",)) == {"lens_light": None}
