"""Super-resolution judged on images that it was not trained on: `metrics.json` and a table."""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from trainers.checkpoint import Checkpoint, best_or_newest, load_weights, read_checkpoint
from trainers.command_line import run_folder
from trainers.config import DataConfig, ValidationConfig
from trainers.data import Batch
from trainers.errors import CheckpointError, ConfigError, OutputError
from trainers.frozen import FrozenImages
from trainers.image_metrics import image_scores, scaled_by, with_interval
from trainers.image_pairs import Pairs, upsample
from trainers.logs import write_json
from trainers.models.superresolution import SuperResolver, predict, restore
from trainers.transform import InputTransform

METRICS = "metrics.json"
SCORES = "scores.npz"  # of each image: to compare models pair by pair
AT_A_TIME = 128
CONVENTIONS = {
    "data_range": "in units of the run's data range",
    "own_range": "each image scaled to 0..1 by its own least and greatest pixel, as papers do",
}


def enlarge(model: SuperResolver, transform: InputTransform, low: Tensor) -> Tensor:
    """Fine images `[B, C, H, W]`, flux per fine pixel, from low ones `[B, C, h, h]`, flux per large pixel."""
    with torch.no_grad():
        return torch.cat([predict(model, transform, part) for part in low.split(AT_A_TIME)])


def score_tables(
    model: SuperResolver, transform: InputTransform, pairs: Callable[[Batch], tuple[Tensor, Tensor]], batches: Iterable
) -> dict[str, Any]:
    """Mean PSNR, SSIM and MSE of the images, each with its 95 % bootstrap interval, for every of `CONVENTIONS`.

    Args:
        pairs: of a batch, the low and the high images.

    Returns:
        convention -> row -> figure -> `{"value", "low", "high"}`, and `images`, their number. The rows are
        `prediction`, `bicubic` and `all_zero`; and where the low pixels do not stand at the centres of their blocks,
        `bicubic_unregistered`, which takes them to: what a paper that says no more most likely printed. And `scores`:
        `index` and, of the predictions, `<convention>_<figure>` of each image `[N]`.
    """
    collected: dict[tuple[str, str, str], list[Tensor]] = {}
    index = []
    for batch in batches:
        index.append(batch.index.cpu())
        low, high = pairs(batch)
        truth = model.units.scaled(high, low)
        rows = {
            "prediction": model.units.scaled(enlarge(model, transform, low), low),
            "bicubic": model.units.scaled(model.bicubic(low), low),
        }
        if model.offset:
            unregistered = upsample(low.float() / model.units.flux_ratio, model.high_side)
            rows["bicubic_unregistered"] = model.units.scaled(unregistered, low)
        own_truth = scaled_by(truth, truth)
        for row, image in rows.items():
            _collect(collected, "data_range", row, image, truth)
            _collect(collected, "own_range", row, scaled_by(image, truth), own_truth)
        for convention, scaled in (("data_range", truth), ("own_range", own_truth)):
            _collect(collected, convention, "all_zero", torch.zeros_like(scaled), scaled)
    tables: dict[str, Any] = {name: {} for name in CONVENTIONS}
    scores = {"index": torch.cat(index)}
    for (convention, row, figure), parts in collected.items():
        values = torch.cat(parts)
        if row == "prediction":
            scores[f"{convention}_{figure}"] = values
        tables[convention].setdefault(row, {})[figure] = with_interval(values)
    return {"images": len(scores["index"]), **tables, "scores": scores}


def _collect(
    collected: dict[tuple[str, str, str], list[Tensor]], convention: str, row: str, image: Tensor, truth: Tensor
) -> None:
    for figure, values in image_scores(image, truth).items():
        collected.setdefault((convention, row, figure), []).append(values)


def write_metrics(folder: Path, metrics: Mapping[str, Any]) -> Path:
    """Writes `metrics.json` and the `scores` of each image, prints the table for people, returns the former."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / METRICS
    scores = {name: values.numpy() for name, values in metrics["scores"].items()}
    np.savez(folder / SCORES, **scores)
    metrics = {name: value for name, value in metrics.items() if name != "scores"}
    write_json(path, metrics)
    print(as_table(metrics))
    print(f"\nmetrics          {path}")
    return path


def as_table(metrics: Mapping[str, Any]) -> str:
    """The figures for people."""
    pairs = metrics["pairs"]
    low = "the same optics on larger pixels" if pairs["low"] == "optics" else f"down-sampling ({pairs['by']})"
    lines = ["", f"on {metrics['images']:,} test images, low resolution by {low}; means with 95 % intervals"]
    for convention, words in CONVENTIONS.items():
        lines += [f"  {words}", f"  {'':<22s}{'PSNR [dB]':>24s}{'SSIM':>28s}{'MSE':>12s}"]
        for row, figures in metrics[convention].items():
            psnr, ssim = figures["psnr"], figures["ssim"]
            lines.append(
                f"  {row.replace('_', '-'):<22s}{psnr['value']:>9.2f} ({psnr['low']:.2f} to {psnr['high']:.2f})"
                f"{ssim['value']:>12.4f} ({ssim['low']:.4f} to {ssim['high']:.4f}){figures['mse']['value']:>12.3g}"
            )
    return "\n".join(lines)


def evaluate(
    run: Path, data: DataConfig, validation: ValidationConfig, device: torch.device, out: Path | None = None
) -> Path:
    """Scores the best checkpoint of a run on the test images that `data` names; writes and returns `metrics.json`.

    Of a stored set the low-resolution images are made by down-sampling; for a model of the optics they are the sums
    over the fine pixels, which is what larger pixels would have collected.

    Args:
        run: its folder, or one of its checkpoints.
        validation: says how many test images of a preset.
        out: folder of `metrics.json`; by default the first free of `run`/evaluation_001, ...

    Raises:
        CheckpointError, DataError: of another trainer or damaged; images of another size.
        ConfigError: there is a `metrics.json` in `out`, or the preset is not one that this can be done on.
        OutputError: it could not be written.
    """
    if out is not None and (out / METRICS).exists():
        raise ConfigError(f"--out {out} holds a {METRICS} already; name another folder.")
    checkpoint = _read(run)
    about = checkpoint.about
    model = restore(about).eval().to(device)
    load_weights(model, checkpoint)
    pairs = Pairs(**about["pairs"])
    if data.data is not None and pairs.low == "optics":
        pairs = dataclasses.replace(pairs, low="downsample", by="area")
    factor = model.units.flux_ratio / pairs.flux_ratio
    changed = pairs.on(data)
    if changed.data is None:
        images = FrozenImages.of_preset(
            changed.preset, changed.set, validation.test, device, pairs.outputs, pairs.factor
        )
    else:
        images = FrozenImages.of_stored(changed.data, about, device)

    def scaled_pairs(batch: Batch) -> tuple[Tensor, Tensor]:
        low, high = pairs.of(batch)
        return low * factor, high

    tables = score_tables(model, InputTransform.from_json(about["transform"]), scaled_pairs, images.batches(AT_A_TIME))
    metrics = description(checkpoint.path, about, images.identity) | {"pairs": dataclasses.asdict(pairs)} | tables
    folder = out or _new_folder(run_folder(checkpoint.path))
    try:
        return write_metrics(folder, metrics)
    except OSError as error:
        raise OutputError(f"the figures could not be written into {folder}: {error}; name another --out.") from error


def _read(run: Path) -> Checkpoint:
    checkpoint = read_checkpoint(best_or_newest(run))
    trainer = checkpoint.about.get("trainer")
    if trainer != "superres":
        raise CheckpointError(f"{checkpoint.path} is by trainers.{trainer}, not by trainers.superres.")
    return checkpoint


def _new_folder(run: Path) -> Path:
    numbered = (run / f"evaluation_{number:03d}" for number in itertools.count(1))
    return next(path for path in numbered if not path.exists())


def description(checkpoint: Path, about: Mapping[str, Any], identity: Mapping[str, Any]) -> dict[str, Any]:
    """What `metrics.json` says beside the figures: of which model and on which images they are."""
    return {
        "checkpoint": str(checkpoint),
        "pairs": about["pairs"],
        "units": about["model"]["units"],
        "data": dict(identity),
    }


def with_data_of_run(argv: list[str] | None) -> list[str]:
    """The command line, to which `--evaluate-only RUN` adds the options of that run unless it says on which images.

    Raises:
        CheckpointError: RUN is of another trainer, whose options are not superres', or damaged.
    """
    arguments = sys.argv[1:] if argv is None else argv
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--evaluate-only", "--evaluate_only", type=Path)
    for name in ("--data", "--config", "--preset"):
        early.add_argument(name)
    early.add_argument("--stream", action="store_true")
    known, _ = early.parse_known_args(arguments)
    if known.evaluate_only is None or known.config:
        return arguments
    _read(known.evaluate_only)
    if known.preset and not known.data and not known.stream:
        arguments = [*arguments, "--stream"]
    return [*arguments, "--config", str(run_folder(known.evaluate_only) / "config.yaml")]
