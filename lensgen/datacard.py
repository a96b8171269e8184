"""The data card of a preset: every choice it makes, and what comes out of it, measured."""

from __future__ import annotations

from typing import Any

import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from lensgen.batch import Batch
from lensgen.simulator import Simulator

_BLOCK = 16  # systems measured at a time


def _quartiles(values: Tensor) -> str:
    values = values[torch.isfinite(values)].to(torch.float64)
    if len(values) == 0:
        return "-"
    return " / ".join(f"{v:.3g}" for v in torch.quantile(values, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)))


def signal_to_noise(simulator: Simulator, batch: Batch) -> dict[str, Tensor]:
    """Of each image `[B]`: the brightest pixel's, the mean over pixels above 10 % of the peak, and the integrated
    signal-to-noise ratio sqrt(sum of squares). `batch` must hold the map "clean"."""
    preset = simulator.preset
    clean = batch.maps["clean"].flatten(1).to(torch.float64)
    ratios = []
    for k, band in enumerate(preset.bands):
        own = batch.maps["clean"][:, k].flatten(1).to(torch.float64)
        exposure = batch.params[preset.exposure_name(k)].to(torch.float64).unsqueeze(1)
        ratios.append(own / preset.recipe.sigma(own, exposure, band.detector))
    ratio = torch.cat(ratios, 1)
    bright = clean > 0.1 * clean.amax(1, keepdim=True)
    return {
        "peak": ratio.amax(1),
        "mean above 10 % of peak": (ratio * bright).sum(1) / bright.sum(1),
        "integrated": ratio.square().sum(1).sqrt(),
    }


def measure(simulator: Simulator, systems: int, progress: bool = False) -> Batch:
    """The first `systems` images with the truth that a data card needs."""
    source = simulator.with_outputs("clean", "detectability")
    starts = range(0, systems, _BLOCK)
    blocks = [
        source.batch(start, min(_BLOCK, systems - start))
        for start in tqdm(starts, desc="measuring", unit="block", disable=not progress)
    ]
    return Batch.cat(blocks).to("cpu")


def data_card(simulator: Simulator, systems: int, progress: bool = False) -> str:
    """The card as Markdown; `systems` is how many are measured."""
    preset = simulator.preset
    channels, height, width = simulator.image_shape
    scale = preset.bands[0].observation.pixel_scale
    field = f"{height * scale:.3g} x {width * scale:.3g} arcsec"
    relative = preset.recipe.noiseless or preset.normalise == "peak"
    unit = "1 % of the median peak" if relative else "noise of an empty pixel"
    config: dict[str, Any] = {k: v for k, v in preset.config.items() if k not in ("description", "departures")}
    lines = [
        f"# {preset.name}: {preset.description}",
        "",
        f"- images: {channels} x {height} x {width}, {scale:g} arcsec/pixel, {field}",
        f"- classes, equally likely: {', '.join(simulator.class_names)}",
        *(f"- band `{b.name}`: {b.instrument.telescope}, {b.instrument.band}" for b in preset.bands),
        f"- noise recipe `{preset.recipe.name}`; unit for a network's input ({unit}) "
        + " ".join(f"{scale:.4g}" for scale in simulator.input_scale),
        f"- fingerprint `{preset.fingerprint}`",
        "",
        "## Every choice",
        "```yaml",
        yaml.safe_dump(config, sort_keys=False, default_flow_style=None, width=110).strip(),
        "```",
    ]
    if preset.departures:
        lines += ["", "## Where it departs from the paper", *(f"- {sentence}" for sentence in preset.departures)]
    if systems:
        lines += ["", *_measured(simulator, measure(simulator, systems, progress))]
    return "\n".join(lines)


def _measured(simulator: Simulator, batch: Batch) -> list[str]:
    lines = [f"## Measured on the first {len(batch)} systems of seed {simulator.random.seed} (quartiles)"]
    if simulator.preset.recipe.noiseless:
        return [*lines, "The images have no noise, so signal-to-noise and detectability are infinite."]
    ratios = signal_to_noise(simulator, batch)
    lines += ["", "| class | systems | detectability | " + " | ".join(f"SNR, {k}" for k in ratios) + " |"]
    lines += ["|---|---|---|" + "---|" * len(ratios)]
    for number, name in enumerate(batch.class_names):
        own = batch.label == number
        cells = [_quartiles(batch.maps["detectability"][own]), *(_quartiles(r[own]) for r in ratios.values())]
        lines.append(f"| {name} | {int(own.sum())} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "Detectability is the chi-square of the substructure after lens and source are refitted to first order: below "
        "about 1, no method can tell the class from `no_sub`.",
    ]
    if simulator.preset.recipe.clips:
        lines.append("This recipe clips at 0, so on dark pixels the figures are those of the recipe without the clip.")
    if simulator.preset.lens_light:
        lines.append("The signal of the signal-to-noise ratios holds the lens's own light too.")
    return lines
