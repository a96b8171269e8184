"""A paper's table in one command: `python -m trainers.reproduce mae --budget 30`.

What is run is fixed in `trainers/recipes/reproduce_*.yaml`; the budget only says how much of it. Everything is kept in
one folder: the same command goes on where it was stopped, and writes table and figures anew.
"""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
import yaml

from lensgen.errors import UnknownNameError, unknown_name
from trainers.command_line import exit_with_message, find_recipe
from trainers.config import require
from trainers.errors import ConfigError, TrainingError
from trainers.logs import read_table, write_json
from trainers.reproduction.budget import Cost, Level, Plan, choose_level, makespan
from trainers.reproduction.cell import Cell
from trainers.reproduction.lens_jepa.protocol import LensJEPAProtocol
from trainers.reproduction.lenspinn.protocol import LensPINNProtocol
from trainers.reproduction.mae.protocol import MAEProtocol
from trainers.reproduction.protocol import Protocol
from trainers.reproduction.runner import Runner
from trainers.reproduction.ssl.protocol import SSLProtocol
from trainers.reproduction.worker import Main
from trainers.timing import seconds_since_start

PAPERS: dict[str, type[Protocol]] = {
    kind.name: kind for kind in (MAEProtocol, SSLProtocol, LensPINNProtocol, LensJEPAProtocol)
}
_WITH_MODELS = ", ".join(name for name, kind in PAPERS.items() if kind.has_models)
_PAPERS = "; ".join(f"{name}: {kind.paper}, {kind.subject}" for name, kind in PAPERS.items()) + "."


@dataclass(frozen=True)
class Reproduce:
    """Reproduce a paper's table, as far as a budget goes."""

    paper: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="{" + ",".join(PAPERS) + "}", help=_PAPERS)]
    budget: float = 30.0
    """Minutes in all. Rows that do not fit say so; the first rows, and the comparisons, are always finished."""
    out: Path | None = None
    """Folder, by default runs/reproduce_PAPER; what is there is gone on with."""
    recipe: str | None = None
    """A YAML file in place of trainers/recipes/reproduce_PAPER_cpu or _gpu."""
    models: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            help=f"Only these, by their names under `models` in the recipe ({_WITH_MODELS}; e.g. resnet18, vit)."
        ),
    ] = ()

    def __post_init__(self) -> None:
        require("budget", self.budget, 0.1)
        if self.paper not in PAPERS:
            raise unknown_name("paper", self.paper, PAPERS)
        if self.models and not PAPERS[self.paper].has_models:
            raise ConfigError(
                f"--models chooses among the models of {_WITH_MODELS}; {self.paper} has none: leave it out."
            )

    @property
    def stem(self) -> str:
        """What the names of recipes and folders of the paper begin with."""
        return f"reproduce_{self.paper.replace('-', '_')}"


def main(argv: list[str] | None = None) -> int:
    """Reproduces; returns the exit status: 0, or 130 after Ctrl-C."""
    config = tyro.cli(Reproduce, args=argv, prog="python -m trainers.reproduce")
    root = config.out or Path("runs") / config.stem
    try:
        reproduce(config, root)
    except KeyboardInterrupt:
        again = ["python", "-m", "trainers.reproduce", config.paper, f"--budget={config.budget:g}", f"--out={root}"]
        again += [f"--recipe={config.recipe}"] if config.recipe else []
        again += ["--models", *config.models] if config.models else []
        print(f"\ninterrupted; go on with: {shlex.join(again)}", file=sys.stderr)
        return 130
    return 0


def reproduce(config: Reproduce, root: Path) -> None:
    """Plans, runs what is not done yet, and writes `table.json`, `table.md` and the figures into `root`."""
    protocol = open_protocol(config, root)
    spent = json.loads(elapsed.read_text()) if (elapsed := root / "elapsed.json").is_file() else 0.0
    try:
        runner = Runner(root, mains(protocol), protocol.recipe["processes"])
        plan = root / "plan.json"
        if not plan.exists():
            make_plan(config, protocol, runner, spent).write(plan)
        decided = Plan.read(plan)
        try:
            _run(config, protocol, runner, decided, spent)
        except TrainingError:  # of the runs that are done something can be said
            protocol.write_results(root, decided, runner.failed)
            raise
    finally:
        write_json(elapsed, spent + seconds_since_start())
    protocol.write_results(root, decided, runner.failed)


def _run(config: Reproduce, protocol: Protocol, runner: Runner, decided: Plan, spent: float) -> None:
    root = runner.root
    if decided.budget != config.budget:
        raise ConfigError(
            f"{root} was planned for --budget {decided.budget:g}, not {config.budget:g}: its runs have the steps that "
            f"fit that. Give --budget {decided.budget:g}, or another --out."
        )
    level = decided.level
    cells = protocol.cells(level)
    protocol.prepare(root, cells)
    seconds = {cell.name: decided.costs[cell.kind].of(cell.steps_at(level.scale)) for cell in cells}
    print(
        f"{len(cells)} runs, {level.seeds} seed(s), scale {level.scale:.2g} of the protocol, about "
        f"{decided.estimate:.0f} minutes; the plan is kept in {root}/plan.json"
    )
    if decided.estimate > config.budget:
        print("  that is beyond the budget: even a few steps of what must always be done take longer")
    left = 60 * config.budget - spent - seconds_since_start()
    runner.run(cells, level.scale, seconds, "runs", must=protocol.must, left=left)


def mains(protocol: Protocol) -> dict[str, Main]:
    """The `main` of each trainer that the protocol runs, by the name of its module."""
    trainers = {cell.trainer for cell in protocol.cells(protocol.levels[0])}
    return {name: import_module(f"trainers.{name}").main for name in sorted(trainers)}


def open_protocol(config: Reproduce, root: Path) -> Protocol:
    """The protocol of the recipe, of which a copy stays in the folder: what is gone on with must be the same."""
    machine = "gpu" if torch.cuda.is_available() else "cpu"
    given = find_recipe(config.recipe or f"{config.stem}_{machine}")
    source, kept = given.read_text(), root / "recipe.yaml"
    if config.models:  # a part of the recipe that is kept, so that others cannot be mixed with them by mistake
        source = f"{source.rstrip()}\nonly: [{', '.join(sorted(config.models))}]\n"
    if kept.is_file() and kept.read_text() != source:
        raise ConfigError(f"{kept} is not the recipe that was given: the runs there have others. Give another --out.")
    try:
        recipe: Mapping[str, Any] = yaml.safe_load(source)
        for name in config.models:
            if name not in recipe["models"]:
                raise unknown_name("model", name, recipe["models"])
        protocol = PAPERS[config.paper](recipe)
        protocol.cells(protocol.levels[0])
    except UnknownNameError:
        raise
    except (yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(
            f"{given} cannot be used as a recipe of {config.paper}: {error!r}; compare it with "
            f"trainers/recipes/{config.stem}_{machine}.yaml."
        ) from error
    root.mkdir(parents=True, exist_ok=True)
    part = kept.with_suffix(".part")
    part.write_text(source)
    part.replace(kept)
    return protocol


def make_plan(config: Reproduce, protocol: Protocol, runner: Runner, spent: float = 0.0) -> Plan:
    """Times a short run of each kind that the budget may reach, and decides how much of the protocol is done.

    Args:
        spent: of the budget [s], before this session.
    """

    def left() -> float:
        return 60 * config.budget - spent - seconds_since_start()

    shutil.rmtree(runner.root / "rehearsal", ignore_errors=True)  # of a plan that was not finished
    costs: dict[str, Cost] = {}
    within: list[Level] = []
    for level in reversed(protocol.levels):  # the least first
        timed = [cell for cell in protocol.cells(level) if cell.kind in costs]
        if within and makespan(timed, level.scale, costs, runner.processes) > left():
            continue
        costs |= _rehearse(protocol, runner, protocol.rehearsal(level, costs))
        within.insert(0, level)
    decided, estimate = choose_level(protocol.cells, within, costs, runner.processes, left())
    return Plan(config.paper, config.budget, decided, estimate / 60, runner.processes, costs)


def _rehearse(protocol: Protocol, runner: Runner, cells: Sequence[Cell]) -> dict[str, Cost]:
    """Kind -> cost, by short runs."""
    if not cells:
        return {}
    protocol.prepare(runner.root, cells)
    # the first run of each process loads the libraries, and reads the set if there is one: that is not timed
    first = [dataclasses.replace(cells[0], name=f"rehearsal/first_{number}") for number in range(runner.processes)]
    every = [*first, *cells]
    took = runner.run(every, 1.0, {cell.name: 10.0 for cell in every}, "timing a short run of each kind")
    costs = {cell.kind: _cost(runner.root, cell, took[cell.name]) for cell in cells}
    shutil.rmtree(runner.root / "rehearsal")
    return costs


def _cost(root: Path, cell: Cell, seconds: float) -> Cost:
    recipe = cell.recipe(root, 1.0)
    # without those of the first report, which paid for compilation
    rates = [float(row["images_per_second"]) for row in read_table(root / cell.name / "train.csv")]
    step = recipe["batch_size"] / statistics.median(rates[recipe["log_every"] :] or rates)
    return Cost(max(0.0, seconds - step * cell.steps), step)


if __name__ == "__main__":
    exit_with_message(main)
