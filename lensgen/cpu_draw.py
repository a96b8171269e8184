"""Drawing systems by one kernel: the torch code of `lensgen.draw`, called once with what leaves a graph.

What `draw_values` does with tensors it does here with nodes of a graph, and the graph becomes a kernel; so a new
prior or population needs nothing here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lensgen.draw import Systems, Values, draw_values
from lensgen.draw import draw as draw_by_torch
from lensgen.notice import say_once
from lensgen.preset import Preset
from lensgen.priors import Prior
from lensgen.rng import RandomSource, name_hash
from lensgen.substructure.population import Drawn, Draws, Host, Population
from lensgen_kernels import cpu
from lensgen_kernels.errors import TranslationError, reject
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import CONSTANT, INT, REAL, UNIFORM, VARYING, Node
from lensgen_kernels.system_kernel import Output, system_source


class _TracedDraws(Draws):
    """Stands for the random values of one system."""

    graph: Graph

    def __init__(self, graph: Graph) -> None:
        object.__setattr__(self, "graph", graph)

    @property
    def random(self) -> RandomSource:
        raise reject("the source of random numbers by itself", "draw by value, values and uniforms")

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    @property
    def index(self) -> Tensor:
        raise reject("the number of systems, or their indices", "work on values [B] and [B, N]")

    def uniforms(self, name: str, count: int) -> Any:
        return self.graph.node("uniform", name_hash(name), "slot", rate=VARYING, slots=count)

    def _uniforms(self, name: str, prior: Prior, count: int) -> Any:
        return self.uniforms(name, count)

    def within_class(self, label: Any, number: int, host: Host, population: Population, prefix: str) -> Drawn:
        region = number + 1  # 0 is what all classes have
        self.graph.enter(region)
        drawn = population.draw(self, host, prefix)
        self.graph.leave()

        def place(value: Any, empty: float, count: Any = None) -> Any:
            node = self.graph.lift(value)
            nothing = self.graph.constant(empty, node.kind)
            rate = max(node.rate, UNIFORM)
            return self.graph.node("placed", node, nothing, self.graph.constant(region, INT), kind=node.kind, rate=rate)

        return drawn.placed(place)


_KEPT = ("exposure.", "psf_choice.", "params.")  # values that outlive the batch's scene
_WORTH_COMPILING = 20_000  # systems: torch draws as many in the five seconds that it takes to compile a kernel


@dataclass(frozen=True)
class _Place:
    """Where a value stands in the rows that the kernel writes."""

    array: str
    column: int
    slots: int | None


class Drawer:
    """Draws the systems of one preset."""

    def __init__(self, preset: Preset, dtype: torch.dtype) -> None:
        self.preset, self.dtype = preset, dtype
        self._until_compiled = _WORTH_COMPILING
        graph = Graph(exact=True)
        traced: Any = draw_values(preset, _TracedDraws(graph), dtype == torch.float64)
        self.outputs: list[Output] = []
        self.rows: dict[str, list[float]] = {"real": [], "whole": []}
        # the slots of each component, and how many of them have values
        self._slots = {
            c.name: (max((v.slots or 1 for v in c.parameters.values()), default=1), c.count.operands[0])
            for c in traced.substructure
        }
        self.places: Values = traced.map(lambda name, node: self._placed(name, graph.lift(node)))
        self.empty = (
            torch.tensor([self.rows["real"]], dtype=torch.float32),
            torch.tensor([self.rows["whole"]], dtype=torch.int64),
        )
        self.source = system_source(graph, graph.lift(traced.label), self.outputs)

    def _placed(self, name: str, node: Node) -> _Place:
        """A place in the rows for one value."""
        array = "real" if node.kind == REAL else "whole"
        row = self.rows[array]
        component, _, parameter = name.rpartition(".")
        slots, count = None, None
        if parameter != "count":
            slots, count = self._slots.get(component.removeprefix("mass."), (None, None))
        empty = node.operands[1].args[0] if node.op == "placed" else node.args[0] if node.op == "const" else 0.0
        place = _Place(array, len(row), slots)
        row.extend([empty] * (slots or 1))
        if node.rate > CONSTANT:
            self.outputs.append(Output(node, array, place.column, count))
        return place

    def draw(self, random: RandomSource, index: Tensor) -> Systems:
        """The same systems by the quickest way: while the kernel is not compiled, the first ones by torch."""
        if self._until_compiled > 0 and not cpu.is_compiled(self.source):
            self._until_compiled -= len(index)
            return draw_by_torch(self.preset, random, index, self.dtype)
        self._until_compiled = 0
        return self(random, index)

    def __call__(self, random: RandomSource, index: Tensor) -> Systems:
        """The systems of `index` `[B]` int64 on the CPU: the same bits as from `lensgen.draw.draw`."""
        real, whole = (row.repeat(len(index), 1) for row in self.empty)
        arrays = {"real": real, "whole": whole}
        rows = (real.numpy(), whole.numpy())
        if not cpu.draw(self.source, index.contiguous().numpy(), random.key, *rows, torch.get_num_threads()):
            return draw_by_torch(self.preset, random, index, self.dtype)  # it says what is wrong with these systems

        def read(name: str, place: Any) -> Tensor:
            rows = arrays[place.array]
            if place.slots is not None:
                return rows[:, place.column : place.column + place.slots]
            column = rows[:, place.column]
            # what a batch keeps must not keep whole rows in memory
            return column.clone() if name == "label" or name.startswith(_KEPT) else column

        values = self.places.map(read)
        return (values if self.dtype == torch.float32 else values.rounded(self.dtype)).systems()


def drawer(preset: Preset, dtype: torch.dtype) -> Drawer | None:
    """A drawer of the preset's systems, or None, and a line that says why, if they can only be drawn by torch."""
    try:
        return Drawer(preset, dtype)
    except TranslationError as error:
        say_once(f"systems of {preset.name!r} are drawn by torch, which is slower: {error}")
        return None
