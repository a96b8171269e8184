"""The pieces of a preset, read and checked one by one: every error names the field by its dotted path."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_type_hints

from lensgen.conventions import ellipticity, polar_shear
from lensgen.errors import ParameterError, PresetError, require_number, require_whole, unknown_name
from lensgen.light.cutouts import Cutouts, arrays_from
from lensgen.mass.epl import series_terms
from lensgen.parameters import MAX_ELLIPTICITY, Parameter
from lensgen.priors import Prior, Uniform, prior_from
from lensgen.profile import LightProfile, Profile
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
MAGNITUDE = Parameter("magnitude", "mag", 0.0, 60.0, "total apparent magnitude, unlensed, in the first band")
COLOUR = Parameter("colour", "mag", -20.0, 20.0, "magnitude in a band minus that in the first")
SIGMA_V = Parameter(
    "sigma_v", "km/s", 1.0, 2000.0, "velocity dispersion of the isothermal lens of that Einstein radius"
)
# what a single field may be stated instead of
INSTEAD = {"magnitude": "amp", "sigma_v": "theta_E"}


@dataclass(frozen=True)
class Reference(Prior):
    """The value of another field, e.g. `lens.q`; its bounds are that field's."""

    field: str
    low: float
    high: float
    name: ClassVar[str] = "reference"
    uniforms: ClassVar[int] = 0

    def __post_init__(self) -> None:
        """Nothing to check: what it refers to was."""

    def bounds(self) -> tuple[float, float]:
        return self.low, self.high


@dataclass(frozen=True)
class ProfilePriors:
    """A component of the scene: a profile and, for each of its parameters or their alternatives, a prior.

    Args:
        name: its place in the preset, e.g. "lens" or "source.disc".
        profile: which one.
        priors: by field.
        whole: the profile's statics that the preset states, e.g. `{"m": 4}`.
        max_ellipticity: declared, where the length of the profile's series follows from it.
        colour: of light, magnitude in a band minus that in the first, by band.
        arrays: of light, images to interpolate.
    """

    name: str
    profile: Profile
    priors: Mapping[str, Prior]
    whole: Mapping[str, int]
    max_ellipticity: float | None
    colour: Mapping[str, Prior]
    arrays: Mapping[str, Cutouts]

    def statics(self, double: bool) -> dict[str, int]:
        """The profile's whole numbers; the series length of an EPL follows from the declared range of ellipticity."""
        series = {} if self.max_ellipticity is None else {"terms": series_terms(self.max_ellipticity, double)}
        return {**self.whole, **series}

    def bounds(self) -> dict[str, tuple[float, float]]:
        """The range of every field that others may refer to, those that follow from alternatives included."""
        known = {field: prior.bounds() for field, prior in self.priors.items()}
        if "q" in known:
            q = known["q"][0]
            known |= dict.fromkeys(("e1", "e2"), (-(1.0 - q) / (1.0 + q), (1.0 - q) / (1.0 + q)))
        return known


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


def _reference(value: str, field: str, known: Mapping[str, tuple[float, float]]) -> Reference:
    if value not in known:
        raise unknown_name(f"field that {field} refers to", value, known)
    return Reference(value, *known[value])


def prior_within(
    value: Any, field: str, parameter: Parameter, known: Mapping[str, tuple[float, float]] | None = None
) -> Prior:
    """A prior that stays in the parameter's range; text with a point is a reference to one of the `known` fields."""
    if isinstance(value, str) and "." in value and known is not None and not value.replace(".", "").isdigit():
        prior: Prior = _reference(value, field, known)
    else:
        prior = prior_from(value, field)
    low, high = prior.bounds()
    if not (parameter.low <= low and high <= parameter.high):
        raise ParameterError(
            f"{field} = {value!r} can take values from {low:g} to {high:g}; {parameter.meaning}. "
            f"Allowed: {parameter.range_text}. Fix: narrow the distribution."
        )
    return prior


def profile_priors_from(
    config: Any,
    name: str,
    profile_of: Callable[[str], Profile],
    known: Mapping[str, tuple[float, float]] | None = None,
    bands: tuple[str, ...] = (),
) -> ProfilePriors:
    """A component as the preset states it. It may refer to `known` fields; light has a colour in `bands` after the
    first."""
    if not isinstance(config, Mapping) or "profile" not in config:
        raise PresetError(f"{name} = {config!r} must name its profile, e.g. {{profile: sie, theta_E: 1.2}}.")
    profile = profile_of(config["profile"])
    own = {p.name: p for p in profile.parameters}
    fields = dict(own)
    for alternative in ALTERNATIVES.values():
        if set(alternative.parameters) <= set(own):
            fields |= {p.name: p for p in alternative.fields}
    if isinstance(profile, LightProfile):
        fields["magnitude"] = MAGNITUDE
    elif name == "lens":
        fields["sigma_v"] = SIGMA_V
    whole = tuple(s for s in profile.statics if s != "terms")
    special = (*whole, *(("max_ellipticity",) if "terms" in profile.statics else ()), *profile.arrays)
    optional = ("colour",) if isinstance(profile, LightProfile) else ()
    values = section(config, name, ("profile", *special), (*fields, *optional))
    priors = {f: prior_within(values[f], f"{name}.{f}", p, known) for f, p in fields.items() if f in values}
    arrays = arrays_from(values, name, profile.arrays)
    for p in profile.parameters:
        if p.index_of:  # any of them, where the preset states nothing
            number = float(len(arrays[p.index_of]))
            priors.setdefault(p.name, Uniform(0.0, number))
            if not priors[p.name].bounds()[1] < number + (isinstance(priors[p.name], Uniform)):
                raise PresetError(f"{name}.{p.name} = {values[p.name]!r}, but there are {number:.0f} {p.index_of}.")

    stated = set(priors)
    instead = [*ALTERNATIVES.values(), *(Alternative((fields[f],), (p,)) for f, p in INSTEAD.items() if f in fields)]
    for alternative in instead:
        names = {p.name for p in alternative.fields}
        if stated & names:
            if stated & set(alternative.parameters) or not names <= stated:
                raise PresetError(
                    f"{name}: state either {sorted(names)} or {list(alternative.parameters)}, not parts of both."
                )
            stated = stated - names | set(alternative.parameters)
    for p in profile.parameters:
        if p.name not in stated and p.name not in priors:
            if p.default is None:
                raise PresetError(f"{name}.{p.name} is missing ({p.meaning}, {p.range_text}).")
            priors[p.name] = prior_from(p.default, f"{name}.{p.name}")
    for static in whole:
        require_whole(f"{name}.{static}", values[static], 1, 100)
    declared = values.get("max_ellipticity")
    if "terms" in profile.statics or "e1" in own:
        _check_ellipticity(name, declared if "terms" in profile.statics else MAX_ELLIPTICITY, priors)
    return ProfilePriors(
        name,
        profile,
        priors,
        {static: values[static] for static in whole},
        declared,
        _colour(values.get("colour"), name, priors, bands, known),
        arrays,
    )


def _colour(
    config: Any,
    name: str,
    priors: Mapping[str, Prior],
    bands: tuple[str, ...],
    known: Mapping[str, tuple[float, float]] | None,
) -> dict[str, Prior]:
    if "magnitude" not in priors:
        if config is not None:
            raise PresetError(f"{name}.colour needs {name}.magnitude: an amp is the same in all bands.")
        return {}
    stated = section({} if config is None else config, f"{name}.colour", bands[1:])
    return {band: prior_within(value, f"{name}.colour.{band}", COLOUR, known) for band, value in stated.items()}


def components_from(
    config: Any,
    name: str,
    profile_of: Callable[[str], Profile],
    known: dict[str, tuple[float, float]],
    bands: tuple[str, ...] = (),
) -> tuple[ProfilePriors, ...]:
    """None, one component, or several by name. The fields of each are `known` to those after it."""
    if config is None:
        return ()
    if (
        isinstance(config, Mapping)
        and config
        and "profile" not in config
        and all(isinstance(part, Mapping) for part in config.values())
    ):
        parts = {f"{name}.{key}": part for key, part in config.items()}
    else:
        parts = {name: config}
    made = []
    for place, part in parts.items():
        component = profile_priors_from(part, place, profile_of, known, bands)
        known |= {f"{place}.{field}": bounds for field, bounds in component.bounds().items()}
        made.append(component)
    return tuple(made)


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
    types = get_type_hints(cls)
    values = section(config, name, ("population", *required), tuple(options))
    arguments: dict[str, Any] = {}
    for field, value in values.items():
        if field == "population":
            continue
        if types[field] is Prior:
            arguments[field] = prior_within(value, f"{name}.{field}", cls.ranges[field])
            continue
        if types[field] is bool:
            if not isinstance(value, bool):
                raise PresetError(f"{name}.{field} = {value!r} must be true or false.")
        else:
            require = require_whole if types[field] is int else require_number
            require(f"{name}.{field}", value, cls.ranges[field].low, cls.ranges[field].high)
        arguments[field] = value
    made = cls(**arguments)
    made.capacity  # noqa: B018 raises if the counts are impossible
    return made
