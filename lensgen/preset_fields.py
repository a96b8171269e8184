"""The pieces of a preset, read and checked one by one: every error names the field by its dotted path."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lensgen.conventions import ellipticity, polar_shear
from lensgen.errors import ParameterError, PresetError, require_number, require_whole, unknown_name
from lensgen.mass.epl import series_terms
from lensgen.parameters import MAX_ELLIPTICITY, Parameter
from lensgen.priors import Prior, prior_from
from lensgen.profile import Profile
from lensgen.substructure import Population, population


@dataclass(frozen=True)
class Alternative:
    """Fields in which a preset may state a profile's parameters instead of the parameters themselves."""

    fields: tuple[Parameter, ...]
    parameters: tuple[str, ...]


ALTERNATIVES = {
    ellipticity: Alternative(
        (
            Parameter("q", "1", 1.0 / 9.0, 1.0, "axis ratio, minor over major"),
            Parameter("phi", "rad", -7.0, 7.0, "direction of the major axis from +x"),
        ),
        ("e1", "e2"),
    ),
    polar_shear: Alternative(
        (
            Parameter("gamma_ext", "1", 0.0, 1.0, "strength of the external shear"),
            Parameter("psi_ext", "rad", -7.0, 7.0, "direction of the external shear"),
        ),
        ("gamma1", "gamma2"),
    ),
}
MAGNITUDE = Parameter("magnitude", "mag", 0.0, 60.0, "total apparent magnitude, unlensed")


@dataclass(frozen=True)
class ProfilePriors:
    """A profile and, for each of its parameters or their alternatives, a prior."""

    profile: Profile
    priors: Mapping[str, Prior]
    max_ellipticity: float | None = None

    def statics(self, double: bool) -> dict[str, int]:
        """The profile's whole numbers: the series length of an EPL, from the declared range of ellipticity."""
        return {} if self.max_ellipticity is None else {"terms": series_terms(self.max_ellipticity, double)}


def section(config: Any, name: str, required: tuple[str, ...], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """The mapping `config`, with no field missing and none unknown."""
    where = f"field of {name}" if name else "field of the preset"
    if not isinstance(config, Mapping):
        raise PresetError(f"{name or 'the preset'} = {config!r} must hold the fields {', '.join(required)}.")
    for field in config:
        if field not in required + optional:
            raise unknown_name(where, str(field), required + optional)
    for field in required:
        if field not in config:
            raise PresetError(f"{name + '.' if name else ''}{field} is missing: a preset states every choice it makes.")
    return dict(config)


def choice(value: Any, name: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise unknown_name(name, str(value), allowed)
    return str(value)


def prior_within(value: Any, field: str, parameter: Parameter) -> Prior:
    prior = prior_from(value, field)
    low, high = prior.bounds()
    if not (parameter.low <= low and high <= parameter.high):
        raise ParameterError(
            f"{field} = {value!r} can take values from {low:g} to {high:g}; {parameter.meaning}. "
            f"Allowed: {parameter.range_text}. Fix: narrow the distribution."
        )
    return prior


def profile_priors_from(config: Any, name: str, profile_of: Any) -> ProfilePriors:
    if not isinstance(config, Mapping) or "profile" not in config:
        raise PresetError(f"{name} = {config!r} must name its profile, e.g. {{profile: sie, theta_E: 1.2}}.")
    profile: Profile = profile_of(config["profile"])
    own = {p.name: p for p in profile.parameters}
    known = dict(own)
    for alternative in ALTERNATIVES.values():
        if set(alternative.parameters) <= set(own):
            known |= {p.name: p for p in alternative.fields}
    if "amp" in own:
        known["magnitude"] = MAGNITUDE
    extra = ("max_ellipticity",) if profile.statics else ()
    values = section(config, name, ("profile", *extra), tuple(known))
    priors = {f: prior_within(v, f"{name}.{f}", known[f]) for f, v in values.items() if f not in ("profile", *extra)}

    stated = set(priors)
    for alternative in [*ALTERNATIVES.values(), Alternative((MAGNITUDE,), ("amp",))]:
        instead = {p.name for p in alternative.fields}
        if stated & instead:
            if stated & set(alternative.parameters) or not instead <= stated:
                raise PresetError(
                    f"{name}: state either {sorted(instead)} or {list(alternative.parameters)}, not parts of both."
                )
            stated = stated - instead | set(alternative.parameters)
    for p in profile.parameters:
        if p.name not in stated:
            if p.default is None:
                raise PresetError(f"{name}.{p.name} is missing ({p.meaning}, {p.range_text}).")
            priors[p.name] = prior_from(p.default, f"{name}.{p.name}")
    declared = values.get("max_ellipticity")
    if extra or "e1" in own:
        _check_ellipticity(name, declared if extra else MAX_ELLIPTICITY, priors)
    return ProfilePriors(profile, priors, declared)


def _check_ellipticity(name: str, declared: Any, priors: Mapping[str, Prior]) -> None:
    require_number(f"{name}.max_ellipticity", declared, 1e-3, MAX_ELLIPTICITY)
    if "q" in priors:
        q = priors["q"].bounds()[0]
        reach = (1.0 - q) / (1.0 + q)
    else:
        reach = sum(max(map(abs, priors[e].bounds())) ** 2 for e in ("e1", "e2")) ** 0.5
    if reach > declared:
        raise ParameterError(
            f"{name}: ellipticities up to {reach:.3g} can be drawn, above the largest allowed, {declared:g}. Fix: "
            f"narrow q (or e1, e2), or declare more as max_ellipticity where the profile has it (<= {MAX_ELLIPTICITY})."
        )


def population_from(config: Any, name: str) -> Population:
    if not isinstance(config, Mapping) or "population" not in config:
        raise PresetError(f"{name} = {config!r} must name its population, e.g. {{population: no_sub}}.")
    cls = population(config["population"])
    options = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    required = tuple(n for n, f in options.items() if f.default is dataclasses.MISSING)
    values = section(config, name, ("population", *required), tuple(options))
    arguments: dict[str, Any] = {}
    for field, value in values.items():
        if field == "population":
            continue
        allowed = cls.ranges[field]
        if options[field].type == "Prior":
            arguments[field] = prior_within(value, f"{name}.{field}", allowed)
        else:
            require = require_whole if options[field].type == "int" else require_number
            require(f"{name}.{field}", value, allowed.low, allowed.high)
            arguments[field] = value
    made = cls(**arguments)
    made.capacity  # noqa: B018 raises if the counts are impossible
    return made
