"""A classifier judged on images that it was not trained on: figures, pictures, a page on the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from trainers.classify_figures import draw_detectability, draw_test
from trainers.detectability import detectability
from trainers.errors import CheckpointError
from trainers.frozen import FrozenImages
from trainers.logs import write_json
from trainers.metrics import accuracy_by_detectability, classification_figures
from trainers.models.classifier import predict
from trainers.transform import InputTransform

METRICS = "metrics.json"
PREDICTIONS = "predictions.npz"  # index, label and probability of each image: to compare classifiers pair by pair
NOTHING_TO_DETECT = "no_sub"
NO_STORED_DETECTABILITY = "--detectability is of simulated images, not of those of a stored set; leave it out."


def require_same_kind(images: FrozenImages, about: Mapping[str, Any], path: Path) -> None:
    """Raises `CheckpointError` unless a checkpoint's model takes these images and knows their classes."""
    shape, names = tuple(about["model"]["image_shape"]), tuple(about["class_names"])
    if images.image_shape != shape:
        same_bands = images.image_shape[0] == shape[0]
        change = f"give --set grid.size={shape[-1]}" if images.simulated and same_bands else "give others"
        raise CheckpointError(
            f"{path} takes images of {shape}, these are {images.image_shape}; {change}, or train on such images."
        )
    # a set of images that does not say what its labels mean calls them class 0, class 1, ...
    nameless = any(name == "class 0" for name in (*names[:1], *images.class_names[:1]))
    fits = len(images.class_names) <= len(names) if nameless else images.class_names == names
    if not fits:
        raise CheckpointError(
            f"{path} tells apart {', '.join(names)}; these images are of {', '.join(images.class_names)}."
        )


def evaluate(
    model: nn.Module,
    transform: InputTransform,
    images: FrozenImages,
    class_names: tuple[str, ...],
    folder: Path,
    about: Mapping[str, Any],
    average_d4: bool = False,
    detectability: int = 0,
) -> list[Path]:
    """Writes metrics, predictions and figures into `folder`, prints the table; returns the figures' files.

    Args:
        model: on the device of the images.
        about: what `metrics.json` says beside the figures: the checkpoint, for instance.
        average_d4: of the probabilities of the eight rotated and mirrored images of each lens take the mean.
        detectability: of how many images, the first ones, to simulate how detectable their substructure is.
    """
    model.eval()
    probabilities, label, index = [], [], []
    with tqdm(total=images.size, unit="image", desc="testing", dynamic_ncols=True) as bar:
        for batch in images.batches(256):
            probabilities.append(predict(model, transform, batch.image, average_d4).cpu())
            label.append(batch.label.cpu())
            index.append(batch.index)
            bar.update(len(batch.index))
    probability, truth = torch.cat(probabilities), torch.cat(label)
    figures = classification_figures(probability, truth, class_names)
    metrics = {**about, "data": images.identity, "class_names": list(class_names), "average_d4": average_d4, **figures}
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "test.png"]
    draw_test(files[0], probability.numpy(), truth.numpy(), figures, class_names)
    if detectability:
        right = (probability.argmax(dim=1) == truth).numpy()
        metrics["detectability"] = _by_detectability(
            images, torch.cat(index)[:detectability], right, truth.numpy(), class_names
        )
        if metrics["detectability"]:
            files.append(folder / "detectability.png")
            draw_detectability(files[1], metrics["detectability"], len(class_names))
    np.savez(
        folder / PREDICTIONS,
        index=torch.cat(index).cpu().numpy(), label=truth.numpy(), probability=probability.numpy(),
    )  # fmt: skip
    write_json(folder / METRICS, metrics)
    print(as_text(metrics))
    return files


def _by_detectability(
    images: FrozenImages, index: Tensor, right: np.ndarray, label: np.ndarray, class_names: tuple[str, ...]
) -> list[dict[str, float]]:
    """Accuracy against detectability of those of these images that have something to be detected."""
    value = detectability(images.truth, index)
    size = len(value)
    nothing = class_names.index(NOTHING_TO_DETECT) if NOTHING_TO_DETECT in class_names else -1
    rows = (label[:size] != nothing) & np.isfinite(value)
    return accuracy_by_detectability(right[:size][rows], value[rows])


def as_text(metrics: Mapping[str, Any]) -> str:
    """The figures for people."""
    names = metrics["class_names"]
    averaged = ", mean of eight symmetries" if metrics["average_d4"] else ""
    lines = ["", f"on {metrics['images']:,} test images{averaged}              95 % interval"]
    rows = [("macro AUC", metrics["macro_auc"]), ("accuracy (micro)", metrics["accuracy"])]
    rows += [(f"AUC of {name}", metrics["auc"][name]) for name in names]
    for name, estimate in rows:
        if estimate["value"] is None:
            lines.append(f"  {name:<24s}   no such image, or no other")
        else:
            lines.append(f"  {name:<24s} {estimate['value']:>8.4f}   {estimate['low']:.4f} to {estimate['high']:.4f}")
    lines += [f"  {'calibration error':<24s} {metrics['calibration_error']:>8.4f}", ""]
    width = max(10, *(len(name) for name in names)) + 2
    lines.append(f"  {'true, predicted:':<{width + 6}s}" + "".join(f"{name:>{width}s}" for name in names))
    for name, row in zip(names, metrics["confusion"], strict=True):
        lines.append(f"  {name:<{width + 6}s}" + "".join(f"{count:>{width},d}" for count in row))
    for bin in metrics.get("detectability", ()):
        lines.append(
            f"  detectability {bin['low_detectability']:>9.3g} to {bin['high_detectability']:<9.3g} accuracy "
            f"{bin['accuracy']:.3f} ({bin['low']:.3f} to {bin['high']:.3f}, {bin['images']} images)"
        )
    return "\n".join(lines)
