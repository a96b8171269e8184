"""Source of a renderer that is specialised to one kind of scene: formulas and optics in, a Python module out.

For each image: for chunks of rays, the deflections of all lenses are added up, the light is looked up where the rays
arrive; then the optics (averages and point-spread function) filter the rays to pixels, and the noise is added as the
image is written. What depends on the system alone is worked out before the rays, slot by slot where there are slots.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import SimpleNamespace
from typing import TypeAlias

from lensgen_kernels import fast_math, filters, tables
from lensgen_kernels.correlate import CORRELATE
from lensgen_kernels.filters import DenseFilter, Filter
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import BOOL, UNIFORM, VARYING, Node
from lensgen_kernels.numba_source import NumbaPrinter, printable
from lensgen_kernels.primitives import Stack
from lensgen_kernels.program import ImageProgram, NoiseTerm, Term
from lensgen_kernels.source import Source
from lensgen_kernels.translate import needed, substituted, traced

CHUNK = 1024  # rays: what a chunk's loops read and write stays in the first-level cache
_JAM = 4  # slots whose deflections are added in one pass over a chunk, where the formula is short
_SHORT = 24  # operations
_MOST_CASES = 4  # loops for conditions that hold for a whole system; further conditions choose ray by ray

Write: TypeAlias = Callable[[list[str]], list[str]]  # names of values -> the lines that store them


def _uniform_conditions(outputs: tuple[Node, ...]) -> list[Node]:
    """Conditions that hold for all rays or none, and choose between values that vary."""
    return [n.args[0] for n in needed(outputs) if n.op == "where" and n.rate == VARYING and n.args[0].rate <= UNIFORM]


class Body:
    """Writes the loops of one renderer."""

    def __init__(self, program: ImageProgram) -> None:
        self.program = program
        self.source = Source()
        self.constants: dict[str, str] = {}
        self.scalars = 0  # numbers a system, in the order in which terms without slots take them
        self.slotted = 0
        self.arrays = 0  # stacks of images, in the order in which terms are worked out
        self.tables: dict[int, tables.Radial] = {}  # by the number of the term with slots

    def find_tables(self) -> None:
        """The terms with slots that are smooth circular lenses, and costly enough for a table each slot."""
        slotted = [t for t in self.program.terms if t.slotted]
        for which, term in enumerate(slotted):
            if not term.smooth:
                continue
            (ax, ay), _ = self.traced(term, 1, 2)
            radial = tables.radial(ax, ay)
            if radial is not None:
                self.tables[which] = radial

    def printer(self, prefix: str) -> NumbaPrinter:
        return NumbaPrinter("float32", prefix, self.constants)

    def lines(self, printer: NumbaPrinter, nodes: list[Node]) -> None:
        for line in printer.lines(nodes):
            self.source.line(line)

    def graph(self) -> Graph:
        return Graph(lowering=fast_math.LOWERING)

    def traced(self, term: Term, jam: int, outputs: int) -> tuple[tuple[Node, ...], list[list[str]]]:
        """The summed values of `jam` slots of a term, and the names of their parameters."""
        graph = self.graph()
        x, y = graph.input("x", VARYING), graph.input("y", VARYING)
        names = [[f"p{slot}_{k}" for k in range(term.parameters)] for slot in range(jam)]
        stacks = [Stack(graph, f"array{self.arrays + k}", shape) for k, shape in enumerate(term.arrays)]
        sums: tuple[Node, ...] = ()
        for slot in names:
            parameters = [graph.input(name, UNIFORM) for name in slot]
            values = traced(graph, term.formula, [x, y, *parameters, *stacks, *term.statics], outputs)
            sums = tuple(a + b for a, b in zip(sums, values, strict=True)) if sums else values
        return sums, names

    def term(self, term: Term, number: int, outputs: int, rays: list[str], write: Write) -> None:
        """The loops that add one term to a chunk. `rays` are the lines that set x and y."""
        self._term(term, number, outputs, rays, write)
        self.arrays += len(term.arrays)

    def _term(self, term: Term, number: int, outputs: int, rays: list[str], write: Write) -> None:
        if not term.slotted:
            values, names = self.traced(term, 1, outputs)
            for name in names[0]:
                self.source.line(f"{name} = scalars[b, {self.scalars}]")
                self.scalars += 1
            self.loops(values, f"m{number}_", rays, write)
            return
        which, self.slotted = self.slotted, self.slotted + 1
        slots, count = f"slots{which}", f"counts{which}"
        values, names = self.traced(term, 1, outputs)
        if which in self.tables:
            load = [f"{name} = {slots}[b, slot, {k}]" for k, name in enumerate(names[0])]
            tables.add_from_table(self, which, self.tables[which], values, f"m{number}_", load, rays, write)
            return
        jam = _JAM if len([n for n in printable(needed(values)) if n.rate == VARYING]) <= _SHORT else 1
        self.source.line("slot = 0")
        for width in (jam, 1) if jam > 1 else (1,):
            values, names = self.traced(term, width, outputs)
            with self.source.block(f"while slot + {width} <= {count}[b]:"):
                for s, slot in enumerate(names):
                    for k, name in enumerate(slot):
                        self.source.line(f"{name} = {slots}[b, slot + {s}, {k}]")
                self.loops(values, f"m{number}_", rays, write)
                self.source.line(f"slot += {width}")

    def loops(
        self,
        values: tuple[Node, ...],
        prefix: str,
        rays: list[str],
        write: Write,
        only: str | None = None,
        cases: int = 0,
    ) -> None:
        """A loop over the chunk that works out `values`; one for each of the `cases` where a condition is the system's.

        With `only`, rays for which that condition does not hold are passed over.
        """
        conditions = _uniform_conditions(values)
        printer = self.printer(prefix)
        if conditions and cases < _MOST_CASES:
            condition = conditions[0]
            self.lines(printer, needed((condition,)))
            for holds in (True, False):
                with self.source.block(f"if {printer.name(condition)}:" if holds else "else:"):
                    self.loops(substituted(values, condition, holds), prefix, rays, write, only, 2 * max(cases, 1))
            return
        nodes = needed(values)
        self.lines(printer, [n for n in nodes if n.rate <= UNIFORM])
        with self.source.block("for p in range(n):"):
            for line in rays:
                self.source.line(line)
            if only is not None:
                with self.source.block(f"if not ({only}):"):
                    self.source.line("continue")
            self.lines(printer, [n for n in nodes if n.rate == VARYING])
            for line in write([printer.name(v) for v in values]):
                self.source.line(line)


def _store(places: list[tuple[str, str, str]], first: bool, values: list[str]) -> list[str]:
    """The lines that store values, or add them to what is there; a place is an array, an index and a factor."""
    lines = []
    for (array, index, factor), value in zip(places, values, strict=True):
        before = "" if first else f"get({array}, {index}) + "
        lines.append(f"put({array}, {index}, {before}{factor}{value})")
    return lines


def _rays(body: Body) -> None:
    """Everything from rays to `light[ray]`."""
    program, source = body.program, body.source
    image_plane = ["x = get(px, base + p)", "y = get(py, base + p)"]
    with source.block("for base in range(0, rays, CHUNK):"):
        source.line("n = min(CHUNK, rays - base)")
        # many small deflections are added to one another before large ones: that loses less to rounding
        mass = sorted(program.mass, key=lambda term: not term.slotted)
        slotted_first = bool(mass) and mass[0].slotted
        if slotted_first or not program.mass:
            with source.block("for p in range(n):"):
                source.line("put(ax, p, zero)")
                source.line("put(ay, p, zero)")
        number = 0
        for k, term in enumerate(mass):
            first = k == 0 and not slotted_first
            body.term(term, number, 2, image_plane, partial(_store, [("ax", "p", ""), ("ay", "p", "")], first))
            number += 1
        if program.scaled:
            source.line(f"scale = scalars[b, {body.scalars}]")
            body.scalars += 1
        factor = "scale * " if program.scaled else ""
        source_plane = [f"x = get(px, base + p) - {factor}get(ax, p)", f"y = get(py, base + p) - {factor}get(ay, p)"]
        lights = [(t, source_plane) for t in program.source] + [(t, image_plane) for t in program.lens_light]
        if not lights or lights[0][0].slotted:
            with source.block("for p in range(n):"):
                source.line("put(light, base + p, zero)")
        for k, (term, rays) in enumerate(lights):
            first = k == 0 and not term.slotted
            body.term(term, number, 1, rays, partial(_store, [("light", "base + p", "area * ")], first))
            number += 1


def _optics(body: Body) -> str:
    """The filters; returns the name of the array that holds the pixels."""
    source, src = body.source, "light"
    source.line("h_in = height")
    source.line("w_in = width")
    for k, filter in enumerate(body.program.filters):
        dst = "spare" if src == "light" else "light"
        source.line(f"h_out = h_in // {filter.stride}")
        source.line(f"w_out = w_in // {filter.stride}")
        if isinstance(filter, Filter):
            filters.separable(source, filter, k, src, dst)
        else:
            filters.dense(source, filter, k, src, dst)
        source.line("h_in = h_out")
        source.line("w_in = w_out")
        src = dst
    return src


def _noise(body: Body, pixels: str) -> None:
    source, noise = body.source, body.program.noise
    if noise is None:
        with source.block("for p in range(pixels):"):
            source.line(f"put(out, b * pixels + p, get({pixels}, p))")
        return
    usual, rare_case = _noise_values(body, noise, rare=False)
    all_cases, _ = _noise_values(body, noise, rare=True)
    wanted = [n.args[0] for values in (usual, all_cases) for n in needed(values) if n.op == "input"]
    for k, name in enumerate(noise.uniforms):
        if name in wanted:
            source.line(f"uniforms(u_{name}, (pixels + 3) // 4, keys[0], keys[1], keys[{2 + k}], index[b])")
    with source.block("for base in range(0, pixels, CHUNK):"):
        source.line("n = min(CHUNK, pixels - base)")
        source.line("start = b * pixels + base")
        source.line("exposure = exposures[b]")
        for k, name in enumerate(noise.detector):
            source.line(f"detector_{name} = detector[{k}]")
        inputs = [f"clean = get({pixels}, base + p)"]
        inputs += [f"{name} = get(u_{name}, base + p)" for name in noise.uniforms if name in wanted]

        def write(values: list[str]) -> list[str]:
            return [f"put(out, start + p, {values[0]})", *(f"rare = ior(rare, flag({v}))" for v in values[1:])]

        if rare_case is None:
            body.loops(usual, "n_", inputs, write)
            return
        source.line("rare = np.int32(0)")
        body.loops((*usual, rare_case), "n_", inputs, write)
        with source.block("if rare != 0:"):
            body.loops(all_cases, "r_", inputs, write)


def _noise_values(body: Body, noise: NoiseTerm, rare: bool) -> tuple[tuple[Node, ...], Node | None]:
    """The noisy pixel, and whether some rare case holds that was left out of it."""
    graph = body.graph()
    graph.rare = rare
    detector = SimpleNamespace(**{n: graph.input(f"detector_{n}", UNIFORM) for n in noise.detector})
    clean, exposure = graph.input("clean", VARYING), graph.input("exposure", UNIFORM)
    values = traced(graph, noise.formula, [clean, exposure, detector, lambda name: graph.input(name, VARYING)], 1)
    condition: Node | None = None
    for rare_case in dict.fromkeys(graph.rare_cases):
        condition = rare_case if condition is None else condition | rare_case
    assert condition is None or condition.kind == BOOL
    return values, condition


def image_source(program: ImageProgram) -> str:
    """The text of a module with a function `render`; see `lensgen_kernels.cpu` for what it takes."""
    body = Body(program)
    if program.tabulated:
        body.find_tables()
    source = body.source
    noise = program.noise
    slotted = sum(t.slotted for t in program.terms)
    arguments = [
        "out", "scalars", "px", "py", "rays", "height", "width", "area", "exposures", "index", "keys", "detector",
        *(f"weights{k}" for k in range(len(program.filters))), "choice",
        *(f"{kind}{k}" for k in range(slotted) for kind in ("slots", "counts")),
        *(f"array{k}" for k in range(sum(len(t.arrays) for t in program.terms))),
        "first", "last", "poison",
    ]  # fmt: skip
    source.line('@njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "nsz", "arcp"})')
    with source.block(f"def render({', '.join(arguments)}):"):
        source.line("pixels = out.size // exposures.size")
        source.line("x_last = px[rays - 1]")
        source.line("y_last = py[rays - 1]")
        margin = max((f.taps + f.before for f in program.filters if isinstance(f, Filter)), default=0)
        for name, size in (
            ("ax", "CHUNK"), ("ay", "CHUNK"), ("light", "rays + LANES"), ("spare", "rays + LANES"),
            ("row", f"width + LANES + {margin}"),
            *((f"u_{u}", "pixels + 3") for u in (noise.uniforms if noise else ())),
        ):  # fmt: skip
            source.line(f"{name} = scratch({size}, poison)")
        divisor = 1
        for k, filter in enumerate(program.filters):
            divisor *= filter.stride
            if isinstance(filter, DenseFilter):
                filters.allocate(source, filter, k, divisor)
        for which in body.tables:
            tables.allocate(source, which)
        with source.block("for b in range(first, last):"):
            for which, radial in body.tables.items():
                tables.fill(body, which, radial)
            _rays(body)
            _noise(body, _optics(body))
    constants = [f"{name} = {text}" for text, name in body.constants.items()]
    return "\n".join([*_HEAD, *constants, "", "", source.text()])


_HEAD = [
    '"""Written by lensgen_kernels; safe to delete, and made again when it is missing."""',
    "import numpy as np",
    "from numba import njit",
    "from lensgen_kernels.correlate import CORRELATE, TILE_ROWS, TILE_WIDTH",
    "from lensgen_kernels.intrinsics import *",
    "from lensgen_kernels.lanes import *",
    "from lensgen_kernels.support import scratch, uniforms",
    "from lensgen_kernels.tables import NODES, WEIGHTS",
    "",
    f"CHUNK = {CHUNK}",
    "zero = np.float32(0.0)",
    *(f"correlate{vectors} = CORRELATE[{vectors}]" for vectors in CORRELATE),
]
