"""Presets: a YAML file that states every choice a data set makes, read and checked.

`load_preset` reads one by name or path; `Preset.override` changes any field of it by its dotted name. A field that
does not exist, is missing or is out of range is an error that names it.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from lensgen.cosmology import Cosmology
from lensgen.errors import ParameterError, PresetError, require_number, require_whole, unknown_name
from lensgen.instruments import instrument
from lensgen.instruments.instrument import Instrument
from lensgen.light import light_profile
from lensgen.mass import mass_profile
from lensgen.noise import Detector, NoiseRecipe, noise_recipe
from lensgen.observation import MAX_SIZE, Observation
from lensgen.parameters import Parameter
from lensgen.preset_fields import ProfilePriors, choice, population_from, prior_within, profile_priors_from, section
from lensgen.priors import Prior
from lensgen.psf import GaussianPSF
from lensgen.substructure import Population


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML follows 1.1, where 3e10 and 3.0e10 are strings."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)

PRESETS = Path(__file__).parent / "presets"
MODES = ("honest", "paper")
IMAGES_VERSION = 1  # to be raised with every change that CHANGELOG.md lists under **Images**
COMPENSATIONS = ("none", "realised")
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
    instrument: Instrument
    observation: Observation
    recipe: NoiseRecipe
    detector: Detector
    exposure_time: Prior
    lens: ProfilePriors
    shear: ProfilePriors | None
    source: ProfilePriors
    compensation: str
    classes: Mapping[str, Population]
    config: Mapping[str, Any]

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return 1, self.observation.height, self.observation.width

    @property
    def fingerprint(self) -> str:
        """What the images depend on, with all defaults and constants filled in, in 16 hexadecimal digits."""
        profiles = [
            p and (p.profile.name, sorted(p.priors.items()), p.max_ellipticity)
            for p in (self.lens, self.shear, self.source)
        ]
        content = (
            IMAGES_VERSION, self.cosmology, self.z_lens, self.z_source, self.z_convention, self.instrument,
            self.observation, self.recipe.name, self.detector, self.exposure_time, profiles, self.compensation,
            list(self.classes.items()),
        )  # fmt: skip
        return hashlib.sha256(repr(content).encode()).hexdigest()[:16]

    def override(self, changes: Mapping[str, Any]) -> Preset:
        """A preset with some fields changed, e.g. `{"substructure.cdm.count": 50, "grid.size": 96}`.

        A field may be one that the file leaves to a default (an instrument's read noise, a profile's centre).
        """
        config = copy.deepcopy(dict(self.config))
        for path, value in changes.items():
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


def parse_overrides(changes: Iterable[str]) -> dict[str, Any]:
    """`["grid.size=96", "lens.theta_E={uniform: {low: 1, high: 2}}"]` -> what `Preset.override` takes.

    Raises PresetError for a change that is not `field=value` with the value in YAML.
    """
    parsed = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not (field and equals and text):
            raise PresetError(f"{change!r} is not a change of a preset: write field=value, e.g. grid.size=96.")
        parsed[field] = _read_yaml(text, change)
    return parsed


def _read_yaml(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise PresetError(f"{where} is not YAML: {error}") from None


def _fields(config: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for key, value in config.items():
        names.append(prefix + key)
        if isinstance(value, dict):
            names += _fields(value, f"{prefix}{key}.")
    return names


def _grid(config: Any) -> tuple[int, int, int]:
    grid = section(config, "grid", ("size", "supersampling"))
    size = grid["size"] if isinstance(grid["size"], list | tuple) else [grid["size"], grid["size"]]
    if len(size) != 2:
        raise PresetError(f"grid.size = {grid['size']!r} must be a number of pixels or [height, width].")
    for pixels in size:
        require_whole("grid.size", pixels, 1, MAX_SIZE)
    return size[0], size[1], grid["supersampling"]


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


def preset_from_config(name: str, config: Mapping[str, Any]) -> Preset:
    """A preset file's content -> Preset. Raises PresetError, ParameterError or UnknownNameError naming the field."""
    top = section(config, "", _SECTIONS)
    redshift = section(top["redshift"], "redshift", ("lens", "source", "convention"))
    z = Parameter("z", "1", 1e-3, 6.0, "redshift")
    z_lens, z_source = (prior_within(redshift[k], f"redshift.{k}", z) for k in ("lens", "source"))
    if z_source.bounds()[0] <= z_lens.bounds()[1]:
        raise ParameterError(
            f"redshift.source can be {z_source.bounds()[0]:g}, which is not behind redshift.lens, up to "
            f"{z_lens.bounds()[1]:g}. Fix: let the smallest source redshift exceed the largest lens redshift."
        )
    tele = dict(top["instrument"]) if isinstance(top["instrument"], Mapping) else {"name": top["instrument"]}
    base = instrument(tele.pop("name", ""))
    allowed = tuple(f.name for f in dataclasses.fields(Instrument) if f.name != "name")
    telescope = dataclasses.replace(base, **section(tele, "instrument", (), allowed))
    psf = section(top["psf"], "psf", ("truncation", "edge", "sampling", "supersampled"))
    if not isinstance(psf["supersampled"], bool):
        raise PresetError(f"psf.supersampled = {psf['supersampled']!r} must be true or false.")
    height, width, supersampling = _grid(top["grid"])
    noise = section(top["noise"], "noise", ("recipe", "exposure_time"))
    cosmology = Cosmology(**section(top["cosmology"], "cosmology", ("H0", "Om0", "distance_rule")))
    if not isinstance(top["substructure"], Mapping) or not top["substructure"]:
        raise PresetError("substructure must name at least one class, e.g. {no_sub: {population: no_sub}}.")
    lens = profile_priors_from(top["lens"], "lens", mass_profile)
    compensation = choice(top["compensation"], "compensation", COMPENSATIONS)
    choice(lens.profile.name, "lens.profile", HOSTS)
    shear = None if top["shear"] is None else profile_priors_from(top["shear"], "shear", mass_profile)
    if shear is not None:
        choice(shear.profile.name, "shear.profile", ("shear",))
    mode = choice(top["mode"], "mode", MODES)
    if mode == "honest" and redshift["convention"] is not None:
        raise PresetError(
            f"redshift.convention = {redshift['convention']!r} in an honest preset: substructure is drawn for the true "
            "source redshift and would be scaled twice. Fix: null, and lens parameters for the source as it is."
        )
    return Preset(
        name=name,
        description=str(top["description"]).strip(),
        mode=mode,
        cosmology=cosmology,
        z_lens=z_lens,
        z_source=z_source,
        z_convention=_z_convention(redshift["convention"], z_lens, z),
        instrument=telescope,
        observation=Observation(
            height,
            width,
            telescope.pixel_scale,
            supersampling,
            GaussianPSF(telescope.psf_fwhm, psf["truncation"], psf["edge"], psf["sampling"]),
            psf["supersampled"],
        ),
        recipe=noise_recipe(noise["recipe"]),
        detector=Detector(telescope.exposures, telescope.read_noise, telescope.sky_rate * telescope.pixel_scale**2),
        exposure_time=prior_within(
            telescope.exposure_time if noise["exposure_time"] == "instrument" else noise["exposure_time"],
            "noise.exposure_time",
            Parameter("exposure_time", "s", 1e-3, 1e7, "time of one exposure"),
        ),
        lens=lens,
        shear=shear,
        source=profile_priors_from(top["source"], "source", light_profile),
        compensation=compensation,
        classes={str(c): population_from(v, f"substructure.{c}") for c, v in top["substructure"].items()},
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
    return preset_from_config(path.stem, _read_yaml(text, str(path)))
