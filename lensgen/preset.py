"""Presets: a YAML file that states every choice a data set makes, read and checked.

`load_preset` reads one by name or path; `Preset.override` changes any field of it by its dotted name. A field that
does not exist, is missing or is out of range is an error that names it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lensgen.cosmology import Cosmology
from lensgen.errors import ParameterError, PresetError, require_number, unknown_name
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.noise import NoiseRecipe, noise_recipe
from lensgen.parameters import Parameter
from lensgen.preset_fields import (
    ProfilePriors,
    choice,
    components_from,
    population_from,
    prior_within,
    profile_priors_from,
    section,
)
from lensgen.preset_optics import Band, bands_from
from lensgen.preset_text import read_yaml
from lensgen.priors import Prior
from lensgen.substructure import Population

PRESETS = Path(__file__).parent / "presets"
MODES = ("honest", "paper")
IMAGES_VERSION = 2  # to be raised with every change that CHANGELOG.md lists under **Images**
COMPENSATIONS = ("none", "realised")
NORMALISATIONS = ("none", "peak")
HOSTS = ("sis", "sie", "epl")  # power laws: their theta_E follows from the mass that substructure takes


@dataclass(frozen=True)
class Preset:
    """A checked preset; see `presets/*.yaml` for what each field means. `config` is the file's content."""

    name: str
    description: str
    mode: str
    cosmology: Cosmology
    z_lens: Prior
    z_source: Prior
    z_convention: float | None
    bands: tuple[Band, ...]
    recipe: NoiseRecipe
    normalise: str
    lens: ProfilePriors
    shear: ProfilePriors | None
    deflectors: tuple[ProfilePriors, ...]
    source: tuple[ProfilePriors, ...]
    lens_light: tuple[ProfilePriors, ...]
    compensation: str
    classes: Mapping[str, Population]
    macro: Mapping[str, tuple[ProfilePriors, ...]]
    departures: tuple[str, ...]
    config: Mapping[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        observation = self.bands[0].observation
        return len(self.bands), observation.height, observation.width

    def exposure_name(self, band: int) -> str:
        """What a batch's params call the exposure time of a band."""
        return "noise.total_exposure" + (f".{self.bands[band].name}" if len(self.bands) > 1 else "")

    @property
    def components(self) -> tuple[ProfilePriors, ...]:
        """All that is not substructure."""
        shear = () if self.shear is None else (self.shear,)
        return (self.lens, *shear, *self.deflectors, *self.source, *self.lens_light)

    @property
    def fingerprint(self) -> str:
        """What the images depend on, with all defaults and constants filled in, in 16 hexadecimal digits."""

        def content(p: ProfilePriors) -> tuple[Any, ...]:
            return (
                p.name, p.profile.name, sorted(p.priors.items()), sorted(p.whole.items()), p.max_ellipticity,
                sorted(p.colour.items()), sorted(p.arrays.items()),
            )  # fmt: skip

        everything = (
            IMAGES_VERSION, self.cosmology, self.z_lens, self.z_source, self.z_convention, self.bands,
            self.recipe.name, self.normalise, [content(p) for p in self.components], self.compensation,
            list(self.classes.items()), [(k, [content(p) for p in v]) for k, v in self.macro.items()],
        )  # fmt: skip
        return hashlib.sha256(repr(everything).encode()).hexdigest()[:16]

    def override(self, changes: Mapping[str, Any]) -> Preset:
        """A preset with some fields changed, e.g. `{"substructure.cdm.count": 50, "grid.size": 96}`.

        A field may be one that the file leaves to a default (an instrument's read noise, a profile's centre).
        """
        config = copy.deepcopy(dict(self.config))
        for path, value in changes.items():
            if not isinstance(path, str):
                raise PresetError(f"{path!r} is no field of a preset: give its dotted name, e.g. 'grid.size'.")
            *parents, last = path.split(".")
            place: Any = config
            for i, part in enumerate(parents):
                if not isinstance(place, dict) or part not in place:
                    raise unknown_name(f"field of preset {self.name}", path, _fields(config))
                if i == len(parents) - 1 and not isinstance(place[part], dict):
                    raise PresetError(
                        f"{'.'.join(parents)} of preset {self.name} has no fields: override it as a whole."
                    )
                place = place[part]
            if not parents and last not in config:
                raise unknown_name(f"field of preset {self.name}", path, _fields(config))
            place[last] = _plain(value)
        return preset_from_config(self.name, config)


def _plain(value: Any) -> Any:
    """A value as a YAML file would hold it: priors as `{name: arguments}`, numbers of NumPy and torch as Python's."""
    if isinstance(value, Prior):
        return {value.name: dataclasses.asdict(value)}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value.item() if hasattr(value, "item") else value


def _fields(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items():
        names.append(prefix + key)
        if isinstance(value, dict):
            names += _fields(value, f"{prefix}{key}.")
    return names


def _z_convention(value: Any, z_lens: Prior, z: Parameter) -> float | None:
    if value is None:
        return None
    require_number("redshift.convention", value, z.low, z.high)
    if value <= z_lens.bounds()[1]:
        raise ParameterError(
            f"redshift.convention = {value:g} is not behind redshift.lens, up to {z_lens.bounds()[1]:g}. "
            "Fix: null, or the source redshift that lens parameters are stated for."
        )
    return float(value)


_SECTIONS = (
    "description", "mode", "cosmology", "redshift", "grid", "instrument", "psf", "noise", "lens", "shear", "source",
    "compensation", "substructure",
)  # fmt: skip
_OPTIONAL: dict[str, Any] = {
    "lens_light": None, "deflectors": None, "macro": None, "normalise": "none", "departures": [],
}  # fmt: skip


def _macro(
    config: Any, mode: str, classes: Mapping[str, Population], lens: ProfilePriors, shear: ProfilePriors | None
) -> dict[str, tuple[ProfilePriors, ...]]:
    """Lens and shear of single classes, where they are not those of all."""
    if config is None:
        return {}
    if mode == "honest":
        raise PresetError("macro: a class with a lens of its own gives itself away. Fix: mode: paper, or leave it out.")
    made = {}
    own = {p.name: p for p in (lens, shear) if p is not None}
    for name, sections in section(config, "macro", (), tuple(classes)).items():
        sections = section(sections, f"macro.{name}", (), tuple(own))
        parts = []
        for part, values in sections.items():
            place = f"macro.{name}.{part}"
            stated = profile_priors_from(values, part, mass_profile)
            if stated.profile is not own[part].profile or stated.max_ellipticity != own[part].max_ellipticity:
                raise PresetError(
                    f"{place} must be a {own[part].profile.name}, as {part} is, and declare what it does."
                )
            parts.append(stated)
        made[name] = tuple(parts)
    return made


def _departures(config: Any) -> tuple[str, ...]:
    if not isinstance(config, list) or not all(isinstance(line, str) for line in config):
        raise PresetError(f"departures = {config!r} must be a list of sentences.")
    return tuple(config)


def preset_from_config(name: str, config: Mapping[str, Any]) -> Preset:
    """A preset file's content -> Preset. Raises PresetError, ParameterError or UnknownNameError naming the field."""
    top = _OPTIONAL | section(config, "", _SECTIONS, tuple(_OPTIONAL))
    if not isinstance(top["description"], str):
        raise PresetError(f"description = {top['description']!r} must be a sentence.")
    redshift = section(top["redshift"], "redshift", ("lens", "source", "convention"))
    z = Parameter("z", "1", 1e-3, 6.0, "redshift")
    z_lens, z_source = (prior_within(redshift[k], f"redshift.{k}", z) for k in ("lens", "source"))
    if z_source.bounds()[0] <= z_lens.bounds()[1]:
        raise ParameterError(
            f"redshift.source can be {z_source.bounds()[0]:g}, which is not behind redshift.lens, up to "
            f"{z_lens.bounds()[1]:g}. Fix: let the smallest source redshift exceed the largest lens redshift."
        )
    noise = section(top["noise"], "noise", ("recipe", "exposure_time"))
    bands = bands_from(top["instrument"], top["grid"], top["psf"], noise["exposure_time"])
    cosmology = Cosmology(**section(top["cosmology"], "cosmology", ("H0", "Om0", "distance_rule")))
    if not isinstance(top["substructure"], Mapping) or not top["substructure"]:
        raise PresetError("substructure must name at least one class, e.g. {no_sub: {population: no_sub}}.")
    lens = profile_priors_from(top["lens"], "lens", mass_profile)
    compensation = choice(top["compensation"], "compensation", COMPENSATIONS)
    choice(lens.profile.name, "lens.profile", HOSTS)
    known = {f"lens.{field}": bounds for field, bounds in lens.bounds().items()}
    shear = None if top["shear"] is None else profile_priors_from(top["shear"], "shear", mass_profile, known)
    if shear is not None:
        choice(shear.profile.name, "shear.profile", ("shear",))
    mode = choice(top["mode"], "mode", MODES)
    if mode == "honest" and redshift["convention"] is not None:
        raise PresetError(
            f"redshift.convention = {redshift['convention']!r} in an honest preset: substructure is drawn for the true "
            "source redshift and would be scaled twice. Fix: null, and lens parameters for the source as it is."
        )
    names = tuple(band.name for band in bands)
    source = components_from(top["source"], "source", light_profile, known, names)
    if not source:
        raise PresetError("source = None: a lens needs something behind it, e.g. {profile: sersic, ...}.")
    classes = {str(c): population_from(v, f"substructure.{c}") for c, v in top["substructure"].items()}
    return Preset(
        name=name,
        description=top["description"].strip(),
        mode=mode,
        cosmology=cosmology,
        z_lens=z_lens,
        z_source=z_source,
        z_convention=_z_convention(redshift["convention"], z_lens, z),
        bands=bands,
        recipe=noise_recipe(noise["recipe"]),
        normalise=choice(top["normalise"], "normalise", NORMALISATIONS),
        lens=lens,
        shear=shear,
        deflectors=components_from(top["deflectors"], "deflectors", mass_profile, known),
        source=source,
        lens_light=components_from(top["lens_light"], "lens_light", light_profile, known, names),
        compensation=compensation,
        classes=classes,
        macro=_macro(top["macro"], mode, classes, lens, shear),
        departures=_departures(top["departures"]),
        config=copy.deepcopy(top),
    )


def presets() -> dict[str, str]:
    """The presets that come with lensgen: name -> description in one line."""
    found = {path.stem: yaml.safe_load(path.read_text())["description"] for path in sorted(PRESETS.glob("*.yaml"))}
    return {name: " ".join(str(text).split()) for name, text in found.items()}


def load_preset(preset: str | Path | Preset) -> Preset:
    """A preset by name, by the path of a YAML file, or as it is."""
    if isinstance(preset, Preset):
        return preset
    path = Path(preset)
    if path.suffix not in (".yaml", ".yml"):
        path = PRESETS / f"{preset}.yaml"
        if not path.is_file():
            raise unknown_name("preset", str(preset), (p.stem for p in PRESETS.glob("*.yaml")))
    elif not path.is_file():
        raise PresetError(f"{path} is not there: give the path of a YAML file, or one of {', '.join(presets())}.")
    try:
        text = path.read_text()
    except UnicodeDecodeError as error:
        raise PresetError(f"{path} is not YAML: {error}") from None
    return preset_from_config(path.stem, read_yaml(text, str(path)))
