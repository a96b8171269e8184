"""What is said of LensPINN's table, and its own sections: the preprocessing with noise and without, Einstein radii."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from trainers.reproduction.estimates import signed, words
from trainers.reproduction.lenspinn.names import PREPROCESSING
from trainers.reproduction.model_table.report import Sections, Table
from trainers.reproduction.model_table.tables import radii_as_markdown

if TYPE_CHECKING:
    from trainers.reproduction.lenspinn.protocol import LensPINNProtocol

ABOUT_MODES = (
    "In paper mode a figure is not one of dark matter alone: the lens never varies, substructure adds to its mass, "
    "so that the radius of the ring tells the class, subhalos follow m^-0.9, and the published images have no "
    "noise. In honest mode lenses vary, and substructure neither enlarges nor brightens them. Images are scaled to "
    "0..1 in paper and streamed mode, and by asinh of the noise in honest mode. 'Alone' is a CNN without physics, "
    "the paper's table 2; 'as published' a source of nearest pixels, through which theta_E learns nothing. "
    "LensPINN's other rows learn it by the compactness of a bilinear source."
)
ABOUT_FIGURES = (
    "Where an image has one label micro F1 is the accuracy, whatever the classifier; the paper's two columns "
    "differ, so that one of them is something else. The losses that are drawn are cross entropies of validation "
    "images: those in training, which the paper draws, have other parts in LensPINN."
)
_PREPROCESSING = (
    "It takes second derivatives of the logarithm of the brightness, of all that is brighter than a floor: 2 % of "
    "the peak, or 10 % for the row that says so. Scaling noisy images to 0..1 lifts their sky above the first; in "
    "honest mode all below twice the noise is dark too."
)
_RADII = (
    "No label tells them. Where substructure adds to the lens's mass, as in paper mode, what is learnt is the "
    "radius of both."
)


def sections(protocol: LensPINNProtocol, table: Table) -> Sections:
    """The paper's own sections of `table.md`."""
    titles = {model: protocol.title(model) for model in protocol.recipe["models"]}
    return Sections(
        [
            "## The preprocessing, with noise and without",
            "",
            _PREPROCESSING,
            "",
            *_preprocessing(table.gaps, titles, {data: protocol.noiseless(data) for data in table.every_data}),
            "## Einstein radii",
            "",
            _RADII,
            "",
            *radii_as_markdown(table.rows),
        ]
    )


def _preprocessing(
    gaps: Sequence[Mapping[str, Any]], titles: Mapping[str, str], noiseless: Mapping[str, bool]
) -> list[str]:
    """What the preprocessing is worth with and without noise.

    Args:
        noiseless: of each data, whether its images have no noise.
    """
    lines = ["| data | noise | model | epochs | seeds | accuracy | without preprocessing | difference |"]
    lines.append("|" + "---|" * 8)
    for gap in gaps:
        if (gap["one"], gap["other"]) in PREPROCESSING:
            both = (words(gap[f"{name}_accuracy"], 3) for name in ("one", "other"))
            lines.append(
                f"| {gap['data']} | {'no' if noiseless[gap['data']] else 'yes'} | {titles[gap['one']]} "
                f"| {gap['epochs']:.1f} | {gap['seeds']} | {' | '.join(both)} "
                f"| {signed(gap['accuracy'])}, {gap['accuracy']['verdict']} |"
            )
    return [*lines, ""] if len(lines) > 2 else ["Not measured.", ""]
