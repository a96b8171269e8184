"""From recipe and command line to a configuration, and back to the `config.yaml` that a run saves.

The keys of a recipe are the flags without their dashes (`steps`, `vit.patch_size` or `vit: {patch_size: ...}`), so what
`--help` shows is also the reference of the YAML files, and a saved `config.yaml` is itself a recipe.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn, TypeVar

import tyro
import yaml

from lensgen.errors import LensgenError, unknown_name
from trainers.config import TrainerConfig
from trainers.errors import ConfigError

RECIPES = Path(__file__).parent / "recipes"
Config = TypeVar("Config", bound=TrainerConfig)

# A resumed run is the same run: only what leaves its losses as they are may change.
CHANGEABLE_ON_RESUME = {"resume", "log_every", "checkpoint_every", "keep"}


def exit_with_message(main: Callable[[], int]) -> NoReturn:
    """Runs a trainer's `main`; its own errors end it with their message and status 2, without a traceback."""
    try:
        sys.exit(main())
    except LensgenError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def parse(kind: type[Config], recipe: str, argv: Sequence[str] | None = None, prog: str | None = None) -> Config:
    """The configuration of a run: defaults, then the recipe (`--config`, else `recipe`), then the flags.

    With `--resume` the saved configuration of that run stands in place of the recipe.

    Raises:
        ConfigError: a value out of range, a file that is no recipe, or a flag that a resumed run must not change.
        UnknownNameError: a key or a recipe that does not exist.
    """
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--config")
    early.add_argument("--resume", type=Path)
    early.add_argument("--stream", action="store_true")
    early.add_argument("--data")
    known, _ = early.parse_known_args(argv)
    if known.resume is None:
        start = with_values(kind(), read_recipe(kind, find_recipe(known.config or recipe)))
        if known.stream or known.data is not None:  # images that the flags name stand in place of the recipe's
            start = with_values(start, {("data", "stream"): False, ("data", "data"): None})
    else:
        start = load_config(kind, run_folder(known.resume))
    config = tyro.cli(kind, default=start, args=argv, prog=prog, config=(tyro.conf.FlagCreatePairsOff,))
    if known.resume is not None:
        before, after = dict(values(start)), dict(values(config))
        changed = [name for name in after if after[name] != before[name] and name not in CHANGEABLE_ON_RESUME]
        if changed:
            raise ConfigError(
                f"--resume goes on with the same run, which had {changed[0]} = {before[changed[0]]}, not "
                f"{after[changed[0]]}. Leave the flag out, or start a new run with --config {known.resume}/config.yaml."
            )
    config.data.require_one_source()
    return config


def run_folder(path: Path) -> Path:
    """The run's folder, given it or one of its checkpoints."""
    return path.parent.parent if path.parent.name == "checkpoints" else path


def find_recipe(name: str) -> Path:
    """The file of a recipe: a path, or the name of one in `trainers/recipes`."""
    if Path(name).suffix in {".yaml", ".yml"}:
        if not Path(name).is_file():
            raise ConfigError(f"--config {name}: there is no such file.")
        return Path(name)
    known = {path.stem: path for path in RECIPES.glob("*.yaml")}
    if name not in known:
        raise unknown_name("recipe", name, known)
    return known[name]


def leaves(kind: type, prefix: str = "") -> Iterator[tuple[str, tuple[str, ...], Any]]:
    """Every option of a configuration class as (key, attribute path, type)."""
    hints = typing.get_type_hints(kind, include_extras=True)
    for item in dataclasses.fields(kind):
        hint, marked = hints[item.name], False
        if typing.get_origin(hint) is Annotated:
            marked = tyro.conf.OmitArgPrefixes[int].__metadata__[0] in hint.__metadata__  # type: ignore[attr-defined]
            hint = typing.get_args(hint)[0]
        if dataclasses.is_dataclass(hint):
            for key, path, leaf in leaves(typing.cast(type, hint), "" if marked else f"{prefix}{item.name}."):
                yield key, (item.name, *path), leaf
        else:
            yield prefix + item.name, (item.name,), hint


def values(config: TrainerConfig) -> Iterator[tuple[str, Any]]:
    """Every option and its value."""
    for key, path, _ in leaves(type(config)):
        value: Any = config
        for name in path:
            value = getattr(value, name)
        yield key, value


def with_values(config: Config, changes: Mapping[tuple[str, ...], Any]) -> Config:
    """`config` with the values at these attribute paths replaced; each group is validated once, whole."""
    groups: dict[str, dict[tuple[str, ...], Any]] = {}
    flat: dict[str, Any] = {}
    for path, value in changes.items():
        if len(path) == 1:
            flat[path[0]] = value
        else:
            groups.setdefault(path[0], {})[path[1:]] = value
    flat |= {name: with_values(getattr(config, name), inner) for name, inner in groups.items()}
    return dataclasses.replace(config, **flat)


def read_recipe(kind: type, path: Path) -> dict[tuple[str, ...], Any]:
    """The values of a YAML recipe by attribute path, checked against the options of `kind`."""
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read as YAML: {error}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}; a recipe is a mapping of options to values.")
    options = {key: (attributes, hint) for key, attributes, hint in leaves(kind)}
    found = {}
    for key, value in _flatten(content):
        if key not in options:
            raise unknown_name(f"option in {path}:", key, options)
        attributes, hint = options[key]
        found[attributes] = _coerce(f"{path}: {key}", value, hint)
    return found


def as_recipe(config: TrainerConfig) -> dict[str, Any]:
    """Every option, resolved, as a recipe holds it: what a run is, not where it is."""
    content: dict[str, Any] = {}
    for key, value in values(config):
        if key in {"config", "resume", "out"}:
            continue
        *groups, name = key.split(".")
        place = content
        for group in groups:
            place = place.setdefault(group, {})
        place[name] = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return content


def save_config(config: TrainerConfig, folder: Path) -> None:
    """Writes `config.yaml`, whole or not at all: a run that ended early is begun anew from it."""
    unfinished = folder / "config.tmp"
    unfinished.write_text(yaml.safe_dump(as_recipe(config), sort_keys=False))
    unfinished.replace(folder / "config.yaml")


def load_config(kind: type[Config], folder: Path) -> Config:
    """The configuration that a run saved."""
    if not (folder / "config.yaml").is_file():
        raise ConfigError(f"{folder} holds no config.yaml; --resume takes the folder of a run, e.g. runs/mae.")
    return with_values(kind(), read_recipe(kind, folder / "config.yaml"))


def _flatten(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        name = prefix + str(key).replace("-", "_")
        if isinstance(value, dict):
            yield from _flatten(value, name + ".")
        else:
            yield name, value


def _coerce(where: str, value: Any, hint: Any) -> Any:
    """`value` from YAML as the type `hint`; YAML reads 1e-3 as a string and knows no paths or tuples."""
    if typing.get_origin(hint) in {types.UnionType, typing.Union}:
        if value is None:
            return None
        hint = next(option for option in typing.get_args(hint) if option is not type(None))
    if typing.get_origin(hint) is Literal:
        if value in typing.get_args(hint):
            return value
        raise ConfigError(f"{where} is {value!r}; allowed: {', '.join(map(str, typing.get_args(hint)))}.")
    if typing.get_origin(hint) is tuple:
        items, kinds = value if isinstance(value, list) else [value], typing.get_args(hint)
        if kinds == (str, ...):  # --set and the like, some of which YAML reads as numbers
            return tuple(str(item) for item in items)
        if len(items) != len(kinds):
            raise ConfigError(f"{where} is {value!r}; it must be a list of {len(kinds)}.")
        return tuple(_coerce(where, item, kind) for item, kind in zip(items, kinds, strict=True))
    if hint in {int, bool} and type(value) is hint:
        return value
    if hint in {str, Path} and isinstance(value, str):
        return hint(value)
    if hint is float and not isinstance(value, bool):
        try:
            return float(value)
        except (TypeError, ValueError):
            pass
    raise ConfigError(f"{where} is {value!r}; it must be of type {hint.__name__}.")
