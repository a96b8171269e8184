"""That no model is judged on images of a stored set that it, or the encoder it began with, was trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from trainers.command_line import run_folder
from trainers.data import Data
from trainers.errors import ConfigError
from trainers.models.encoders import Encoder
from trainers.seen import IndexSet


def pretraining(encoder: Encoder | None, data: Data, saved: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What a run's checkpoints say of the images that its encoder was trained on: `pretrained_on`, or nothing.

    Args:
        encoder: that a new run begins with; None for none.
        data: of the run.
        saved: what the checkpoint says that training goes on from, the encoder's images among it.

    Raises:
        ConfigError: encoder or checkpoint was trained on test images of `data`.
    """
    if saved is not None:
        require_unseen(saved, data.identity["fingerprint"], data.test_index, "--resume", "Start the run anew.")
        return {"pretrained_on": saved["pretrained_on"]} if "pretrained_on" in saved else {}
    if encoder is None:
        return {}
    about = encoder.about
    held_out = about["config"]["validation"]["test"]
    if "label" in data.identity:
        fix = "Raise --validation.test there, where it counts all classes, or lower it here, where it counts one."
    else:
        fix = f"Pretrain with --validation.test {data.test_size} or more; that one was pretrained with {held_out}"
        fix += f", so that --validation.test {held_out} does here too." if held_out < data.test_size else "."
    require_unseen(about, data.identity["fingerprint"], data.test_index, f"--encoder {run_folder(encoder.path)}", fix)
    return {"pretrained_on": {"data": about["data"], "seen": about["seen"]}}


def require_unseen(about: Mapping[str, Any], fingerprint: str, rows: Tensor | None, name: str, fix: str) -> None:
    """Raises `ConfigError` if a checkpoint's model, or the encoder it began with, was trained on some of these images.

    Args:
        about: of the checkpoint; `seen` says on what it was trained, `pretrained_on` on what its encoder was.
        fingerprint: of the stored set.
        rows: of it, to be tested on `[N]`; None for simulated images, of which those of training are always others.
        name: of the checkpoint, for the message, as `fix` is.
    """
    if rows is None:
        return
    for whose, trained in (("it", about), ("its encoder", about.get("pretrained_on"))):
        if not trained or trained["data"]["fingerprint"] != fingerprint:
            continue
        count = IndexSet(trained["seen"]).count(rows.cpu().numpy())
        if count:
            raise ConfigError(f"{name}: {whose} was trained on {count:,} of these {len(rows):,} test images. {fix}")
