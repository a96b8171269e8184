"""LensPINN (ML4PS 2024): networks that know the lens equation beside those that do not.

Beside the paper's models there are LensPINN without its preprocessing, without its physics (table 2: a CNN alone) and
with the published rule of nearest pixels; and data with and without noise, which the preprocessing amplifies.
"""

from __future__ import annotations

from pathlib import Path

from trainers.reproduction.lenspinn.names import PAPER
from trainers.reproduction.lenspinn.report import ABOUT_FIGURES, ABOUT_MODES, sections
from trainers.reproduction.model_table.protocol import ModelTableProtocol
from trainers.reproduction.model_table.report import Sections, Table


class LensPINNProtocol(ModelTableProtocol):
    """A table of models."""

    name = "lenspinn"
    paper = "LensPINN, ML4PS 2024"
    subject = "networks that know the lens equation"
    published = PAPER
    learning_rate = 1e-4
    about_figures = ABOUT_FIGURES

    @property
    def about_modes(self) -> str:
        """What a figure of each mode is one of."""
        return ABOUT_MODES

    def sections(self, root: Path, table: Table) -> Sections:
        """The preprocessing and noise, theta_E."""
        return sections(self, table)

    def is_published(self, name: str) -> bool:
        """In paper mode without noise, as the published images are."""
        return super().is_published(name) and self.noiseless(name)
