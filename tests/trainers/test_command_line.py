"""Options come from defaults, recipe and flags, in this order, and mistakes are explained."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from recipes_valid import CONFIGS

from lensgen.errors import LensgenError, UnknownNameError
from trainers.command_line import RECIPES, leaves, parse, read_recipe, save_config, values
from trainers.errors import ConfigError
from trainers.jepa import JEPAConfig
from trainers.mae import MAEConfig


def options(*flags):
    return parse(MAEConfig, "mae_cpu", list(flags))


@pytest.fixture
def complaint(capsys):
    """What the command line answers to flags that it must refuse: an error's message, or tyro's box as one line."""

    def of(*flags):
        with pytest.raises((LensgenError, SystemExit)) as refused:
            options(*flags)
        if isinstance(refused.value, SystemExit):
            assert refused.value.code == 2
            return " ".join(capsys.readouterr().err.replace("│", " ").split())
        return str(refused.value)

    return of


def recipe(tmp_path, text):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    return str(path)


def test_flags_override_the_recipe_which_overrides_the_defaults(tmp_path):
    path = recipe(tmp_path, "steps: 7\nvit: {depth: 3}\noptimizer.lr: 1e-4\nmask_ratio: 0.6\nset: [grid.size=32]")
    config = options("--stream", "--config", path, "--vit.depth", "2")
    assert (config.run.steps, config.vit.depth, config.optimizer.lr, config.mask_ratio) == (7, 2, 1e-4, 0.6)
    assert config.vit.patch_size == MAEConfig().vit.patch_size
    assert config.data.set == ("grid.size=32",)


def test_a_saved_configuration_is_a_recipe_of_itself(tmp_path):
    config = options("--stream", "--optimizer.clip", "None", "--set", "grid.size=32", "--norm-pix")
    save_config(config, tmp_path)
    again = options("--config", str(tmp_path / "config.yaml"))
    differing = {key for key, value in values(config) if dict(values(again))[key] != value}
    assert differing == {"config"}


OF_TRAINERS = [path for path in sorted(RECIPES.glob("*.yaml")) if not path.stem.startswith("reproduce_")]


@pytest.mark.parametrize("path", OF_TRAINERS, ids=lambda path: path.stem)
def test_every_recipe_is_valid(path):
    kind = CONFIGS[path.stem.split("_")[0]]
    config = parse(kind, path.stem, ["--stream"])
    assert config.run.steps == yaml.safe_load(path.read_text())["steps"]


def test_pairs_of_numbers_are_saved_and_read(tmp_path):
    config = parse(JEPAConfig, "jepa_cpu", ["--stream", "--mask.target-scale", "0.1", "0.3"])
    save_config(config, tmp_path)
    again = parse(JEPAConfig, "jepa_cpu", ["--config", str(tmp_path / "config.yaml")])
    assert again.mask == config.mask and again.mask.target_scale == (0.1, 0.3)
    for text, message in (("[0.1]", "must be a list of 2"), ("[0.1, wide]", "'wide'; it must be of type float")):
        with pytest.raises(ConfigError, match=message):
            read_recipe(JEPAConfig, Path(recipe(tmp_path, f"mask: {{target_scale: {text}}}")))


def test_flags_that_name_images_replace_those_of_the_recipe(tmp_path):
    streamed = recipe(tmp_path, "stream: true")
    assert options("--config", streamed).data.stream
    assert options("--config", streamed, "--stream").data.stream
    config = options("--config", streamed, "--data", "set.npz").data
    assert (config.stream, config.data) == (False, Path("set.npz"))


def test_unknown_key_in_a_recipe_gets_a_suggestion(tmp_path):
    with pytest.raises(UnknownNameError, match=r"vit\.pach_size.*Did you mean 'vit\.patch_size'"):
        options("--stream", "--config", recipe(tmp_path, "vit: {pach_size: 4}"))


def test_unknown_recipe_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="Did you mean 'mae_cpu'"):
        options("--stream", "--config", "mae_cpo")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: many", "steps is 'many'; it must be of type int"),
        ("steps: 1.5", "steps is 1.5; it must be of type int"),
        ("compile: 1", "compile is 1; it must be of type bool"),
        ("precision: 8-bit", "precision is '8-bit'; allowed: auto"),
        ("optimizer: {lr: fast}", "optimizer.lr is 'fast'; it must be of type float"),
        ("- steps", "holds list; a recipe is a mapping"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_bad_recipes_are_explained(tmp_path, text, message):
    with pytest.raises(ConfigError, match=message.replace("[", r"\[")):
        read_recipe(MAEConfig, tmp_path / recipe(tmp_path, text))


def test_missing_recipe_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: there is no such file"):
        options("--stream", "--config", str(tmp_path / "none.yaml"))


def test_exactly_one_of_stream_and_data():
    with pytest.raises(ConfigError, match="give --stream to simulate them or --data PATH"):
        options()
    with pytest.raises(ConfigError, match="both given"):
        options("--stream", "--data", "set.npz")


def test_set_needs_a_preset():
    with pytest.raises(ConfigError, match="does nothing to --data"):
        options("--data", "set.npz", "--set", "grid.size=32")


@pytest.mark.parametrize("ratio", ["0.49", "0.951", "nan", "-1"])
def test_mask_ratio_out_of_range(ratio, complaint):
    assert re.search(r"mask_ratio is .*; allowed: 0\.5 to 0\.95", complaint("--stream", "--mask-ratio", ratio))


@pytest.mark.parametrize("ratio", ["0.5", "0.95"])
def test_mask_ratio_bounds_are_allowed(ratio):
    assert options("--stream", "--mask-ratio", ratio).mask_ratio == float(ratio)


@pytest.mark.parametrize(
    ("flag", "value"),
    [("steps", "0"), ("batch-size", "0"), ("keep", "0"), ("minutes", "0"), ("optimizer.lr", "-1"),
     ("optimizer.beta2", "1"), ("optimizer.warmup", "2"), ("validation.fit", "3"), ("vit.patch-size", "0"),
     ("decoder.depth", "0")],
)  # fmt: skip
def test_numbers_out_of_range_name_flag_value_and_range(flag, value, complaint):
    assert re.search(rf"{flag.replace('-', '_')} is {value}.*allowed", complaint("--stream", f"--{flag}", value))


@pytest.mark.parametrize(("gpu", "found"), [(True, ("cuda", "bf16-mixed")), (False, ("cpu", "32-true"))])
def test_auto_takes_a_gpu_that_has_float64_or_the_cpu(monkeypatch, complaint, gpu, found):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    run = options("--stream").run
    assert (run.fabric_accelerator, run.fabric_precision) == found
    assert "mps" in complaint("--stream", "--accelerator", "mps")


def test_help_is_grouped_and_explains_every_option(capsys):
    with pytest.raises(SystemExit):
        options("--help")
    text = capsys.readouterr().out
    for group in ("data", "run", "optimizer", "validation", "vit", "decoder"):
        assert f"{group} options" in text
    for key, _, _ in leaves(MAEConfig):
        assert f"--{key.replace('_', '-')}" in text


def test_mistyped_flag_gets_a_suggestion(complaint):
    assert "--vit.patch-size" in complaint("--stream", "--vit.pach-size", "4")
