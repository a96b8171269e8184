"""No model is judged on images that it, or its encoder, was trained on."""

import numpy as np
import pytest
import torch

from trainers import classify, mae, superres
from trainers.checkpoint import best_or_newest, read_checkpoint
from trainers.errors import ConfigError
from trainers.frozen import FrozenImages

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def large(make_blobs, tmp_path_factory):
    """A set of 150 images of 64 x 64 pixels, as super-resolution needs."""
    path = tmp_path_factory.mktemp("large") / "large.npz"
    np.savez(path, **make_blobs(150, 64))
    return path


@pytest.fixture(scope="module")
def flags(tiny):
    """Those of all trainers."""
    own = ("--decoder", "--validation")
    return [*(flag for flag in tiny if not flag.startswith(own)), "--validation.neighbours=3", "--vit.patch-size=16"]


@pytest.fixture(scope="module")
def encoder(large, flags, tmp_path_factory):
    """A run of trainers.mae that held out few images, and saw all others."""
    folder = tmp_path_factory.mktemp("runs") / "mae"
    sizes = ["--validation.fit=10", "--validation.score=10", "--validation.test=5", "--decoder.width=16"]
    assert mae.main([*flags, *sizes, "--data", str(large), "--out", str(folder), "--steps=16"]) == 0
    return folder


@pytest.mark.parametrize(("trainer", "more"), [(classify, []), (superres, ["--low=downsample", "--entry=resample"])])
def test_an_encoder_that_saw_test_images_is_refused(trainer, more, encoder, large, flags, tmp_path):
    common = [*flags, *more, "--validation.fit=30", "--validation.score=12", "--data", str(large), "--steps=1",
              "--encoder", str(encoder), "--out"]  # fmt: skip
    # of 33 rows the encoder held out the first 5 for its test, and the next 20 for its validation
    message = r"mae: it was trained on 8 of these 33 test images\. Pretrain with --validation\.test 33 or more; .* 5,"
    with pytest.raises(ConfigError, match=message):
        trainer.main([*common, str(tmp_path / "refused"), "--validation.test=33"])
    assert trainer.main([*common, str(tmp_path / "taken"), "--validation.test=5"]) == 0
    about = read_checkpoint(best_or_newest(tmp_path / "taken")).about
    assert sum(past - first for first, past in about["pretrained_on"]["seen"]) == 125


def test_images_that_a_checkpoint_or_its_encoder_saw_are_no_test(encoder, large, flags, make_blobs, tmp_path):
    other, folder = tmp_path / "other.npz", tmp_path / "run"
    np.savez(other, **make_blobs(160, 64))
    argv = [*flags, "--validation.fit=30", "--validation.score=12", "--validation.test=20", f"--encoder={encoder}"]
    assert classify.main([*argv, "--data", str(other), "--steps=2", "--checkpoint-every=1", f"--out={folder}"]) == 0
    # gone on with: what its encoder saw is still known
    encoder_seen = read_checkpoint(folder).about["pretrained_on"]
    assert classify.main(["--resume", str(folder / "checkpoints" / "step_000001")]) == 0
    assert read_checkpoint(folder).about["pretrained_on"] == encoder_seen
    # other images than those of its own training, but its encoder's
    with pytest.raises(ConfigError, match=r"step 2: its encoder was trained on 125 of these 150 test images\. Take"):
        classify.main(["--evaluate-only", str(folder / "checkpoints" / "step_000002"), "--data", str(large)])
    about = read_checkpoint(folder).about
    assert FrozenImages.of_stored(other, about, CPU).size == 20
    # a checkpoint of a version that held out other rows
    with pytest.raises(ConfigError, match=r"it was trained on 20 of these 20 test images\. Train it anew"):
        FrozenImages.of_stored(other, {**about, "seen": [[0, 160]]}, CPU)
