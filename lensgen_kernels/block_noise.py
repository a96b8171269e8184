"""The noise of an image that a block of threads renders, as CUDA C."""

from __future__ import annotations

from collections.abc import Callable

from lensgen_kernels.block_formula import LIGHT, Formula, Once, function, indented
from lensgen_kernels.c_source import CPrinter
from lensgen_kernels.graph import Graph
from lensgen_kernels.node import Node
from lensgen_kernels.program import NoiseTerm
from lensgen_kernels.translate import needed, traced_noise


def _values(noise: NoiseTerm, rare: bool) -> tuple[tuple[Node, ...], Node | None]:
    graph = Graph(lowering=LIGHT)
    graph.rare = rare
    return traced_noise(graph, noise)


def noise_text(noise: NoiseTerm | None, printer: CPrinter, keep: Callable[[list[str], Once], int]) -> str:
    """`lg_uniforms`, the random numbers of four pixels, and `lg_noise`, what the detector makes of one.

    Args:
        keep: (lines that read what an image's noise depends on, what is worked out once an image) -> where it is kept.
    """
    if noise is None:
        return "struct lg_uniforms { LG_MEMBER lg_uniforms(const lg_inputs&, long long, int) {} };\n" + function(
            "LG_FUNCTION float lg_noise(float clean, int, const lg_uniforms&, lg_memory<float>)",
            ["return clean;"],
        )
    usual, condition = _values(noise, rare=False)
    all_cases, _ = _values(noise, rare=True)
    once, rare_once = Once(printer), Once(printer)
    usual_formula = Formula((*usual, *([] if condition is None else [condition])), once)
    rare_formula = Formula(all_cases, rare_once)
    wanted = {n.args[0] for values in (usual, all_cases) for n in needed(values) if n.op == "input"}
    used = [(k, name) for k, name in enumerate(noise.uniforms) if name in wanted]
    load = ["const float in_exposure = lg_number(in.exposure, image);"]
    load += [f"const float in_detector_{name} = in.detector[{k}];" for k, name in enumerate(noise.detector)]
    places = [keep(load, kept) for kept in (once, rare_once)]
    given = [f"const float in_{name} = u.{name}[k];" for _, name in used]
    uniforms = function(
        "struct lg_uniforms",
        [
            *(f"float {name}[4];" for _, name in used),
            "LG_MEMBER lg_uniforms(const lg_inputs& in, int image, int block) {",
            *indented(
                [f"lg_four_uniforms({name}, block, in.name[{k}], in.index[image], in.key0, in.key1);"
                 for k, name in used]
            ),
            "}",
        ],
    ).rstrip() + ";\n"  # fmt: skip
    rare = function(
        "LG_FUNCTION float lg_rare_noise(float clean, int k, const lg_uniforms& u, lg_memory<float> once)",
        [
            f"const lg_memory<float> own = once + {places[1]};",
            "const float in_clean = clean;",
            *given,
            *rare_formula.lines("own", lambda lines, names: [*lines, f"return {names[0]};"]),
        ],
    )
    last = [] if condition is None else ["if ({}) return lg_rare_noise(clean, k, u, once);"]
    common = function(
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
