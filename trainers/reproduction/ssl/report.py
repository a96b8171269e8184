"""Everything that the runs show, in the order of `table.md`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from trainers.reproduction.budget import Level
from trainers.reproduction.estimates import DIFFERENCES, INTERVALS
from trainers.reproduction.protocol import Report
from trainers.reproduction.ssl.axion_mass import axion_mass_as_markdown, collect_axion_mass
from trainers.reproduction.ssl.classification import classification_as_markdown, collect_classification
from trainers.reproduction.ssl.figures import draw_axion_mass, draw_table, draw_views
from trainers.reproduction.ssl.names import PRETRAINED, SUPERVISED
from trainers.reproduction.ssl.probes import collapse_as_markdown, collect_control, collect_probes, probes_as_markdown
from trainers.reproduction.ssl.views import compare_views, views_as_markdown

if TYPE_CHECKING:
    from trainers.reproduction.ssl.protocol import SSLProtocol

PICTURES = ("table.png", "predicted.png", "simulate_or_augment.png")


def report(root: Path, protocol: SSLProtocol, level: Level) -> Report:
    """Probes, collapse, tables of classes and of the axion's mass, views; draws the `PICTURES` of what is done."""
    probes = collect_probes(root, protocol, level.seeds)
    control = collect_control(root)
    classes = collect_classification(root, protocol, level.seeds)
    masses = collect_axion_mass(root, protocol, level.seeds)
    comparisons = compare_views(root, protocol)
    presets = {name: _preset(options) for name, options in protocol.recipe["data"].items()}
    drawings: dict[str, tuple[bool, Callable[[Path], None]]] = {
        "table.png": (any(row["seeds"] for row in [*probes, *classes]), lambda p: draw_table(p, probes, classes)),
        "predicted.png": (any(row["seeds"] for row in masses), lambda p: draw_axion_mass(p, masses)),
        "simulate_or_augment.png": (any(c["views"] for c in comparisons), lambda p: draw_views(p, comparisons)),
    }
    for name, (reached, draw) in drawings.items():
        if reached:
            draw(root / name)
    for row in masses:  # they are in the runs' predictions.npz
        for begins in (PRETRAINED, SUPERVISED):
            for points in ("truth", "predicted"):
                row.get(begins, {}).pop(points, None)
    results = {
        "probes": probes,
        "control": control,
        "classification": classes,
        "axion_mass": masses,
        "views": comparisons,
    }
    lines = [
        "## Linear probes, beside the untrained encoder's",
        "",
        "Logistic regression on frozen features of the validation images, judged on the test images. The last column "
        f"is of the AUC. {DIFFERENCES}",
        "",
        *probes_as_markdown(probes, presets),
        "## Collapse",
        "",
        *collapse_as_markdown(probes, comparisons, control, _control(protocol)),
        "",
        "## Classes, fine-tuned: macro AUC",
        "",
        "Supervised: the same network from scratch, under the same augmentation, with the same steps; images are those "
        f"of this training, the encoders saw others before. {DIFFERENCES}",
        "",
        *classification_as_markdown(classes),
        "## The axion's mass",
        "",
        "Log10 of the mass, standardised, on images of that class; both columns under the same augmentation "
        f"({_augmentations(protocol)}). Near 1e-23 eV: within a factor of 1.8; of `model_a` and `model_b` that is the "
        f"upper end of the masses, in paper mode their middle. {DIFFERENCES}",
        "",
        *axion_mass_as_markdown(masses),
        "## Views that are simulated or augmented, at equal steps and batches",
        "",
        _comparison(protocol),
        "",
        *views_as_markdown(comparisons, presets),
        *_not_measured(),
    ]
    introduction = f"Figures are of test images, by the checkpoint that was best in validation. {INTERVALS}"
    return Report(results, introduction, lines, [name for name in PICTURES if drawings[name][0]])


def _preset(data: Mapping[str, Any]) -> str:
    changes = len(data.get("set", ()))
    return f"`{data['preset']}`" + (f" with {changes} changes, see recipe.yaml" if changes else "")


def _not_measured() -> list[str]:
    """What the paper's sizes ask of a GPU."""
    if torch.cuda.is_available():
        return []
    return [
        "Not measured, for want of a GPU: ResNet50 and the ViT of 12 blocks in paper mode, whose macro AUC is to be at "
        "least 0.997 with each method (the paper's best: 0.998), and the axion's mass with them."
    ]


def _control(protocol: SSLProtocol) -> str:
    recipe = protocol.recipe["control"]
    without = " and ".join(name for name, value in recipe.items() if value is False)
    more = [f"{name} {value}" for name, value in recipe.items() if name != "method" and value is not False]
    return f"{recipe['method']} without {without}" + (f" ({', '.join(more)})" if more else "")


def _augmentations(protocol: SSLProtocol) -> str:
    return ", ".join(f"{method}: {protocol.augmentation('regress', method)}" for method in protocol.methods)


def _comparison(protocol: SSLProtocol) -> str:
    recipe = protocol.recipe["comparison"]
    kinds = "; ".join(f"{views}: {_options(options)}" for views, options in recipe["views"].items())
    return (
        f"{recipe['method']}, {recipe['encoder']}, three seeds ({kinds}). All see their lenses once, and two views "
        "of each; for simulated views two images of it are rendered. Detectability is that of the first "
        f"{recipe['detectability']} test images. {DIFFERENCES}"
    )


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {_said(value)}" for name, value in options.items()) or "as the method has it"


def _said(value: object) -> str:
    return " and ".join(value) if isinstance(value, list) else str(value)
