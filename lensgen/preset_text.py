"""The text of presets and of changes to them: YAML, read without running anything."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import yaml

from lensgen.errors import PresetError


class _Loader(yaml.SafeLoader):
    """YAML 1.2's floats: PyYAML follows 1.1, where 3e10 and 3.0e10 are strings."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+$"), list("-+.0123456789")
)


def parse_overrides(changes: Iterable[str]) -> dict[str, Any]:
    """`["grid.size=96", "lens.theta_E={uniform: {low: 1, high: 2}}"]` -> what `Preset.override` takes.

    Raises PresetError for a change that is not `field=value` with the value in YAML.
    """
    parsed = {}
    for change in changes:
        field, equals, text = change.partition("=")
        if not (field and equals and text):
            raise PresetError(f"{change!r} is not a change of a preset: write field=value, e.g. grid.size=96.")
        parsed[field] = read_yaml(text, change)
    return parsed


def read_yaml(text: str, where: str) -> Any:
    """What the text holds; PresetError, with `where` it is from, if it is not YAML."""
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise PresetError(f"{where} is not YAML: {error}") from None
