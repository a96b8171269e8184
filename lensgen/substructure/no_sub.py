"""No substructure: the smooth lens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from lensgen.substructure.population import Drawn, Draws, Host, Population, nothing_enclosed


@dataclass(frozen=True)
class NoSubstructure(Population):
    name: ClassVar[str] = "no_sub"

    def draw(self, draws: Draws, host: Host, prefix: str) -> Drawn:
        return Drawn((), nothing_enclosed(host), {})


POPULATION = NoSubstructure
