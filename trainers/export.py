"""Encoders for others: a folder that `timm.create_model("local-dir:FOLDER", pretrained=True)` loads, with a model card.

Layout of the Hugging Face Hub, so that the folder can be uploaded as it is: `config.json`, `model.safetensors`,
`README.md` (the card for people) and `card.json` (the card for programs).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import nn

from trainers.logs import read_table
from trainers.models.vit import ViTConfig

# timm's name for a ViT whose every size is given by arguments
_ANY_VIT = "vit_tiny_patch16_224"

_CARD = """\
---
library_name: timm
license: mit
tags: [gravitational-lensing, lensgen]
---
# An encoder of strong lenses

Trained by `trainers.{trainer}` of lensgen {version} for {step:,} steps on {data}.

```python
import timm, torch

# the path of this folder; image [B, {channels}, {height}, {width}]
encoder = timm.create_model("local-dir:PATH/OF/encoder", pretrained=True).eval()
features = encoder({call})  # [B, {features}], {pooled}
```

**Input transform**: {transform}. Feed it nothing else.

| figure on validation images | |
|---|---|
{figures}
"""


def export_encoder(
    run: Path,
    model: nn.Module,
    name: str,
    vit: ViTConfig,
    image_shape: tuple[int, int, int],
    about: Mapping[str, Any],
    step: int,
) -> Path:
    """Writes an encoder, without its head, into `run/encoder`, whole or not at all, in place of what was there.

    Args:
        run: the run's folder, whose `validation.csv` has the figures for the card.
        model: of timm's classes; a head, if it has one, is left out.
        name: "vit" for one made by `build_vit` of `vit` for `image_shape`, else timm's name of the model.
        about: as a task describes itself: trainer, transform, data, class_names.
        step: of the training, after which the weights are those of `model`.

    Raises:
        OSError: it cannot be written, for instance because the disk is full.
    """
    folder = run / "encoder"
    channels, height, width = image_shape
    settings: Any = getattr(model, "pretrained_cfg", None) or {}
    head, first = settings.get("classifier") or "head", settings.get("first_conv") or "patch_embed.proj"
    heads = tuple(f"{part}." for part in ([head] if isinstance(head, str) else head))
    tensors = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    tensors = {key: value for key, value in tensors.items() if not key.startswith(heads)}
    arguments: dict[str, Any] = {"in_chans": channels, "num_classes": 0}
    fixed = name == "vit" or bool(settings.get("fixed_input_size"))
    if fixed:
        arguments["img_size"] = height
    if name == "vit":
        name = vit.timm_name or _ANY_VIT
        # the mean of the patch tokens after the encoder's own norm and no other
        arguments |= {"patch_size": vit.patch_size, "global_pool": "avg", "fc_norm": False}
        if vit.timm_name is None:
            arguments |= {"embed_dim": vit.width, "depth": vit.depth, "num_heads": vit.heads}
    pretrained = {"input_size": [channels, height, width], "fixed_input_size": fixed, "num_classes": 0,
                  "first_conv": first, "classifier": head}  # fmt: skip
    description = {
        "architecture": name,
        "num_classes": 0,
        "num_features": model.num_features,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }
    card = {"trainer": about["trainer"], "step": step, "data": about["data"], "transform": about["transform"],
            "class_names": about["class_names"], "figures": _figures(run, step)}  # fmt: skip
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        save_file(tensors, part / "model.safetensors", metadata={"format": "pt"})
        (part / "config.json").write_text(json.dumps(description, indent=1) + "\n")
        (part / "card.json").write_text(json.dumps(card, indent=1) + "\n")
        (part / "README.md").write_text(_card(card, description))
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except SafetensorError as error:  # what a full disk is to this library
        raise OSError(f"{part / 'model.safetensors'}: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return folder


def _figures(run: Path, step: int) -> dict[str, float]:
    """The row of `validation.csv` at this step."""
    rows = [row for row in read_table(run / "validation.csv") if int(row["step"]) == step]
    return {name: float(value) for row in rows for name, value in row.items() if name != "step"}


def _card(card: Mapping[str, Any], description: Mapping[str, Any]) -> str:
    data, transform = card["data"], card["transform"]
    if "preset" in data:
        units = "as the simulator makes it (e-/s per pixel, unless the preset normalises)"
        changes = "".join(f", {name} = {value}" for name, value in data["overrides"].items())
        of = (
            f"streamed images of `{data['preset']}`{changes} (fingerprint `{data['fingerprint']}`, seed {data['seed']})"
        )
    else:
        units = "in the units of the stored set"
        of = f"the stored set `{Path(data['data']).name}` ({data['images']:,} images, `{data['fingerprint']}`)"
    if transform["name"] == "asinh":
        scale = transform["scale"]
        divisor = f"{scale[0]!r}" if len(scale) == 1 else f"torch.tensor({scale}).view(-1, 1, 1)"
        call = f"torch.asinh(image / {divisor})"
        words = f"`{call}`, the image {units}"
    else:
        call = "(image - low) / (high - low)"
        words = "each channel of each image scaled to 0..1 by its own least (low) and greatest (high) pixel"
    channels, height, width = description["pretrained_cfg"]["input_size"]
    pooled = "the mean of the patch tokens" if "fc_norm" in description["model_args"] else "pooled"
    return _CARD.format(
        pooled=pooled,
        trainer=card["trainer"], version=version("lensgen"), step=card["step"], data=of,
        channels=channels, height=height, width=width, call=call,
        features=description["num_features"], transform=words,
        figures="\n".join(f"| {name} | {value:.4f} |" for name, value in card["figures"].items()),
    )  # fmt: skip
