"""Source of a renderer for a block of GPU threads, specialised to one kind of scene.

The hand-written parts are `block.h`, `philox.h`, `lenses.h`, `optics.h` and the kernel itself, `image.cu`; what is
generated stands between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from lensgen_kernels import block_layout
from lensgen_kernels.block_formula import LENS, LIGHT, Body, Formula, Once, QuickPrinter, function, indented
from lensgen_kernels.block_inputs import TABLES, constants, inputs
from lensgen_kernels.block_layout import Geometry, Layout
from lensgen_kernels.block_noise import noise_text
from lensgen_kernels.block_optics import optics_text
from lensgen_kernels.c_source import PRELUDE, functions_source
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import UNIFORM, VARYING, Node
from lensgen_kernels.primitives import Stack
from lensgen_kernels.program import ImageProgram, Term
from lensgen_kernels.radial import circular, costly
from lensgen_kernels.translate import traced

_RAYS_AT_ONCE = 4


def _text(file: str) -> str:
    return (Path(__file__).parent / file).read_text()


@dataclass(frozen=True, eq=False)
class ImageBlock:
    """Args:
    text: CUDA C++, complete, with the kernel `lg_render(inputs)`.
    inputs: the kernel's one argument, a struct.
    layout: of the block's memory.
    """

    text: str
    inputs: np.dtype
    layout: Layout


class _Block:
    """Writes what stands before `image.cu`."""

    def __init__(self, program: ImageProgram, geometry: Geometry, rays: int) -> None:
        self.program, self.geometry, self.rays = program, geometry, rays
        self.printer = QuickPrinter("float")
        self.texts: list[str] = []  # of functions that formulas call
        self.scalars = self.slots = self.slotted = self.arrays = 0
        self.stage: list[str] = []  # jobs of single threads: what is worked out once an image
        self.stage_slots: list[str] = []  # of lights: a thread a slot
        self.once = 0  # floats

    def traced(self, term: Term, outputs: int) -> tuple[tuple[Node, ...], list[Node]]:
        graph = Graph(lowering=LENS if outputs == 2 else LIGHT)
        x, y = graph.input("x", VARYING), graph.input("y", VARYING)
        stacks = [Stack(graph, f"array{self.arrays + k}", shape) for k, shape in enumerate(term.arrays)]
        parameters = [graph.input(f"p{k}", UNIFORM) for k in range(term.parameters)]
        values = traced(graph, term.formula, [x, y, *parameters, *stacks, *term.statics], outputs)
        self.texts.append(functions_source(values, "float"))
        return values, parameters

    def _array_lines(self, term: Term) -> list[str]:
        return [
            f"const float* const in_array{self.arrays + k} = in.array[{self.arrays + k}];"
            for k in range(len(term.arrays))
        ]

    def _keep(self, load: list[str], once: Once) -> int:
        """A job that works out `once` from what `load` reads; where its numbers are kept."""
        at = self.once
        self._job([f"const lg_memory<float> own = once + {at};", *load, *once.store("own")])
        self.once += len(once.kept)
        return at

    def _job(self, lines: list[str]) -> None:
        self.stage += [f"case {sum(line.startswith('case') for line in self.stage)}: {{", *indented(lines), "} break;"]

    def _term(self, term: Term, outputs: int, x: str, y: str, write: Write) -> list[str]:
        """Lines that work out a term for COUNT rays; its part that is worked out once becomes a job."""
        values, parameters = self.traced(term, outputs)
        once = Once(self.printer)
        formula = Formula(values, once)
        at, size = self.once, len(once.kept)
        if term.slotted:
            load = self._slot_numbers(parameters)
            most = self.geometry.slots[self.slotted]
            count = _count(self.slotted, most)
            self.stage_slots += [
                f"LG_EACH(slot, {count}) {{",
                *indented([f"const lg_memory<float> own = once + ({at} + {size} * slot);", *load, *once.store("own")]),
                "}",
            ]
            self.slotted, self.once = self.slotted + 1, at + size * most
            place = f"once + ({at} + {size} * slot)"
        else:
            load = [
                f"const float in_p{k} = lg_number(in.scalar[{self.scalars + k}], image);"
                for k in range(len(parameters))
            ]
            self.scalars += len(parameters)
            place = f"once + {self._keep(load, once)}"
        body = _over_rays(x, y, write)
        lines = [*self._array_lines(term), f"const lg_memory<float> own = {place};", *formula.lines("own", body)]
        self.arrays += len(term.arrays)
        head = f"LG_ROLLED for (int slot = 0; slot < {count}; slot++) {{" if term.slotted else "{"
        return [head, *indented(lines), "}"]

    def _slot_numbers(self, parameters: list[Node]) -> list[str]:
        """Lines that read the parameters of a slot."""
        first, self.slots = self.slots, self.slots + len(parameters)
        return [f"const float in_p{k} = lg_number(in.slot[{first + k}], image, slot);" for k in range(len(parameters))]

    def shine(self) -> str:
        """The function that turns deflections of slots into light, for a few rays."""
        lines: list[str] = []
        for term in self.program.mass:
            if not term.slotted:
                lines += self._term(term, 2, "x[p]", "y[p]", _deflected)
        scale = ""
        if self.program.scaled:
            self._job([f"once[{self.once}] = lg_number(in.scalar[{self.scalars}], image);"])
            lines.append(f"const float scale = once[{self.once}];")
            self.scalars, self.once, scale = self.scalars + 1, self.once + 1, "scale * "
        for term, (x, y) in [
            *((t, (f"x[p] - {scale}ax[p]", f"y[p] - {scale}ay[p]")) for t in self.program.source),
            *((t, ("x[p]", "y[p]")) for t in self.program.lens_light),
        ]:
            lines += self._term(term, 1, x, y, _lit)
        return function(
            "template <int COUNT>\nLG_FUNCTION void lg_shine_at(const float* x, const float* y, float* ax, float* ay, "
            "float* light, lg_memory<float> once, const lg_inputs& in, int image)",
            lines,
        )

    def slot_struct(self, term: Term, which: int, most: int) -> tuple[str, block_layout.Slots]:
        """The struct of one term with slots, and how much memory each slot takes."""
        values, parameters = self.traced(term, 2)
        radial = circular(*values) if term.smooth else None
        tabulated = radial is not None and self.program.tabulated and costly(radial)
        far = radial is not None and term.many
        once = Once(self.printer)
        formula = Formula(values, once)
        add = [
            *self._array_lines(term),
            *formula.lines("own", _over_rays("x[p]", "y[p]", _deflected)),
        ]  # fmt: skip
        if radial is None or not (tabulated or far):
            radial_functions = {"center_x": ["return 0.0f;"], "center_y": ["return 0.0f;"], "M": ["return 0.0f;"]}
        else:
            once.keep(radial.center_x)
            once.keep(radial.center_y)
            of_z = Formula((radial.M,), once)
            radial_functions = {
                name: [*once.load([node], "own"), f"return {self.printer.name(node)};"]
                for name, node in (("center_x", radial.center_x), ("center_y", radial.center_y))
            }
            radial_functions["M"] = [
                "const float in_z = z;",
                *of_z.lines("own", lambda lines, names: [*lines, f"return {names[0]};"]),
            ]
        slots = block_layout.Slots(len(once.kept), most, tabulated, far)
        load = self._slot_numbers(parameters)
        self.slotted += 1
        self.arrays += len(term.arrays)
        methods = [
            function("static LG_MEMBER int count(const lg_inputs& in, int image)", [f"return {_count(which, most)};"]),
            function("static LG_MEMBER void stage(const lg_inputs& in, int image, int slot, lg_memory<float> own)",
                      [*load, *once.store("own")]),
            *(function(f"static LG_MEMBER float {name}(lg_memory<float> own)", radial_functions[name])
              for name in ("center_x", "center_y")),
            function("static LG_MEMBER float M(float z, lg_memory<float> own)", radial_functions["M"]),
            function("template <int COUNT> static LG_MEMBER void add(const float* x, const float* y, float* ax, "
                      "float* ay, lg_memory<float> own, const lg_inputs& in)", add),
        ]  # fmt: skip
        text = "\n".join(
            [
                f"struct lg_slots{which} {{",
                f"    enum {{ once = {slots.once}, batch = LG_BATCH{which}, tabulated = {int(slots.tabulated)}, "
                f"far = {int(far)} }};",
                *methods,
                "};",
                "",
            ]
        )
        return text, slots

    def written(self) -> ImageBlock:
        geometry = self.geometry
        slotted = [t for t in self.program.mass if t.slotted]
        structs = [self.slot_struct(t, k, geometry.slots[k]) for k, t in enumerate(slotted)]
        shine_text = self.shine()
        noise_lines = noise_text(self.program.noise, self.printer, self._keep)
        layout = block_layout.layout(self.program, geometry, self.once, [slots for _, slots in structs])
        kinds, struct_text = inputs(self.program, geometry, self.scalars, self.slots, self.arrays)
        jobs = sum(line.startswith("case") for line in self.stage)
        stage = function(
            "LG_FUNCTION void lg_stage(const lg_inputs& in, int image, lg_memory<float> once)",
            [
                f"LG_EACH(job, {32 * jobs}) {{  // one thread of a warp each",
                "    if (job % 32 != 0) continue;",
                "    switch (job / 32) {",
                *indented(indented(self.stage)),
                "    }",
                "}",
                *self.stage_slots,
            ],
        )
        calls = [
            f"lg_add_slots<lg_slots{k}>(in, image, first_tile, tiles, sub, batch, sum_x, sum_y, node_x, node_y);"
            for k in range(len(structs))
        ]
        add_all = function(
            "LG_FUNCTION void lg_add_all_slots(const lg_inputs& in, int image, int first_tile, int tiles, int sub, "
            "lg_memory<float> batch, lg_memory<float> sum_x, lg_memory<float> sum_y, lg_memory<float> node_x, "
            "lg_memory<float> node_y)",
            calls,
        )
        defined = constants(self.program, geometry, self.rays) | layout.constants()
        text = "\n".join(
            [
                f"#define LG_THREADS {layout.threads}",
                PRELUDE,
                _text("block.h"),
                _text("philox.h"),
                *(f"#define {name} {value}" for name, value in defined.items()),
                TABLES,
                struct_text,
                *dict.fromkeys(self.texts),
                _text("lenses.h"),
                *(text for text, _ in structs),
                _wrong_count(geometry),
                add_all,
                stage,
                shine_text,
                noise_lines,
                _text("optics.h"),
                optics_text(self.program, geometry),
                _text("image.cu"),
            ]
        )
        return ImageBlock(text, kinds, layout)


Write: TypeAlias = Callable[[list[str]], list[str]]  # names of values -> the lines that add them


def _deflected(values: list[str]) -> list[str]:
    return [f"ax[p] += {values[0]};", f"ay[p] += {values[1]};"]


def _lit(values: list[str]) -> list[str]:
    return [f"light[p] += {values[0]};"]


def _over_rays(x: str, y: str, write: Write) -> Body:
    """(Lines of a ray, names of its values) -> a loop over COUNT rays."""

    def body(lines: list[str], names: list[str]) -> list[str]:
        inside = [f"const float in_x = {x}, in_y = {y};", *lines, *write(names)]
        return ["LG_UNROLL for (int p = 0; p < COUNT; p++) {", *indented(inside), "}"]

    return body


def _wrong_count(geometry: Geometry) -> str:
    wrong = [
        f"lg_count(in.count[{k}], image) < 0 || lg_count(in.count[{k}], image) > {most}"
        for k, most in enumerate(geometry.slots)
    ]
    return function(
        "LG_FUNCTION bool lg_wrong_count(const lg_inputs& in, int image)", [f"return {' || '.join(wrong) or 'false'};"]
    )


def _count(which: int, most: int) -> str:
    """How many slots an image uses; never more than there is room for."""
    return f"(int)max(0LL, min(lg_count(in.count[{which}], image), {most}LL))"


@lru_cache(maxsize=256)
def image_block(program: ImageProgram, geometry: Geometry, rays: int = _RAYS_AT_ONCE) -> ImageBlock:
    """The renderer of a program.

    Args:
        program: without the mean over a pixel's rays, which is the geometry's `sub`.
        geometry: sizes, compiled in.
        rays: that a thread works on at once, 1, 2 or 4.

    Raises:
        TranslationError: for a formula that cannot be translated.
    """
    return _Block(program, geometry, rays).written()
