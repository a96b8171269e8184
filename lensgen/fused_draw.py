"""Drawing systems by one kernel: the torch code of `lensgen.draw`, called once with what leaves a graph.

What `draw_values` does with tensors it does here with nodes of a graph, and the graph becomes a kernel for a CPU or a
GPU; so a new prior or population needs nothing here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lensgen.checks import require
from lensgen.draw import Systems, Values, draw_values
from lensgen.draw import draw as draw_by_torch
from lensgen.errors import ParameterError
from lensgen.notice import say_once
from lensgen.preset import Preset
from lensgen.priors import Prior
from lensgen.rng import RandomSource, name_hash
from lensgen.substructure.population import Drawn, Draws, Host, Population
from lensgen.twins import ORIGINAL, Twin
from lensgen_kernels import cuda, nvrtc
from lensgen_kernels.errors import TranslationError, reject
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import CONSTANT, INT, REAL, UNIFORM, VARYING, Node
from lensgen_kernels.system_block import system_block
from lensgen_kernels.system_kernel import system_source
from lensgen_kernels.system_order import Output


class _TracedDraws(Draws):
    """Stands for the random values of one system."""

    graph: Graph
    twin: Twin

    def __init__(self, graph: Graph, twin: Twin) -> None:
        object.__setattr__(self, "graph", graph)
        object.__setattr__(self, "twin", twin)

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
        return self.graph.node("uniform", name_hash(self.twin.called(name)), "slot", rate=VARYING, slots=count)

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
_WORTH_COMPILING = 20_000  # systems: torch draws as many in the five seconds that it takes to compile a CPU's kernel


@dataclass(frozen=True)
class _Place:
    """Where a value stands in the rows that the kernel writes.

    Args:
        array: "real" or "whole".
        column: the first, where there is one for each of `slots`.
        kept: its number among the values of the array that a batch keeps, or None.
    """

    array: str
    column: int
    slots: int | None
    kept: int | None


class Drawer(ABC):
    """Draws the systems of one preset; call it with random numbers and indices `[B]` int64.

    Args:
        dtype: of the scenes' tensors.
        twin: that of the random numbers: the kernel calls its variables by name.
        label: the number of the class that all systems are of, or None for each of its own.
    """

    def __init__(self, preset: Preset, dtype: torch.dtype, twin: Twin = ORIGINAL, label: int | None = None) -> None:
        self.preset, self.dtype, self.twin, self.of_class = preset, dtype, twin, label
        self.graph = Graph(exact=True)
        given: Any = None if label is None else self.graph.constant(label, INT)
        traced: Any = draw_values(preset, _TracedDraws(self.graph, twin), dtype == torch.float64, given)
        self.outputs: list[Output] = []
        self.rows: dict[str, list[float]] = {"real": [], "whole": []}  # what stands where a system has no value
        self._kept: dict[str, list[int]] = {"real": [], "whole": []}  # columns
        self._on: dict[tuple[str, torch.device], Tensor] = {}
        # the slots of each component, and how many of them have values
        self._slots = {
            c.name: (max((v.slots or 1 for v in c.parameters.values()), default=1), c.count.operands[0])
            for c in traced.substructure
        }
        self.label = self.graph.lift(traced.label)
        self.places: Values = traced.map(lambda name, node: self._placed(name, self.graph.lift(node)))

    def _placed(self, name: str, node: Node) -> _Place:
        """A place in the rows for one value."""
        array = "real" if node.kind == REAL else "whole"
        row, kept = self.rows[array], self._kept[array]
        component, _, parameter = name.rpartition(".")
        slots, count = None, None
        if parameter != "count":
            slots, count = self._slots.get(component.removeprefix("mass."), (None, None))
        empty = node.operands[1].args[0] if node.op == "placed" else node.args[0] if node.op == "const" else 0.0
        keep = name == "label" or name.startswith(_KEPT)
        place = _Place(array, len(row), slots, len(kept) if keep else None)
        if keep:
            kept.append(place.column)
        row.extend([empty] * (slots or 1))
        if node.rate > CONSTANT:
            self.outputs.append(Output(node, array, place.column, count, slots or 1))
        return place

    @abstractmethod
    def __call__(self, random: RandomSource, index: Tensor) -> Systems:
        """The systems of `index`, on its device: the same bits as from `lensgen.draw.draw`.

        Raises:
            ParameterError: as `lensgen.draw.draw` does.
        """

    def draw(self, random: RandomSource, index: Tensor) -> Systems:
        """The same by the quickest way."""
        return self(random, index)

    def key(self, random: RandomSource) -> tuple[int, int]:
        """The seed's two words, for the kernel."""
        if random.twin != self.twin:
            raise ParameterError(
                f"the random numbers are of {random.twin}, this drawer is of {self.twin}: make another."
            )
        return random.key

    def by_torch(self, random: RandomSource, index: Tensor) -> Systems:
        """The same without the kernel."""
        classes = None if self.of_class is None else torch.full_like(index, self.of_class)
        return draw_by_torch(self.preset, random, index, self.dtype, classes)

    def systems(self, rows: Mapping[str, Tensor]) -> Systems:
        """What stands in the rows, float32 `[B, R]` and int64 `[B, W]`, without a copy of the scene."""
        # what a batch keeps must not keep whole rows in memory
        kept = {
            array: values.t().index_select(0, self._columns(array, values.device)) for array, values in rows.items()
        }

        def read(name: str, place: Any) -> Tensor:
            if place.kept is not None:
                return kept[place.array][place.kept]
            values = rows[place.array]
            if place.slots is None:
                return values[:, place.column]
            return values[:, place.column : place.column + place.slots]

        values = self.places.map(read)
        return (values if self.dtype == torch.float32 else values.rounded(self.dtype)).systems()

    def _columns(self, array: str, device: torch.device) -> Tensor:
        key = array, device
        if key not in self._on:
            self._on[key] = torch.tensor(self._kept[array], dtype=torch.int64, device=device)
        return self._on[key]


class CpuDrawer(Drawer):
    """By a kernel for the CPU."""

    def __init__(self, preset: Preset, dtype: torch.dtype, twin: Twin = ORIGINAL, label: int | None = None) -> None:
        from lensgen_kernels import cpu  # and numba with it, which a GPU does without

        super().__init__(preset, dtype, twin, label)
        self._cpu = cpu
        self._until_compiled = _WORTH_COMPILING
        self._empty = {
            "real": torch.tensor([self.rows["real"]], dtype=torch.float32),
            "whole": torch.tensor([self.rows["whole"]], dtype=torch.int64),
        }
        self.source = system_source(self.graph, self.label, self.outputs)

    def draw(self, random: RandomSource, index: Tensor) -> Systems:
        """While the kernel is not compiled, the first ones by torch."""
        if self._until_compiled > 0 and not self._cpu.is_compiled(self.source):
            self._until_compiled -= len(index)
            return self.by_torch(random, index)
        self._until_compiled = 0
        return self(random, index)

    def __call__(self, random: RandomSource, index: Tensor) -> Systems:
        rows = {array: row.repeat(len(index), 1) for array, row in self._empty.items()}
        real, whole = rows["real"].numpy(), rows["whole"].numpy()
        threads = torch.get_num_threads()
        if not self._cpu.draw(self.source, index.contiguous().numpy(), self.key(random), real, whole, threads):
            return self.by_torch(random, index)  # it says what is wrong with these systems
        return self.systems(rows)


class CudaDrawer(Drawer):
    """By a kernel for a GPU, on torch's current stream; the host waits for nothing but what `checks` lets it look at.

    Args:
        lanes: threads a system; for tests, as the bits do not depend on it.
    """

    def __init__(
        self,
        preset: Preset,
        dtype: torch.dtype,
        lanes: int | None = None,
        twin: Twin = ORIGINAL,
        label: int | None = None,
    ) -> None:
        super().__init__(preset, dtype, twin, label)
        self.block = system_block(self.graph, self.label, self.outputs, self.rows, lanes)
        self.kernel = cuda.Kernel(self.block.text, "draw", nvrtc.SYSTEM)

    def __call__(self, random: RandomSource, index: Tensor) -> Systems:
        rows, bad = self.drawn(random, index)
        require(bad, lambda position: self._explained(random, index[position : position + 1]))
        return self.systems(rows)

    def drawn(self, random: RandomSource, index: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """The rows, and `[B]` bool: the systems for which some check does not hold, whose rows are void."""
        count, device, block = len(index), index.device, self.block
        real = cuda.empty((count, len(self.rows["real"])), torch.float32, device)
        whole = cuda.empty((count, len(self.rows["whole"])), torch.int64, device)
        bad = cuda.empty((count,), torch.bool, device)
        key0, key1 = map(np.uint32, self.key(random))
        args = (index.contiguous(), np.int32(count), key0, key1, real, whole, bad)
        self.kernel.launch(device, block.blocks(count), block.threads, block.shared_bytes, args)
        return {"real": real, "whole": whole}, bad

    def _explained(self, random: RandomSource, index: Tensor) -> str:
        """What is wrong with a system for which a check does not hold: torch says so."""
        self.by_torch(random, index)
        return f"the system of image {int(index)} cannot be drawn"


def drawer(
    preset: Preset,
    dtype: torch.dtype,
    device: torch.device | None = None,
    twin: Twin = ORIGINAL,
    label: int | None = None,
) -> Drawer | None:
    """A drawer of the preset's systems on a device (the CPU, unless it says otherwise), or None, and a line that says
    why, if they can only be drawn by torch. `twin` and `label` as for Drawer."""
    made = CpuDrawer if device is None or device.type == "cpu" else CudaDrawer
    try:
        return made(preset, dtype, twin=twin, label=label)
    except TranslationError as error:
        say_once(f"systems of {preset.name!r} are drawn by torch, which is slower: {error}")
        return None
