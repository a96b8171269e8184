"""Formulas printed as C, compiled by a C++ compiler, against torch: what a GPU will run, tested without one.

Gates in float64: the printed text is the same formula, so what differs is the last place of the library functions and
what the formula makes of it: 1e-13 of the value for deflections and for brightness above 1e-6 of amp, and of the
largest value for potentials and convergences, which may pass through 0. The convergence of a truncated halo cancels; it
is measured in units of that at its scale radius. Gates in float32, against torch's float64 on the same rounded numbers:
those of PHYSICS.md section 9.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lensgen import exact
from lensgen.light import LIGHT_PROFILES
from lensgen.mass import MASS_PROFILES
from lensgen.noise import NOISE_RECIPES, poisson_quantile
from lensgen.profile import Profile
from lensgen_kernels.c_source import PRELUDE, CPrinter, formula_source, functions_source
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.fast_math import LOWERING
from lensgen_kernels.graph import Function, Graph
from lensgen_kernels.node import ARRAY, INT, UNIFORM, VARYING, Node
from lensgen_kernels.primitives import Stack
from lensgen_kernels.translate import traced
from tests.exact_bits import BITS
from tests.kernels.compiled import REALS, Library
from tests.mass import cases

PROFILES: dict[str, Profile] = {**MASS_PROFILES, **LIGHT_PROFILES}
FORMULAS = [(name, what) for name, profile in PROFILES.items() for what in profile.formulas]
RENDERED = ("deflection", "surface_brightness")
KINDS = {"double": "double", "float": "float", "lowered": "float"}  # and the type of each

F32_GATES: dict = {
    "epl": 2e-5,  # |e| <= 0.8
    "nfw": 1e-4,
    "tnfw": 1e-4,
    "sersic": 5e-5,
    ("vortex", "potential"): 1e-4,  # these two have no gate there, and cancel far from the rod
    ("vortex", "convergence"): 1e-4,
}


def graph_of(kind: str) -> Graph:
    return Graph(lowering=LOWERING if kind == "lowered" else None)


def trace(name: str, what: str, kind: str) -> tuple[list[Node], tuple[Node, ...]]:
    """Inputs and outputs of a profile's formula."""
    profile, graph = PROFILES[name], graph_of(kind)
    inputs = [graph.input(n, VARYING) for n in ("x", "y")]
    inputs += [graph.input(p.name, UNIFORM) for p in profile.parameters]
    stacks = [Stack(graph, name, tuple(images.shape)) for name, images in cases.arrays(profile).items()]
    statics = cases.statics(profile, REALS[KINDS[kind]])
    given = [*inputs, *stacks, *statics.values()]
    outputs = traced(graph, profile.formulas[what], given, 2 if what == "deflection" else 1)
    return [*inputs, *(stack.array for stack in stacks)], outputs


NOISE_INPUTS = ("clean", "exposure", "sky", "total_read_noise", "read_variance", "shot", "read")


def noisy(recipe, clean, exposure, sky, total_read_noise, read_variance, shot, read):
    detector = SimpleNamespace(sky=sky, total_read_noise=total_read_noise, read_variance=read_variance)
    return recipe.apply(clean, exposure, detector, {"shot": shot, "read": read}.__getitem__)


def trace_noise(name: str, kind: str) -> tuple[list[Node], tuple[Node, ...]]:
    graph = graph_of(kind)
    once = ("exposure", "sky", "total_read_noise", "read_variance")
    inputs = [graph.input(n, UNIFORM if n in once else VARYING) for n in NOISE_INPUTS]
    return inputs, traced(graph, lambda *a: noisy(NOISE_RECIPES[name], *a), inputs, 1)


def log_spaced(low: float, high: float) -> Callable[[Tensor], Tensor]:
    return lambda u: torch.exp(math.log(low) + (math.log(high) - math.log(low)) * u)


def evenly(low: float, high: float) -> Callable[[Tensor], Tensor]:
    return lambda u: low + (high - low) * u


# lensgen.exact's functions: how uniforms become each argument
EXACT: dict[str, tuple[Callable[[Tensor], Tensor], ...]] = {
    "log": (log_spaced(1e-310, 1e300),),
    "log1p": (lambda u: log_spaced(1e-18, 1e10)(u) - log_spaced(1e-15, 0.99)(1.0 - u),),
    "exp": (evenly(-710.0, 710.0),),
    "sqrt": (lambda u: log_spaced(1e-290, 1e290)(u) - 1e-280,),
    "sin": (evenly(-10.0, 10.0),),
    "cos": (evenly(-10.0, 10.0),),
    "sin_cos_turns": (evenly(-3.0, 3.0),),
    "atan": (lambda u: log_spaced(1e-10, 1e10)(u) * torch.where(u.frac() * 1e6 % 2.0 < 1.0, -1.0, 1.0),),
    "atan2": (evenly(-2.0, 2.0), lambda u: evenly(-2.0, 2.0)(u).round(decimals=1)),
    "power": (log_spaced(1e-5, 1e5), evenly(-4.0, 4.0)),
    "gamma": (evenly(0.5, 20.0),),
    "normal_quantile": (evenly(0.0, 1.0),),
    "normal_cdf": (evenly(-40.0, 40.0),),
}


def trace_exact(name: str) -> tuple[list[Node], tuple[Node, ...]]:
    graph = Graph(exact=True)
    inputs = [graph.input(f"a{k}", VARYING) for k in range(len(EXACT[name]))]
    return inputs, traced(graph, getattr(exact, name), inputs)


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Library:
    made = Library(tmp_path_factory.mktemp("formulas"))
    for kind, real in KINDS.items():
        for name, what in FORMULAS:
            made.add(f"{name}_{what}_{kind}", *trace(name, what, kind), real)
        for name in NOISE_RECIPES:
            made.add(f"{name}_{kind}", *trace_noise(name, kind), real)
        mean_and_u = [node := graph_of(kind).input("mean", VARYING), node.graph.input("u", VARYING)]
        made.add(f"poisson_{kind}", mean_and_u, traced(node.graph, poisson_quantile, mean_and_u, 1), real)
    for name in EXACT:
        made.add(f"exact_{name}", *trace_exact(name), "double")
    return made.build()


def stacked(result) -> Tensor:
    return torch.stack(result) if isinstance(result, tuple) else result[None]


def called(library: Library, name: str, what: str, kind: str, inputs: list[Tensor]) -> Tensor:
    """`[components, points]` of a profile's formula."""
    arrays = list(cases.arrays(PROFILES[name]).values())
    return library.call(f"{name}_{what}_{kind}", *inputs, arrays=arrays)


def worst(name: str, what: str, values: Tensor, inputs: list[Tensor]) -> Tensor:
    """The largest error of `[components, points]` against torch in float64; where 0 is right, any error is infinite."""
    profile, inputs = PROFILES[name], [v.double() for v in inputs]
    formula, statics = profile.formulas[what], cases.statics(profile, torch.float64)
    stacks = cases.stacks(profile)
    reference = stacked(formula(*inputs, *stacks, **statics))
    error, size = (values.double() - reference).norm(dim=0), reference.norm(dim=0)
    if stacks:  # of the brightest pixel: what lies between pixels falls to 0
        amp, scale = inputs[2:4]
        size = amp / (scale * scale) * stacks[0].images.max()
    elif what == "surface_brightness":  # where it is seen at all
        amp = inputs[2]
        error = torch.where(size > 1e-6 * amp, error, 0.0)
    elif (name, what) == ("tnfw", "convergence"):  # in units of that at the scale radius
        Rs, *rest, center_x, center_y = inputs[2:]
        size = formula(center_x + Rs, center_y, Rs, *rest, center_x, center_y, **statics)
    elif what != "deflection":
        size = size.max()
    return torch.where(error == 0.0, 0.0, error / size).max()


@pytest.mark.parametrize(("name", "what"), FORMULAS)
@given(data=st.data())
def test_formulas_in_double(library, gate, name, what, data):
    profile = PROFILES[name]
    drawn = data.draw(cases.parameters(profile))
    inputs = [*cases.clear_of_singularities(drawn, *cases.scattered(40)), *cases.tensors(profile, drawn)]
    error = worst(name, what, called(library, name, what, "double", inputs), inputs)
    gate(f"C of {name}.{what}, double", error, 1e-13)


@pytest.mark.parametrize("kind", ["float", "lowered"])
@pytest.mark.parametrize(("name", "what"), FORMULAS)
@given(data=st.data())
def test_formulas_in_float(library, gate, name, what, kind, data):
    profile = PROFILES[name]
    drawn = data.draw(cases.parameters(profile))
    drawn |= {n: 0.0 for n in ("ra_0", "dec_0") if n in drawn}
    # what section 9 measured: no formula keeps five digits of float32 at every end of its parameters
    for parameter, low, high in (("n_sersic", 0.5, 5.0), ("tau", 0.3, 300.0)):
        if parameter in drawn:
            drawn[parameter] = min(max(drawn[parameter], low), high)
    points = cases.clear_of_singularities(drawn, *cases.scattered(40))
    inputs = [v.float() for v in (*points, *cases.tensors(profile, drawn))]
    values = called(library, name, what, kind, inputs)
    assert values.isfinite().all()
    allowed = F32_GATES.get((name, what), F32_GATES.get(name, 1e-5))
    gate(f"C of {name}.{what}, {kind}", worst(name, what, values, inputs), allowed)


@pytest.mark.parametrize("arguments", EXACT.items(), ids=EXACT)
def test_exact_functions_have_torchs_bits(library, arguments):
    name, maps = arguments
    generator = torch.Generator().manual_seed(1)
    inputs = [f(torch.rand(20_000, generator=generator, dtype=torch.float64)) for f in maps]
    recorded = BITS.get(name, {})
    if recorded:
        inputs[0] = torch.cat([inputs[0], torch.tensor([float.fromhex(a) for a in recorded], dtype=torch.float64)])
    expected = stacked(getattr(exact, name)(*inputs))
    values = library.call(f"exact_{name}", *inputs)
    different = (values.view(torch.int64) != expected.view(torch.int64)).any(0)
    assert not different.any(), [(i[different][0].item().hex(),) for i in inputs]
    assert [v.item().hex() for v in values[0, 20_000:]] == list(recorded.values())


def pixels(dtype: torch.dtype) -> list[Tensor]:
    """Means from less than one electron to a saturated pixel, uniforms as lensgen.rng gives them."""
    generator = torch.Generator().manual_seed(2)
    count = 20_000
    exposure = torch.tensor(1750.0, dtype=torch.float64)
    clean = log_spaced(1e-5, 50.0)(torch.rand(count, generator=generator, dtype=torch.float64)) - 0.01
    shot, read = ((torch.randint(2**23, (count,), generator=generator) + 0.5) * 2.0**-23 for _ in range(2))
    detector = (torch.tensor(v, dtype=torch.float64) for v in (0.012, 4.0, 16.0))
    return [v.to(dtype) for v in (clean, exposure, *detector, shot, read)]


@pytest.mark.parametrize("name", NOISE_RECIPES)
def test_noise_recipes(library, gate, name):
    """In double everywhere. In float a count jumps where rounding moves it over an edge: by one, and seldom."""
    recipe = NOISE_RECIPES[name]
    inputs = pixels(torch.float64)
    reference = noisy(recipe, *inputs)
    scale = reference.abs() + inputs[0].abs().mean()
    gate(
        f"C of noise {name}, double",
        ((library.call(f"{name}_double", *inputs)[0] - reference).abs() / scale).max(),
        1e-12,
    )
    inputs = pixels(torch.float32)
    reference = noisy(recipe, *(v.double() for v in inputs))
    count = 1.0 if name == "deeplense_i" else 1.0 / 1750.0  # in the unit of the image
    for kind in ("float", "lowered"):
        error = (library.call(f"{name}_{kind}", *inputs)[0] - reference).abs()
        rounding = 1e-5 * (reference.abs() + 1e3 * count)
        gate(f"C of noise {name}, {kind}: largest", ((error - rounding) / count).max(), 1.0)
        gate(f"C of noise {name}, {kind}: share that jumps", (error > rounding).double().mean(), 0.01)


def test_poisson_quantile(library, gate):
    generator = torch.Generator().manual_seed(3)
    mean = log_spaced(1e-3, 1e5)(torch.rand(20_000, generator=generator, dtype=torch.float64))
    u = (torch.randint(2**23, (20_000,), generator=generator) + 0.5) * 2.0**-23
    reference = poisson_quantile(mean.float().double(), u.double())
    assert torch.equal(library.call("poisson_double", mean.float().double(), u.double())[0], reference)
    for kind in ("float", "lowered"):
        counts = library.call(f"poisson_{kind}", mean.float(), u.float())[0]
        assert (counts == counts.floor()).all() and (counts >= 0.0).all()
        gate(f"C of poisson_quantile, {kind}: largest", (counts - reference).abs().max(), 1.0)
        gate(f"C of poisson_quantile, {kind}: share that jumps", (counts != reference).double().mean(), 0.01)


_NUMBER = re.compile(r"(?<![\w.])\d[\w.]*(?:(?<=e)[+-]\d+\w*)?")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "what"), FORMULAS)
def test_literals_carry_their_type(name, what, kind):
    """Every number is a real of the formula's type, but for those of bit operations, which divide nothing."""
    suffix = "f" if kind != "double" else ""
    real = re.compile(rf"\d+(\.\d+)?(e[+-]?\d+)?{suffix}")
    for line in formula_source("f", *trace(name, what, kind), KINDS[kind]).splitlines():
        for number in _NUMBER.findall(line):
            if real.fullmatch(number) and ("." in number or "e" in number):
                continue
            assert number.isdigit() and (kind == "lowered" or "[" in line), line
            whole = r"const int v|in_\w+\[|lg_shl|lg_from_bits|const bool v\d+ = v\d+ == \d"
            assert re.search(whole, line) and "/" not in line, line


def test_names_collide_with_nothing(tmp_path):
    """Inputs that are called like C's words, helpers and values; a number that has a sign."""
    graph = Graph()
    inputs = [graph.input(name, VARYING) for name in ("float", "sqrtf", "v3", "lg_bits", "in")]
    outputs = traced(graph, lambda a, b, c, d, e: (a - (-1.5), (-b).neg() * c, torch.sqrt(d) / -e), inputs)
    library = Library(tmp_path)
    library.add("names", inputs, outputs, "float")
    values = library.build().call("names", *torch.tensor([1.0, 2.0, 3.0, 16.0, 8.0]))
    assert values.tolist() == [2.5, 6.0, -0.5]


def test_called_functions_are_printed_once_and_in_order(tmp_path):
    """A function that calls another, and gives two values."""
    graph = Graph()

    def function(name, formula, arguments):
        inner = Graph()
        inner.functions = graph.functions
        inputs = [inner.input(f"a{k}", VARYING) for k in range(arguments)]
        made = Function(name, inner, inputs, list(traced(inner, formula, inputs)))
        graph.functions[formula] = made
        return lambda *a: tuple(a[0].graph.node("call", name, k, *a) for k in range(len(made.outputs)))

    double = function("double", lambda a: 2.0 * a, 1)
    sum_difference = function("both", lambda a, b: (double(a)[0] + b, a - double(b)[0]), 2)
    inputs = [graph.input(n, VARYING) for n in "xy"]
    outputs = traced(graph, lambda x, y: (sum_difference(x, y)[0] * sum_difference(x, y)[1], double(y)[0]), inputs)
    text = functions_source(outputs, "float")
    assert text.count(" lg_double(float") == text.count(" lg_both(float") == 1
    assert text.index("lg_double(float") < text.index("lg_both(float")
    library = Library(tmp_path)
    library.add("calls", inputs, outputs, "float")
    assert library.build().call("calls", *torch.tensor([5.0, 3.0])).tolist() == [-13.0, 6.0]


def test_what_cannot_be_printed_is_refused():
    graph = Graph(exact=True)
    x = graph.input("x", VARYING)
    whole = graph.node("to_int", x, kind=INT)
    refused = {
        "table": graph.lift(torch.tensor([1.0, 2.0])),
        "bucketize": torch.bucketize(x, torch.tensor([1.0, 2.0])),
        "uniform": graph.node("uniform", "n", 0, 2, rate=UNIFORM),
        "1e+300": graph.constant(1e300),
        "4294967296": graph.constant(1 << 32, INT),
        "'mul'": graph.node("mul", whole, whole, kind=INT),
    }
    for word, node in refused.items():
        printer = CPrinter("float")
        with pytest.raises(TranslationError, match=re.escape(word)) as error:
            (printer.literal if node.op == "const" else printer.line)(node)
        assert "Fix: " in str(error.value)
    with pytest.raises(TranslationError, match="'two words'"):
        formula_source("f", [graph.input("two words", VARYING)], [x], "float")


def test_nvrtc_compiles_the_same_text():
    """NVIDIA's compiler needs no GPU: every formula, in float and in double, for an H100."""
    nvrtc = pytest.importorskip("cuda.bindings.nvrtc", reason="NVRTC comes with CUDA builds of torch")
    texts = [PRELUDE]
    for name, what in FORMULAS:
        if what in RENDERED:
            for kind, real in KINDS.items():
                inputs, outputs = trace(name, what, kind)
                texts.append(formula_source(f"{name}_{kind}", inputs, outputs, real))
                # a kernel that uses it: what nothing calls is dropped before it is looked at
                arguments = ", ".join("in" if n.kind == ARRAY else f"in[{k}]" for k, n in enumerate(inputs))
                value = f"lg_{name}_{kind}({arguments})" + (".v1" if len(outputs) > 1 else "")
                texts.append(
                    f'extern "C" __global__ void k_{name}_{kind}(const {real}* in, {real}* out) {{ *out = {value}; }}'
                )
    inputs, outputs = trace_exact("normal_quantile")
    texts += [functions_source(outputs, "double"), formula_source("quantile", inputs, outputs, "double")]
    texts.append('extern "C" __global__ void k_quantile(double* io) { *io = lg_quantile(*io); }')
    inputs, outputs = trace_noise("ccd", "float")
    texts.append(formula_source("ccd", inputs, outputs, "float"))
    _, program = nvrtc.nvrtcCreateProgram("\n".join(texts).encode(), b"formulas.cu", 0, [], [])
    (result,) = nvrtc.nvrtcCompileProgram(program, 2, [b"-arch=sm_90", b"-fmad=false"])
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    log = b" " * size
    nvrtc.nvrtcGetProgramLog(program, log)
    assert result == nvrtc.nvrtcResult.NVRTC_SUCCESS, log.decode()[:3000]
