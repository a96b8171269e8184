"""That every run of a reproduction's recipe is one that its trainer takes."""

import re

import yaml

from trainers.classify import ClassifyConfig
from trainers.command_line import read_recipe, with_values
from trainers.jepa import JEPAConfig
from trainers.mae import MAEConfig
from trainers.pinn import PinnConfig
from trainers.regress import RegressConfig
from trainers.ssl import SSLConfig
from trainers.superres import SuperresConfig

CONFIGS = {
    "mae": MAEConfig,
    "ssl": SSLConfig,
    "jepa": JEPAConfig,
    "classify": ClassifyConfig,
    "pinn": PinnConfig,
    "superres": SuperresConfig,
    "regress": RegressConfig,
}


def require_valid_runs(protocol, folder):
    """Reads the options of every run, and of those that are timed, as its trainer does.

    Returns how many differ by more than their seeds.
    """
    every = {}
    for level in protocol.levels:
        cells = protocol.cells(level)
        names = [cell.name for cell in cells]
        assert len(set(names)) == len(names)
        assert all(cell.after is None or names.index(cell.after) < names.index(cell.name) for cell in cells)
        every |= {cell.name: cell for cell in cells}
    timed = protocol.rehearsal(protocol.levels[0])
    assert {cell.kind for cell in every.values()} == {cell.kind for cell in timed}
    _require_valid(timed, folder)
    return _require_valid(every.values(), folder)


def _require_valid(cells, folder):
    checked = set()
    for cell in cells:
        whatever_the_seed = re.sub(r"seed\d+", "", cell.name)
        if whatever_the_seed in checked:
            continue
        checked.add(whatever_the_seed)
        file = folder / "recipe.yaml"
        file.write_text(yaml.safe_dump(cell.recipe(folder, 1.0)))
        kind = CONFIGS[cell.trainer]
        config = with_values(kind(), read_recipe(kind, file))
        config.data.require_one_source()
        assert config.run.steps == cell.steps_at(1.0)
    return len(checked)
