"""A formula is written once: no profile's formula stands a second time, and kernels know none by name."""

from __future__ import annotations

import ast
import builtins
import re
from pathlib import Path

import pytest

from lensgen.light import LIGHT_PROFILES
from lensgen.mass import MASS_PROFILES
from lensgen.noise import NOISE_RECIPES
from tests.kernels.formula_text import Fragment, fragments, written_twice

ROOT = Path(__file__).parents[2]
PACKAGES = ("lensgen", "lensgen_kernels", "trainers", "profiles")
KERNELS = sorted((ROOT / "lensgen_kernels").rglob("*.py"))
SOURCES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]
FORMULAS = [
    f
    for d in ("mass", "light")
    for f in sorted((ROOT / "lensgen" / d).glob("*.py"))
    if f.stem != "__init__" and "\nPROFILE = " in f.read_text()
]

# operations; below, expressions are alike by chance, as a radius or a rotation is
LEAST = 8


def twice(formulas: list[Path], others: list[Path]) -> list[tuple[Fragment, Fragment]]:
    return written_twice(formulas, others, LEAST)


def described(pair: tuple[Fragment, Fragment]) -> str:
    return " and ".join(f"{f.file}:{f.line} ({f.function})" for f in pair)


def test_no_formula_is_written_twice():
    assert not (found := twice(FORMULAS, SOURCES)), "the same formula: " + "; ".join(map(described, found))


class Renamed(ast.NodeTransformer):
    """A copy by someone who hides it: other names, another library, no annotations, the same arithmetic."""

    def __init__(self, tree: ast.AST) -> None:
        self.functions = {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}

    def visit_FunctionDef(self, node):
        self.generic_visit(node)
        node.name, node.returns = f"my_{node.name}", None
        return node

    def visit_arg(self, node):
        return ast.arg(f"a_{node.arg}")

    def visit_Name(self, node):
        if node.id in ("fm", "math"):
            return ast.Name("np", node.ctx)
        if node.id in self.functions:
            return ast.Name(f"my_{node.id}", node.ctx)
        return node if node.id in dir(builtins) else ast.Name(f"a_{node.id}", node.ctx)


def copied(file: Path, target: Path) -> Path:
    tree = ast.parse(file.read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef)]
    target.write_text("import numpy as np\n\n" + ast.unparse(ast.fix_missing_locations(Renamed(tree).visit(tree))))
    return target


LARGE_ENOUGH = [
    f for f in FORMULAS if any(g.function in ("deflection", "surface_brightness") for g in fragments(f, LEAST))
]


def test_only_the_linear_sheet_is_too_small_to_be_told():
    assert {f.stem for f in FORMULAS} - {f.stem for f in LARGE_ENOUGH} <= {"convergence"}


@pytest.mark.parametrize("file", LARGE_ENOUGH, ids=lambda f: f.stem)
def test_a_copy_with_other_names_is_found(tmp_path, file):
    copy = copied(file, tmp_path / "kernel.py")
    found = twice(FORMULAS, [*SOURCES, copy])
    assert (file, copy) in {(a.file, b.file) for a, b in found}
    assert {b.file for _, b in found} == {copy}
    assert {a.function for a, _ in found} & {"deflection", "surface_brightness"}


def test_a_copy_in_other_steps_is_found(tmp_path):
    """A deflection in one line, or in more lines, or as a part of something larger, or inside a loop."""
    copy = tmp_path / "twin.py"
    copy.write_text(
        "import math\n"
        "def far(u, v, b, p, q):\n"
        "    total = 0.0\n"
        "    for b_, p_, q_ in zip(b, p, q):\n"
        "        s = u - p_\n"
        "        t = v - q_\n"
        "        square = s * s + t * t\n"
        "        k = b_ / math.sqrt(max(square, EDGE * EDGE))\n"
        "        total = total + abs(math.exp(k * s) - 3.0)\n"
        "    return total\n"
    )
    found = twice(FORMULAS, [copy])
    assert {(a.file.stem, b.function) for a, b in found} == {("sis", "far")}


def test_other_numbers_or_another_operation_are_another_formula(tmp_path):
    text = (ROOT / "lensgen" / "mass" / "point.py").read_text()
    changes = {
        "same": ("", ""),
        "sum": ("softening * softening", "softening + softening"),
        "number": ("_FLOOR)", "9.0)"),
    }
    changes["factor"] = ("theta_E * theta_E /", "3.0 * theta_E /")
    common = {}
    for name, (old, new) in changes.items():
        changed = tmp_path / f"{name}.py"
        changed.write_text(text.replace(old, new) if old else text)
        pairs = [a.operations for a, b in twice(FORMULAS, [changed]) if a.function == b.function == "deflection"]
        common[name] = max(pairs, default=0)
    assert common["same"] > common["factor"] > 0 == common["sum"] == common["number"]


# Names


def names_of_the_project() -> set[str]:
    """Profiles, noise recipes, populations: what a kernel must not know. "none" is a word of Python's."""
    populations = (ROOT / "lensgen" / "substructure").glob("*.py")
    return (
        {*MASS_PROFILES, *LIGHT_PROFILES, *NOISE_RECIPES, *(f.stem for f in populations)}
        | {p.lenstronomy.lower() for p in (*MASS_PROFILES.values(), *LIGHT_PROFILES.values()) if p.lenstronomy}
        | {type(recipe).__name__.lower() for recipe in NOISE_RECIPES.values()}
    ) - {"none", "nonoise", "population", "__init__"}


def words_in_code(text: str) -> set[str]:
    """Identifiers and strings, whole and by their parts, docstrings and comments left out."""
    tree = ast.parse(text)
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(getattr(n.body[0], "value", None)) for n in documented if ast.get_docstring(n)}
    words: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in docstrings:
            continue
        for _, value in ast.iter_fields(node):  # names and texts are the fields that are strings
            for word in re.findall(r"\w+", value) if isinstance(value, str) else ():
                words |= {word.lower(), *word.lower().split("_")}
    return words


@pytest.mark.parametrize("file", KERNELS, ids=lambda f: f.stem)
def test_kernels_know_no_profile_by_name(file):
    assert not (known := words_in_code(file.read_text()) & names_of_the_project()), f"{file} knows {known}"


def test_a_name_in_code_is_found_and_in_a_docstring_is_not():
    text = '"""Nothing of sis or epl."""\ndef f(x):\n    """nfw"""\n    # tnfw\n'
    assert not words_in_code(text + "    return x\n") & names_of_the_project()
    for code in (
        "    return sis(x)\n",
        "    return 'epl'\n",
        "    my_sersic = x\n",
        "    return x.Vortex\n",
        "    return f'{x}_nfw'\n",
    ):
        assert words_in_code(text + code) & names_of_the_project(), code


@pytest.mark.parametrize("file", KERNELS, ids=lambda f: f.stem)
def test_kernels_import_nothing_of_the_others(file):
    for node in ast.walk(ast.parse(file.read_text())):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        modules += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
        assert not {m.split(".")[0] for m in modules} & {"lensgen", "trainers", "profiles", "tests"}, (
            f"{file}:{modules}"
        )
        if isinstance(node, ast.Call):  # nor by another way
            assert ast.unparse(node.func) not in ("__import__", "importlib.import_module"), f"{file}:{node.lineno}"
