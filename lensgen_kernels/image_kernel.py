"""Source of a renderer that is specialised to one kind of scene: formulas and optics in, a Python module out.

For each image: for chunks of rays, the deflections of all lenses are added up, the light is looked up where the rays
arrive; then the optics (averages and point-spread function) filter the rays to pixels, and the noise is added as the
image is written. What depends on the system alone is worked out before the rays, slot by slot where there are slots.
Where hundreds of slots have a far field, a chunk is 16 tiles of rays instead of rows, see `tiles`.
"""

from __future__ import annotations

from functools import partial

from lensgen_kernels import far_kernel, filters, tables
from lensgen_kernels.body import Body
from lensgen_kernels.correlate import CORRELATE
from lensgen_kernels.node import Node
from lensgen_kernels.program import DenseFilter, Filter, ImageProgram, NoiseTerm
from lensgen_kernels.translate import needed, traced_noise

CHUNK = 1024  # rays: what a chunk's loops read and write stays in the first-level cache
_OVER_RAYS = ("for base in range(0, rays, CHUNK):", "n = min(CHUNK, rays - base)")


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
    light, ray = ("glow", "p") if body.far else ("light", "base + p")
    with source.blocks(far_kernel.OVER_TILES if body.far else _OVER_RAYS):
        # many small deflections are added to one another before large ones: that loses less to rounding
        mass = sorted(program.mass, key=lambda term: not term.slotted)
        slotted = sum(term.slotted for term in mass)
        if slotted or not mass:
            with source.block(f"for p in range({'STRIDE' if body.far else 'n'}):"):
                source.line("put(ax, p, zero)")
                source.line("put(ay, p, zero)")
        for k, term in enumerate(mass):
            if body.far and k == slotted:
                far_kernel.interpolate(source)
            first = k == slotted == 0
            body.term(term, k, 2, image_plane, partial(_store, [("ax", "p", ""), ("ay", "p", "")], first))
        if body.far and slotted == len(mass):
            far_kernel.interpolate(source)
        if program.scaled:
            source.line(f"scale = scalars[b, {body.scalars}]")
            body.scalars += 1
        factor = "scale * " if program.scaled else ""
        source_plane = [f"x = get(px, base + p) - {factor}get(ax, p)", f"y = get(py, base + p) - {factor}get(ay, p)"]
        lights = [(t, source_plane) for t in program.source] + [(t, image_plane) for t in program.lens_light]
        if not lights or lights[0][0].slotted:
            with source.block("for p in range(n):"):
                source.line(f"put({light}, {ray}, zero)")
        for k, (term, rays) in enumerate(lights):
            first = k == 0 and not term.slotted
            body.term(term, len(mass) + k, 1, rays, partial(_store, [(light, ray, "area * ")], first))
        if body.far:
            source.line(f"lay_rows(light, {light}, tile, group, height, width)")


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
    graph = body.graph()
    graph.rare = rare
    return traced_noise(graph, noise)


def image_source(program: ImageProgram) -> str:
    """The text of a module with a function `render`; see `lensgen_kernels.cpu` for what it takes."""
    body = Body(program)
    source = body.source
    noise = program.noise
    slotted = len(body.slotted_terms)
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
        if body.far:
            far_kernel.lay_tiles(source)
        else:
            source.line("last_ray = rays - 1")
        source.line("x_last = px[last_ray]")
        source.line("y_last = py[last_ray]")
        margin = max((f.taps + f.before for f in program.filters if isinstance(f, Filter)), default=0)
        for name, size in (
            *((name, "STRIDE" if body.far else "CHUNK") for name in ("ax", "ay")),
            *((("glow", "CHUNK"),) if body.far else ()), ("light", "rays + LANES"), ("spare", "rays + LANES"),
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
            tables.allocate(source, which, which in body.far)
        closed = {which: radial for which, radial in body.far.items() if which not in body.tables}
        for which in closed:
            far_kernel.allocate(source, which)
        with source.block("for b in range(first, last):"):
            for which, radial in body.tables.items():
                tables.fill(body, which, radial)
            for which, radial in closed.items():
                far_kernel.fill(body, which, radial)
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
    "from lensgen_kernels.tiles import *",
    "",
    f"CHUNK = {CHUNK}",
    "zero = np.float32(0.0)",
    *(f"correlate{vectors} = CORRELATE[{vectors}]" for vectors in CORRELATE),
]
