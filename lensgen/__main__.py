"""python -m lensgen preview | info"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

import tyro

from lensgen.errors import LensgenError
from lensgen.preset_text import parse_overrides
from lensgen.simulator import Simulator


@dataclass(frozen=True)
class Choice:
    """Which images."""

    preset: str = "model_a"
    """Name of a preset (see `info --list`) or path of a YAML file."""
    seed: int = 0
    split: str = "train"
    """train, val or test."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Change a field of the preset, e.g. --set grid.size=96; may be repeated."""
    device: str = "auto"
    engine: str = "auto"

    def simulator(self) -> Simulator:
        simulator = Simulator(self.preset, self.seed, self.device, self.engine, self.split)
        return simulator.override(parse_overrides(self.set))


@dataclass(frozen=True)
class Preview:
    """Draw a labelled gallery of images as a PNG file."""

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    out: Path = Path("gallery.png")
    start: int = 0
    """Index of the first image."""
    count: int = 24
    columns: int = 8
    differences: bool = False
    """One image of each class instead, beside it what the substructure changed."""
    truth: bool = False
    """One image of each class instead, beside it source, convergence and magnification."""
    also: list[str] = field(default_factory=list)
    """More presets, a row each: two images of each class, or with --differences one and what substructure changed."""

    def run(self) -> None:
        from lensgen.plot import class_differences, classes_of, gallery, png, truth_panels

        if self.differences or self.also:
            presets = [self.choice.preset, *self.also]
            simulators = [replace(self.choice, preset=preset).simulator() for preset in presets]
            figure = (class_differences if self.differences else classes_of)(simulators)
        elif self.truth:
            figure = truth_panels(self.choice.simulator())
        else:
            figure = gallery(self.choice.simulator().batch(self.start, self.count), self.columns)
        self.out.parent.mkdir(parents=True, exist_ok=True)
        self.out.write_bytes(png(figure))
        print(self.out)


@dataclass(frozen=True)
class Info:
    """Print the data card of a preset: every choice, and measured detectability and signal-to-noise."""

    choice: tyro.conf.OmitArgPrefixes[Choice] = field(default_factory=Choice)
    systems: int = 96
    """How many systems to measure on; 0 for the choices alone."""
    list: bool = False
    """Only list the presets."""

    def run(self) -> None:
        from lensgen.datacard import data_card
        from lensgen.preset import presets

        if self.list:
            for name, description in presets().items():
                print(f"{name:22} {description}")
        else:
            print(data_card(self.choice.simulator(), self.systems, progress=sys.stderr.isatty()))


Command = Annotated[Preview, tyro.conf.subcommand("preview")] | Annotated[Info, tyro.conf.subcommand("info")]


def main() -> int:
    command = tyro.cli(
        Command, prog="python -m lensgen", description="Strong gravitational lenses from preset, seed and index."
    )
    try:
        command.run()
    except (LensgenError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
