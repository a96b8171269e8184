"""What is said of Lens-JEPA's table, and its own sections: pretrained encoders compared, what they know of the lens."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lensgen import load_preset
from trainers.reproduction.lens_jepa.figures import draw_probes
from trainers.reproduction.lens_jepa.probes import (
    collect_probes,
    k_as_markdown,
    probe_differences,
    probes_as_markdown,
)
from trainers.reproduction.model_table.protocol import changed_preset
from trainers.reproduction.model_table.report import Sections, Table, preset_as_text
from trainers.reproduction.model_table.tables import differences_as_markdown, radii_as_markdown

if TYPE_CHECKING:
    from trainers.reproduction.lens_jepa.protocol import LensJEPAProtocol

_FAULTS = (
    "In paper mode the faults of the paper's data are kept, and a figure is not one of dark matter alone: the lens "
    "never varies, and substructure adds to its mass, so that the radius of the ring tells the class. In honest mode "
    "lenses vary, and substructure neither enlarges nor brightens them. All networks see images by asinh of the noise, "
    "pretrained ones of that of the pretraining's images: what scales an image by its brightest pixel would tell the "
    "context of a hidden one. "
    "Faults of the published code are not kept: it rebuilds the source from the whole image before it masks, so that "
    "the context has seen the targets, and indexes pixels by integers, so that no gradient reaches k. Here images are "
    "masked before the inverse-lens layer, and k is trained. 'From scratch' is the same network without pretraining."
)
ABOUT_FIGURES = (
    "Where an image has one label micro F1 is the accuracy. The losses that are drawn are cross entropies of "
    "validation images. A pretrained network has seen the images of its pretraining besides, without their labels."
)
_PROBES = (
    "Logistic regression on frozen features of the pretraining's validation images, judged on its test images. All "
    "encoders of one data have seen the same images, as often. Lens-JEPA has a second loss, the compactness of the "
    "source, by which theta_E is found, and more parameters; RankMe is that of each seed. The last column is of the "
    "AUC; 'collapsed' are features that have become nearly the same for all images since the first step, whatever can "
    "still be read off their differences."
)
_LENS = "No label tells theta_E. Where the lens never varies, as in paper mode, all are alike."
_K = (
    "Correlation of k with the true potential in units of the sphere's, over the pixels, less the mean of each ring, "
    "which an error of theta_E changes; in brackets with that of other lenses of the class, which an encoder comes to "
    "that knows nothing but the mean."
)


def about_modes(protocol: LensJEPAProtocol) -> str:
    """The faults that are kept, those that are not, and how pixels differ from the paper's."""
    return " ".join([_FAULTS, *_pixels(protocol)])


def sections(root: Path, protocol: LensJEPAProtocol, table: Table) -> Sections:
    """The paper's own sections of `table.md`; draws `probes.png`."""
    probes = collect_probes(root, protocol, table.seeds)
    gaps = probe_differences(root, protocol, table.seeds)
    reached = [row for row in probes if row["seeds"]]
    if reached:
        draw_probes(root / "probes.png", reached)
    titles = {model: protocol.title(model) for model in protocol.recipe["models"]}
    presets = {row["data"]: _pretraining(protocol, row["data"]) for row in probes}
    lines = [
        "## Pretrained encoders, beside untrained ones",
        "",
        _PROBES,
        "",
        *probes_as_markdown(probes, presets),
        "### Encoders beside one another, on the same test images",
        "",
        *differences_as_markdown(gaps, titles),
        "## What the encoders know of the lens",
        "",
        _LENS,
        "",
        *radii_as_markdown(probes),
        _K,
        "",
        *k_as_markdown(probes),
    ]
    return Sections(lines, {"probes": probes, "probe_differences": gaps}, ["probes.png"] if reached else [])


def _pretraining(protocol: LensJEPAProtocol, name: str) -> str:
    data = protocol.pretraining_data(name)
    kind = f"{data['images']:,} stored images" if "images" in data else "a stream"
    return f"{preset_as_text(data)}, {kind}"


def _pixels(protocol: LensJEPAProtocol) -> list[str]:
    """A sentence for each preset of paper mode whose images are not of the paper's size."""
    names = [name for name, data in protocol.recipe["data"].items() if data.get("mode") == "paper"]
    every = [data for name in names for data in (protocol.pretraining_data(name), protocol.data(name))]
    said = []
    for data in every:
        changed, published = (of.bands[0].observation for of in (changed_preset(data), load_preset(data["preset"])))
        if changed.width == published.width:
            continue
        if changed.pixel_scale == published.pixel_scale:
            how = f"the middle of the paper's {published.width}"
        else:
            how = (
                f"of {changed.pixel_scale:.3g} arcsec where the paper's {published.width} are of "
                f"{published.pixel_scale:g}; the source is as bright, and the SNR of a pixel, 25 there, is another here"
            )
        said.append(f"Images of `{data['preset']}` have {changed.width} pixels a side, {how}.")
    return said
