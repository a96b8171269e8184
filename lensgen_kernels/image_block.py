"""Source of a renderer for a block of GPU threads, specialised to one kind of scene: what stands before `image.cu`.

Formulas are printed in two parts: what a system (or a slot) has once, worked out by one thread and kept in shared
memory, and what each ray needs. A condition that holds for a whole system or slot is a branch that all threads take
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from lensgen_kernels import block_layout, far_field, fast_math, tables
from lensgen_kernels.block_layout import Geometry, Layout
from lensgen_kernels.body import uniform_conditions
from lensgen_kernels.c_source import PRELUDE, CPrinter, functions_source
from lensgen_kernels.filters import Filter
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import ARRAY, BOOL, INT, REAL, UNIFORM, VARYING, Node
from lensgen_kernels.primitives import Stack
from lensgen_kernels.program import ImageProgram, NoiseTerm, Term
from lensgen_kernels.translate import needed, substituted, traced

_HERE = Path(__file__).parent
SKELETON = _HERE / "image.cu"
_MOST_CASES = 4  # variants of a formula for conditions that hold for a whole system; further ones choose ray by ray
_RAYS_AT_ONCE = 4
_UNROLLED_TAPS = 40
_TABLE_TOLERANCE = 5e-5


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


class _QuickPrinter(CPrinter):
    """Divides by the special function unit."""

    def expression(self, node: Node) -> str:
        if node.op == "div" and node.kind == REAL:
            over, under = node.operands
            return f"lg_quotient({self.name(over)}, {self.name(under)})"
        return super().expression(node)


def _unit(op: str) -> Callable[[Node], Node]:
    """A primitive by a GPU's special function unit."""
    return lambda x: x.graph.node(op, x)


# An exponential is good to a few units in the last place. A logarithm near 0 is not, which lenses cannot do with (their
# large terms cancel); for light and noise an absolute error of 2e-7 is as good.
_LENS = {**fast_math.LOWERING, "exp": _unit("quick_exp")}
_LIGHT = {**_LENS, "log": _unit("quick_log")}


class _Once:
    """Numbers that are worked out once and read by many: where in memory each stands."""

    def __init__(self, printer: CPrinter) -> None:
        self.printer = printer
        self.kept: list[Node] = []

    def keep(self, node: Node) -> None:
        if node.rate <= UNIFORM and node.op != "const" and node.kind != ARRAY and self.place(node) is None:
            self.kept.append(node)

    def place(self, node: Node) -> int | None:
        return next((k for k, kept in enumerate(self.kept) if kept is node), None)

    def store(self, place: str) -> list[str]:
        """Lines that work out all that is kept and store it."""
        lines = self.printer.lines([n for n in needed(self.kept) if n.kind != ARRAY] if self.kept else [])
        return lines + [f"{place}[{k}] = {_packed(n, self.printer)};" for k, n in enumerate(self.kept)]

    def load(self, nodes: Sequence[Node], place: str) -> list[str]:
        """Lines that read those of the kept numbers that `nodes` are made of."""
        wanted = {a.number for n in nodes for a in n.operands} | {n.number for n in nodes}
        return [
            f"const {self.printer.type(n)} {self.printer.name(n)} = {_unpacked(n, f'{place}[{k}]')};"
            for k, n in enumerate(self.kept)
            if n.number in wanted
        ]


def _packed(node: Node, printer: CPrinter) -> str:
    value = printer.name(node)
    if node.kind == BOOL:
        return f"{value} ? 1.0f : 0.0f"
    return f"lg_from_bits({value})" if node.kind == INT else value


def _unpacked(node: Node, place: str) -> str:
    if node.kind == BOOL:
        return f"(float){place} != 0.0f"
    return f"lg_bits((float){place})" if node.kind == INT else place


class _Formula:
    """One formula of rays: its values, its cases and what it needs once.

    Args:
        values: what it returns for a ray at (x, y).
        once: that takes what the formula needs.
    """

    def __init__(self, values: tuple[Node, ...], once: _Once) -> None:
        self.once = once
        self.cases = _cases(values, 1)
        for condition in self._conditions(self.cases):
            once.keep(condition)
        for leaf in self._leaves(self.cases):
            for node in needed(leaf):
                if node.rate == VARYING:
                    for operand in node.operands:
                        once.keep(operand)
            for value in leaf:
                once.keep(value)

    def _conditions(self, cases) -> list[Node]:
        if isinstance(cases, tuple):
            return []
        return [cases.condition, *self._conditions(cases.holds), *self._conditions(cases.fails)]

    def _leaves(self, cases) -> list[tuple[Node, ...]]:
        return [cases] if isinstance(cases, tuple) else self._leaves(cases.holds) + self._leaves(cases.fails)

    def lines(self, place: str, body: Callable[[list[str], list[str]], list[str]]) -> list[str]:
        """`body(lines of a ray, names of the values)` for each case, between its conditions."""
        return self._written(self.cases, place, body)

    def _written(self, cases, place, body) -> list[str]:
        printer = self.once.printer
        if isinstance(cases, tuple):
            nodes = [n for n in needed(cases) if n.rate == VARYING]
            load = self.once.load([*nodes, *cases], place)
            return [*load, *body(printer.lines(nodes), [printer.name(v) for v in cases])]
        k = self.once.place(cases.condition)
        return [
            f"if ((float){place}[{k}] != 0.0f) {{",
            *_indented(self._written(cases.holds, place, body)),
            "} else {",
            *_indented(self._written(cases.fails, place, body)),
            "}",
        ]


def _cases(values: tuple[Node, ...], cases: int):
    conditions = uniform_conditions(values)
    if not conditions or cases >= _MOST_CASES:
        return values
    condition = conditions[0]
    holds, fails = (_cases(substituted(values, condition, known), 2 * cases) for known in (True, False))
    return SimpleNamespace(condition=condition, holds=holds, fails=fails)


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" for line in lines]


def _function(head: str, lines: Sequence[str]) -> str:
    return "\n".join([f"{head} {{", *_indented(lines), "}", ""])


class _Block:
    """Writes what stands before `image.cu`."""

    def __init__(self, program: ImageProgram, geometry: Geometry, rays: int) -> None:
        self.program, self.geometry, self.rays = program, geometry, rays
        self.printer = _QuickPrinter("float")
        self.texts: list[str] = []  # of functions that formulas call
        self.scalars = self.slots = self.slotted = self.arrays = 0
        self.stage: list[str] = []  # jobs of single threads: what is worked out once an image
        self.stage_slots: list[str] = []  # of lights: a thread a slot
        self.once = 0  # floats

    def traced(self, term: Term, outputs: int) -> tuple[tuple[Node, ...], list[Node]]:
        graph = Graph(lowering=_LENS if outputs == 2 else _LIGHT)
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

    def _job(self, lines: list[str]) -> None:
        self.stage += [f"case {sum(line.startswith('case') for line in self.stage)}: {{", *_indented(lines), "} break;"]

    def _term(self, term: Term, outputs: int, x: str, y: str, write: Callable[[list[str]], list[str]]) -> list[str]:
        """Lines that work out a term for COUNT rays; its part that is worked out once becomes a job."""
        values, parameters = self.traced(term, outputs)
        once = _Once(self.printer)
        formula = _Formula(values, once)
        at, size = self.once, len(once.kept)
        if term.slotted:
            load = self._slot_numbers(parameters)
            most = self.geometry.slots[self.slotted]
            count = _count(self.slotted, most)
            self.stage_slots += [
                f"LG_EACH(slot, {count}) {{",
                *_indented([f"const lg_memory<float> own = once + ({at} + {size} * slot);", *load, *once.store("own")]),
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
            place = f"once + {at}"
            self._job([f"const lg_memory<float> own = {place};", *load, *once.store("own")])
            self.once = at + size

        def body(lines: list[str], names: list[str]) -> list[str]:
            return [
                "LG_UNROLL for (int p = 0; p < COUNT; p++) {",
                *_indented([f"const float in_x = {x}, in_y = {y};", *lines, *write(names)]),
                "}",
            ]

        lines = [*self._array_lines(term), f"const lg_memory<float> own = {place};", *formula.lines("own", body)]
        self.arrays += len(term.arrays)
        head = f"LG_ROLLED for (int slot = 0; slot < {count}; slot++) {{" if term.slotted else "{"
        return [head, *_indented(lines), "}"]

    def _slot_numbers(self, parameters: list[Node]) -> list[str]:
        """Lines that read the parameters of a slot."""
        first, self.slots = self.slots, self.slots + len(parameters)
        return [f"const float in_p{k} = lg_number(in.slot[{first + k}], image, slot);" for k in range(len(parameters))]

    def shine(self) -> str:
        """The function that turns deflections of slots into light, for a few rays."""
        lines: list[str] = []
        for term in self.program.mass:
            if not term.slotted:
                write = lambda v: [f"ax[p] += {v[0]};", f"ay[p] += {v[1]};"]  # noqa: E731
                lines += self._term(term, 2, "x[p]", "y[p]", write)
        scale = ""
        if self.program.scaled:
            self._job([f"once[{self.once}] = lg_number(in.scalar[{self.scalars}], image);"])
            lines.append(f"const float scale = once[{self.once}];")
            self.scalars, self.once, scale = self.scalars + 1, self.once + 1, "scale * "
        for term, (x, y) in [
            *((t, (f"x[p] - {scale}ax[p]", f"y[p] - {scale}ay[p]")) for t in self.program.source),
            *((t, ("x[p]", "y[p]")) for t in self.program.lens_light),
        ]:
            lines += self._term(term, 1, x, y, lambda v: [f"light[p] += {v[0]};"])
        return _function(
            "template <int COUNT>\nLG_FUNCTION void lg_shine_at(const float* x, const float* y, float* ax, float* ay, "
            "float* light, lg_memory<float> once, const lg_inputs& in, int image)",
            lines,
        )

    def slot_struct(self, term: Term, which: int, most: int) -> tuple[str, block_layout.Slots]:
        """The struct of one term with slots, and how much memory each slot takes."""
        values, parameters = self.traced(term, 2)
        radial = tables.radial(*values) if term.smooth and self.program.tabulated else None
        once = _Once(self.printer)
        formula = _Formula(values, once)
        methods: list[str] = []
        add = [
            *self._array_lines(term),
            *formula.lines("own", lambda lines, names: [
                "LG_UNROLL for (int p = 0; p < COUNT; p++) {",
                *_indented(["const float in_x = x[p], in_y = y[p];", *lines, f"ax[p] += {names[0]};",
                            f"ay[p] += {names[1]};"]),
                "}",
            ]),
        ]  # fmt: skip
        far = radial is not None and term.many
        if radial is None:
            radial_functions = {"center_x": ["return 0.0f;"], "center_y": ["return 0.0f;"], "M": ["return 0.0f;"]}
        else:
            once.keep(radial.center_x)
            once.keep(radial.center_y)
            of_z = _Formula((radial.M,), once)
            radial_functions = {
                name: [*once.load([node], "own"), f"return {self.printer.name(node)};"]
                for name, node in (("center_x", radial.center_x), ("center_y", radial.center_y))
            }
            radial_functions["M"] = [
                "const float in_z = z;",
                *of_z.lines("own", lambda lines, names: [*lines, f"return {names[0]};"]),
            ]
        slots = block_layout.Slots(len(once.kept), most, radial is not None, far)
        load = self._slot_numbers(parameters)
        self.slotted += 1
        self.arrays += len(term.arrays)
        methods += [
            _function("static LG_MEMBER int count(const lg_inputs& in, int image)", [f"return {_count(which, most)};"]),
            _function("static LG_MEMBER void stage(const lg_inputs& in, int image, int slot, lg_memory<float> own)",
                      [*load, *once.store("own")]),
            *(_function(f"static LG_MEMBER float {name}(lg_memory<float> own)", radial_functions[name])
              for name in ("center_x", "center_y")),
            _function("static LG_MEMBER float M(float z, lg_memory<float> own)", radial_functions["M"]),
            _function("template <int COUNT> static LG_MEMBER void add(const float* x, const float* y, float* ax, "
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

    def noise(self, noise: NoiseTerm | None) -> str:
        """`lg_uniforms`, the random numbers of four pixels, and `lg_noise`, what the detector makes of one."""
        if noise is None:
            return "struct lg_uniforms { LG_MEMBER lg_uniforms(const lg_inputs&, long long, int) {} };\n" + _function(
                "LG_FUNCTION float lg_noise(float clean, int, const lg_uniforms&, lg_memory<float>)",
                ["return clean;"],
            )
        usual, condition = _noise_values(noise, rare=False)
        all_cases, _ = _noise_values(noise, rare=True)
        once, rare_once = _Once(self.printer), _Once(self.printer)
        usual_formula = _Formula((*usual, *([] if condition is None else [condition])), once)
        rare_formula = _Formula(all_cases, rare_once)
        wanted = {n.args[0] for values in (usual, all_cases) for n in needed(values) if n.op == "input"}
        used = [(k, name) for k, name in enumerate(noise.uniforms) if name in wanted]
        load = ["const float in_exposure = lg_number(in.exposure, image);"]
        load += [f"const float in_detector_{name} = in.detector[{k}];" for k, name in enumerate(noise.detector)]
        places = []
        for o in (once, rare_once):
            self._job([f"const lg_memory<float> own = once + {self.once};", *load, *o.store("own")])
            places.append(self.once)
            self.once += len(o.kept)
        given = [f"const float in_{name} = u.{name}[k];" for _, name in used]
        uniforms = _function(
            "struct lg_uniforms",
            [
                *(f"float {name}[4];" for _, name in used),
                "LG_MEMBER lg_uniforms(const lg_inputs& in, int image, int block) {",
                *_indented(
                    [f"lg_four_uniforms({name}, block, in.name[{k}], in.index[image], in.key0, in.key1);"
                     for k, name in used]
                ),
                "}",
            ],
        ).rstrip() + ";\n"  # fmt: skip
        rare = _function(
            "LG_FUNCTION float lg_rare_noise(float clean, int k, const lg_uniforms& u, lg_memory<float> once)",
            [
                f"const lg_memory<float> own = once + {places[1]};",
                "const float in_clean = clean;",
                *given,
                *rare_formula.lines("own", lambda lines, names: [*lines, f"return {names[0]};"]),
            ],
        )
        last = [] if condition is None else ["if ({}) return lg_rare_noise(clean, k, u, once);"]
        common = _function(
            "LG_FUNCTION float lg_noise(float clean, int k, const lg_uniforms& u, lg_memory<float> once)",
            [
                f"const lg_memory<float> own = once + {places[0]};",
                "const float in_clean = clean;",
                *given,
                *usual_formula.lines(
                    "own",
                    lambda lines, names: [*lines, *(s.format(names[-1]) for s in last), f"return {names[0]};"],
                ),
            ],
        )
        return uniforms + (rare if condition is not None else "") + common

    def optics(self) -> str:
        lines, height, width, source, other = [], self.geometry.height, self.geometry.width, "light", "spare"
        dense = separable = 0
        for filter in self.program.filters:
            if isinstance(filter, Filter):
                zero = "true" if filter.edge == "zero" else "false"
                lines.append(
                    f"lg_separable<{height}, {width}, {filter.stride}, {filter.taps}, {filter.before}, {zero}>"
                    f"({source}, {other}, {source}, in.weights{separable});"
                )
                separable += 1
            else:
                size = self.geometry.kernels[dense]
                lines.append(
                    f"lg_dense<{height}, {width}, {filter.stride}, {size}>({source}, {other}, in.kernel[{dense}] + "
                    f"in.choice.at[image * in.choice.step] * {kernel_floats(size, filter.stride)});"
                )
                dense, source, other = dense + 1, other, source
            height, width = height // filter.stride, width // filter.stride
        return _function(
            "LG_FUNCTION lg_memory<float> lg_optics(const lg_inputs& in, int image, lg_memory<float> light, "
            "lg_memory<float> spare)",
            [*lines, f"return {source};"],
        )

    def written(self) -> ImageBlock:
        geometry = self.geometry
        slotted = [t for t in self.program.mass if t.slotted]
        structs = [self.slot_struct(t, k, geometry.slots[k]) for k, t in enumerate(slotted)]
        shine_text = self.shine()
        noise_text = self.noise(self.program.noise)
        optics_text = self.optics()
        layout = block_layout.layout(self.program, geometry, self.once, [slots for _, slots in structs])
        inputs, struct_text = _inputs(self)
        jobs = sum(line.startswith("case") for line in self.stage)
        stage = _function(
            "LG_FUNCTION void lg_stage(const lg_inputs& in, int image, lg_memory<float> once)",
            [
                f"LG_EACH(job, {32 * jobs}) {{  // one thread of a warp each",
                "    if (job % 32 != 0) continue;",
                "    switch (job / 32) {",
                *_indented(_indented(self.stage)),
                "    }",
                "}",
                *self.stage_slots,
            ],
        )
        calls = [
            f"lg_add_slots<lg_slots{k}>(in, image, first_tile, tiles, sub, batch, sum_x, sum_y, node_x, node_y);"
            for k in range(len(structs))
        ]
        add_all = _function(
            "LG_FUNCTION void lg_add_all_slots(const lg_inputs& in, int image, int first_tile, int tiles, int sub, "
            "lg_memory<float> batch, lg_memory<float> sum_x, lg_memory<float> sum_y, lg_memory<float> node_x, "
            "lg_memory<float> node_y)",
            calls,
        )
        skeleton = SKELETON.read_text()
        mark = "// ---- light ---"
        before, after = skeleton.split(mark, 1)
        text = "\n".join(
            [
                f"#define LG_THREADS {layout.threads}",
                PRELUDE,
                (_HERE / "block.h").read_text(),
                (_HERE / "philox.h").read_text(),
                *(f"#define {name} {value}" for name, value in {**_constants(self), **layout.constants()}.items()),
                _TABLES,
                struct_text,
                *dict.fromkeys(self.texts),
                before,
                *(text for text, _ in structs),
                add_all,
                stage,
                shine_text,
                noise_text,
                mark + after.replace("LG_KERNEL(", optics_text + "\nLG_KERNEL(", 1),
            ]
        )
        return ImageBlock(text, inputs, layout)


def _count(which: int, most: int) -> str:
    """How many slots an image uses; never more than there is room for."""
    return f"(int)min(in.count[{which}].at[image * in.count[{which}].step], {most}LL)"


def _noise_values(noise: NoiseTerm, rare: bool) -> tuple[tuple[Node, ...], Node | None]:
    """The noisy pixel, and whether some rare case holds that was left out of it."""
    graph = Graph(lowering=_LIGHT)
    graph.rare = rare
    detector = SimpleNamespace(**{n: graph.input(f"detector_{n}", UNIFORM) for n in noise.detector})
    clean, exposure = graph.input("clean", VARYING), graph.input("exposure", UNIFORM)
    values = traced(graph, noise.formula, [clean, exposure, detector, lambda name: graph.input(name, VARYING)], 1)
    condition: Node | None = None
    for rare_case in dict.fromkeys(graph.rare_cases):
        condition = rare_case if condition is None else condition | rare_case
    return values, condition


def kernel_floats(size: int, stride: int) -> int:
    """Numbers of one kernel as `lg_dense` takes it."""
    return size * stride * (-(-size // stride) + 6)


def dense_weights(kernels: np.ndarray, stride: int) -> np.ndarray:
    """Kernels `[n, k, k]` as `lg_dense` takes them: float32 `[n, columns k, stride, rows between three zeros]`."""
    n, k, _ = kernels.shape
    rows = -(-k // stride)
    padded = np.zeros((n, rows * stride, k))
    padded[:, :k] = kernels
    columns = padded.reshape(n, rows, stride, k).transpose(0, 3, 2, 1)
    return np.ascontiguousarray(np.pad(columns, ((0, 0), (0, 0), (0, 0), (3, 3))), np.float32)


def _constants(block: _Block) -> dict[str, object]:
    program, geometry = block.program, block.geometry
    stride = math.prod(f.stride for f in program.filters)
    taps = max((f.taps for f in program.filters if isinstance(f, Filter)), default=0)
    return {
        "LG_P": block.rays,
        "LG_HEIGHT": geometry.height,
        "LG_WIDTH": geometry.width,
        "LG_SUB": geometry.sub,
        "LG_PIXELS": (geometry.height // stride) * (geometry.width // stride),
        "LG_TAPS": "LG_UNROLL" if taps <= _UNROLLED_TAPS else "LG_ROLLED",
        "LG_SEGMENTS": block_layout.SEGMENTS,
        "LG_SHIFT": 23 - int(math.log2(block_layout.SEGMENTS_AN_OCTAVE)),
        "LG_HALF_SEGMENT": f"{0.5 / block_layout.SEGMENTS_AN_OCTAVE}f",
        "LG_TABLE_TOLERANCE": f"{_TABLE_TOLERANCE}f",
        "LG_HALF_TILE": f"{far_field.HALF}f",
        "LG_NEAREST": f"{far_field.NEAREST}f",
        "LG_SPREAD": f"{far_field.SPREAD}f",
        "LG_EPSILON": f"{far_field.EPSILON}f",
    }


def _inputs(block: _Block) -> tuple[np.dtype, str]:
    """The kernel's argument, for NumPy and for C."""
    pointer, column = np.uint64, np.dtype([("at", np.uint64), ("step", np.int64)])
    fields: list[tuple[str, str, object, int]] = [
        ("float*", "out", pointer, 1),
        ("float*", "workspace", pointer, 1),
        ("bool*", "bad", pointer, 1),
        ("const long long*", "index", pointer, 1),
        ("const float*", "x_axis", pointer, 1),
        ("const float*", "y_axis", pointer, 1),
        ("long long", "images", np.int64, 1),
        ("lg_column", "exposure", column, 1),
        ("lg_whole_column", "choice", column, 1),
        ("lg_column", "scalar", column, block.scalars),
        ("lg_column", "slot", column, block.slots),
        ("lg_whole_column", "count", column, len(block.geometry.slots)),
        ("const float*", "array", pointer, block.arrays),
        ("const float*", "kernel", pointer, len(block.geometry.kernels)),
        ("float", "area", np.float32, 1),
        ("float", "spacing", np.float32, 1),
        ("unsigned int", "key0", np.uint32, 1),
        ("unsigned int", "key1", np.uint32, 1),
        ("unsigned int", "name", np.uint32, len(block.program.noise.uniforms) if block.program.noise else 1),
        ("float", "detector", np.float32, len(block.program.noise.detector) if block.program.noise else 1),
    ]
    separable = [f for f in block.program.filters if isinstance(f, Filter)]
    fields += [("float", f"weights{k}", np.float32, f.taps) for k, f in enumerate(separable)]
    single = {"name", "detector", "scalar", "slot", "count", "array", "kernel"}
    lines, members = [], []
    for kind, name, dtype, count in fields:
        several = name in single or name.startswith("weights")
        lines.append(f"    {kind} {name}{f'[{max(count, 1)}]' if several else ''};")
        members.append((name, dtype, (max(count, 1),)) if several else (name, dtype))
    text = "\n".join([_COLUMNS, "struct lg_inputs {", *lines, "};", _READS])
    return np.dtype(members, align=True), text


_COLUMNS = """\
struct lg_column { const float* at; long long step; };
struct lg_whole_column { const long long* at; long long step; };"""
_READS = """\
LG_FUNCTION float lg_number(const lg_column& c, int image, int slot = 0) {
    return c.at[lg_opaque(image) * c.step + slot];
}
"""


def _c_array(name: str, values: Sequence[float]) -> str:
    numbers = ", ".join(f"{np.float32(v)!s}f" for v in values)
    return f"LG_CONSTANT float {name}[{len(values)}] = {{{numbers}}};"


def _table_nodes() -> list[float]:
    """For each node of a segment: its place from the segment's start, and its part in each coefficient of powers of
    (mantissa - middle)."""
    half = 0.5 / block_layout.SEGMENTS_AN_OCTAVE
    nodes = [half * math.cos(math.pi * (k + 0.5) / 4) for k in range(4)]
    parts = np.linalg.inv(np.vander(nodes, 4, increasing=True))
    return [v for k, node in enumerate(nodes) for v in (node + half, *parts[:, k])]


_TABLES = "\n".join(
    [
        _c_array("lg_nodes", _table_nodes()),
        _c_array("lg_node_places", far_field.PLACES),
        _c_array("lg_interpolation", far_field.WEIGHTS.flatten().tolist()),
    ]
)


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
