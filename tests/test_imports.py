"""Imports run one way. The sources are read, not run: what is written must obey, whatever a test happens to call."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# A module of lensgen may import from its own layer and from those above it in this list, never from one below.
LAYERS = (
    {
        "checks", "conventions", "fmath", "parameters", "errors", "rng", "files", "exact", "profile", "cosmology",
        "notice", "device", "twins",
    },
    {"priors", "mass", "light", "scene"},
    {"raytrace", "psf", "noise", "batch", "substructure", "instruments", "observation"},
    {"preset_text", "preset_fields", "preset_optics", "compensation", "torch_engine", "fused", "cpu_engine",
     "cuda_engine"},
    {"preset"},
    {"draw", "render"},
    {"fused_draw"},
    {"detectability"},
    {"truth"},
    {"simulator"},
    {"ahead", "recorded", "stream", "benchmark", "datacard"},
    {"pictures"},
    {"write", "plot", "__main__"},
)  # fmt: skip
LAYER_OF = {module: i for i, layer in enumerate(LAYERS) for module in layer}
PICTURES = {"show", "_repr_png_"}  # methods that may import plot when they are called
# the modules that may import lensgen_kernels; loaded when first used
ENGINE_MODULES = ("render", "recorded", "fused", "cpu_engine", "cuda_engine", "fused_draw")
HEAVY = ("matplotlib", "lenstronomy", "scipy", "lightning", "lensgen_kernels")


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {dotted(path) for package in ("lensgen", "lensgen_kernels", "trainers") for path in sources(package)}


def imports(path: Path) -> Iterator[tuple[str, set[str]]]:
    """(module imported, names of the functions that the import is inside of); type-checking imports count too."""

    def visit(node: ast.AST, inside: set[str]) -> Iterator[tuple[str, set[str]]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name, inside) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: write imports in full, not relative"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                yield (full if full in MODULES else str(node.module)), inside
        elif isinstance(node, ast.FunctionDef):
            inside = inside | {node.name}
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    yield from visit(ast.parse(path.read_text()), set())


def module_of(name: str) -> str:
    """lensgen.mass.sie -> mass"""
    return name.split(".")[1]


LENSGEN = [path for path in sources("lensgen") if dotted(path) != "lensgen"]


@pytest.mark.parametrize("path", LENSGEN, ids=dotted)
def test_imports_of_lensgen_run_one_way(path):
    own = module_of(dotted(path))
    assert own in LAYER_OF, (
        f"lensgen.{own} is in no layer: add it to LAYERS in {Path(__file__).name}, as high as its imports let it"
    )
    for name, inside in imports(path):
        package = name.split(".")[0]
        assert package != "trainers", f"{dotted(path)} imports {name}: lensgen knows nothing of its trainers"
        if package == "lensgen_kernels":
            assert own in ENGINE_MODULES, f"{dotted(path)} imports {name}: only {ENGINE_MODULES} may"
        if package != "lensgen":
            continue
        assert name != "lensgen", f"{dotted(path)} imports the public face: import the module that it means"
        if module_of(name) == "plot" and inside & PICTURES:
            continue
        reached = LAYER_OF.get(module_of(name))
        assert reached is not None, f"lensgen.{module_of(name)} is in no layer"
        assert reached <= LAYER_OF[own], f"{dotted(path)} imports {name}, which is further down the line"


def test_modules_of_lensgen_import_in_no_circle():
    graph = {
        dotted(path): {name for name, inside in imports(path) if name.startswith("lensgen.") and not inside & PICTURES}
        for path in LENSGEN
    }
    while graph:
        free = {module for module, needs in graph.items() if not needs & (graph.keys() - {module})}
        assert free, f"these import each other in a circle: {sorted(graph)}"
        graph = {module: needs for module, needs in graph.items() if module not in free}


def test_layers_name_each_module_once():
    assert sum(map(len, LAYERS)) == len(LAYER_OF)


@pytest.mark.parametrize("path", sources("lensgen_kernels"), ids=dotted)
def test_kernels_know_nothing_of_the_others(path):
    for name, _ in imports(path):
        assert name.split(".")[0] not in ("lensgen", "trainers"), f"{dotted(path)} imports {name}"


def public_names() -> set[str]:
    tree = ast.parse((ROOT / "lensgen" / "__init__.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError("lensgen/__init__.py must state its public names in __all__")


def is_program(path: Path) -> bool:
    """A trainer is a module that can be run."""
    return '__name__ == "__main__"' in path.read_text()


@pytest.mark.parametrize("path", sources("trainers"), ids=dotted)
def test_trainers_use_public_names_and_not_each_other(path):
    programs = {dotted(p) for p in sources("trainers") if is_program(p)}
    for name, _ in imports(path):
        if name in programs - {dotted(path)}:
            assert dotted(path) == "trainers.reproduce", f"{dotted(path)} imports the trainer {name}"
        assert not name.startswith("lensgen_kernels"), f"{dotted(path)} imports {name}"
        if name.startswith("lensgen."):
            assert name == "lensgen.errors", f"{dotted(path)} imports {name}: use lensgen's public names"
    for node in ast.walk(ast.parse(path.read_text())):
        used = set()
        if isinstance(node, ast.ImportFrom) and node.module == "lensgen":
            used = {alias.name for alias in node.names}
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "lensgen":
            used = {node.attr}
        assert used <= public_names() | {"errors"}, f"{dotted(path)} uses {used}, not in lensgen.__all__"


def test_importing_lensgen_is_light():
    code = f"import sys, lensgen; print([m for m in {HEAVY!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]", f"import lensgen also imports {done.stdout}"
