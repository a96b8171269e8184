"""Formulas printed as C, compiled by a C++ compiler, against torch: what a GPU will run, tested without one.

Gates in float64. The printed text is the same formula, so what differs is the last place of the library functions,
and what the formula makes of it: 1e-13 where it does not cancel. Where it does (NFW and TNFW below x = 0.2, their
convergence, the rod's convergence far from it) two libraries differ as either differs from the truth, and the gates are
those of PHYSICS.md section 9 against 50 digits. In float32: section 9's float32 column, against float64 on the same rounded
numbers.
"""

from __future__ import annotations

import re
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lensgen import exact
from lensgen.light import LIGHT_PROFILES
from lensgen.mass import MASS_PROFILES
from lensgen.noise import NOISE_RECIPES, poisson_quantile
from lensgen.profile import Profile
from lensgen_kernels.c_source import CPrinter, formula_source
from lensgen_kernels.errors import TranslationError
from lensgen_kernels.fast_math import LOWERING
from lensgen_kernels.graph import INT, UNIFORM, VARYING, Graph, Node
from lensgen_kernels.translate import traced
from tests.exact_bits import BITS
from tests.kernels.compiled import REALS, Library, needs_compiler
from tests.mass import cases

PROFILES: dict[str, Profile] = {**MASS_PROFILES, **LIGHT_PROFILES}
FORMULAS = [(name, what) for name, profile in PROFILES.items() for what in profile.formulas]
KINDS = {"double": "double", "float": "float", "lowered": "float"}  # and the type of each


def graph_of(kind: str) -> Graph:
    return Graph(lowering=LOWERING if kind == "lowered" else None)


def trace(name: str, what: str, kind: str) -> tuple[list[Node], tuple[Node, ...]]:
    profile, graph = PROFILES[name], graph_of(kind)
    inputs = [graph.input(n, VARYING) for n in ("x", "y")]
    inputs += [graph.input(p.name, UNIFORM) for p in profile.parameters]
    statics = cases.statics(profile, REALS[KINDS[kind]])
    return inputs, traced(graph, profile.formulas[what], [*inputs, *statics.values()], 2 if what == "deflection" else 1)


@pytest.fixture(scope="session")
def library(tmp_path_factory) -> Library:
    made = Library(tmp_path_factory.mktemp("formulas"))
    for name, what in FORMULAS:
        for kind, real in KINDS.items():
            made.add(f"{name}_{what}_{kind}", *trace(name, what, kind), real)
    return made.build()


def drawn_inputs(profile, data, count=40):
    drawn = data.draw(cases.parameters(profile))
    x, y = cases.clear_of_singularities(drawn, *cases.scattered(count))
    return x, y, cases.tensors(profile, drawn)

W = {}
@pytest.mark.parametrize(("name", "what"), FORMULAS)
@needs_compiler
def test_formulas(library, name, what):
    profile = PROFILES[name]
    @settings(max_examples=100)
    @given(data=st.data())
    def go(data):
        inputs = drawn_inputs(profile, data)
        x,y,v=inputs
        st64, st32 = cases.statics(profile, torch.float64), cases.statics(profile, torch.float32)
        def ev(fn, *a):
            r = fn(*a); return torch.stack(r) if isinstance(r, tuple) else r[None]
        f = profile.formulas[what]
        t = ev(f, x, y, *v, *st64.values())
        c = library.call(f"{name}_{what}_double", x, y, *v)
        def rec(tag, a, b):
            d = (a.double()-b).norm(dim=0); s=b.norm(dim=0)
            r = torch.where(d==0,0.0,d/s).max().item()
            r2 = torch.where(d==0,0.0,d/s.max()).max().item()
            k=(name,what,tag)
            W[k]=tuple(map(max,W.get(k,(0,0)),(r if r==r else 9e9,r2 if r2==r2 else 9e9)))
        rec("double", c, t)
        s = [q.float() for q in (x,y,*v)]
        d = [q.double() for q in s]
        t = ev(f, *d, *st64.values())
        rec("torch32", ev(f, *s, *st32.values()), t)
        rec("float", library.call(f"{name}_{what}_float", *s), t)
        rec("lowered", library.call(f"{name}_{what}_lowered", *s), t)
    go()
    for k in ("double","torch32","float","lowered"): print(name,what,k,"%.1e %.1e"%W[name,what,k])
