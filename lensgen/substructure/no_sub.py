"""No substructure: the smooth lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from lensgen.substructure.population import Drawn, Draws, Host, Population


@dataclass(frozen=True)
class NoSubstructure(Population):
    name: ClassVar[str] = "no_sub"

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        return Drawn((), torch.zeros_like(host.theta_E), {})


POPULATION = NoSubstructure
