"""Super-resolution: its pairs, what it starts from, that it learns, and what a run leaves behind."""

import json

import numpy as np
import pytest
import torch

import lensgen
import trainers
from trainers import mae, superres
from trainers.checkpoint import read_checkpoint
from trainers.config import DataConfig
from trainers.errors import CheckpointError, ConfigError, DataError
from trainers.image_metrics import image_scores
from trainers.image_pairs import Pairs, downsample, upsample
from trainers.logs import read_table
from trainers.models.masked_autoencoder import load_encoder
from trainers.models.superresolution import FluxUnits, SuperDecoderConfig, SuperResolver, prime_factors
from trainers.models.vit import ViTConfig
from trainers.transform import InputTransform

VIT = ViTConfig(patch_size=8, depth=1, width=32, heads=2)
PLAIN = FluxUnits(1.0, 1.0)
TASKS = {"16to64": ((1, 16, 16), 64), "64to128": ((1, 64, 64), 128)}


def resolver(task="16to64", entry="upsample", kind="pixelshuffle", units=PLAIN, vit=VIT, encoder=None):
    torch.manual_seed(0)
    decoder = SuperDecoderConfig(kind, depth=1, width=16, heads=2)
    return SuperResolver(*TASKS[task], vit, entry, decoder, units, encoder)


@pytest.fixture(scope="session")
def large_blobs(tmp_path_factory, make_blobs):
    """Paths of stored sets of 64 x 64 and of 128 x 128 pixels."""
    paths = {}
    for side in (64, 128):
        paths[side] = tmp_path_factory.mktemp("large") / f"blobs{side}.npz"
        np.savez(paths[side], **make_blobs(140, side))
    return paths


FLAGS = ["--vit.patch-size=16", "--steps=2", "--validate-every=2", "--low=downsample"]


@pytest.fixture
def enlarge(large_blobs, tiny, tmp_path, monkeypatch):
    """Runs the trainer: `enlarge("--task=16to64", out=...)` -> the run's folder."""

    def run(*flags, out="run", side=64, draws=False):
        folder = tmp_path / out
        if not draws:  # pictures take longer than all else
            monkeypatch.setattr(superres, "draw_enlargements", lambda *arguments: None)
            monkeypatch.setattr(superres, "draw_training", lambda *arguments: None)
        data = ["--data", str(large_blobs[side])] if side else []
        assert superres.main([*tiny, *data, "--out", str(folder), *FLAGS, *flags]) == 0
        return folder

    return run


@pytest.fixture(scope="session")
def pretrained(large_blobs, tiny, tmp_path_factory):
    """The run of an MAE on images of 64 x 64 pixels."""
    folder = tmp_path_factory.mktemp("mae") / "run"
    flags = ["--data", str(large_blobs[64]), "--out", str(folder), "--vit.patch-size=16", "--steps=1"]
    assert mae.main([*tiny, *flags]) == 0
    return folder


@pytest.fixture(scope="session")
def pretrained_on_stream(tiny, tmp_path_factory):
    """The run of an MAE on the preset model_a."""
    folder = tmp_path_factory.mktemp("mae") / "stream"
    flags = ["--stream", "--preset=model_a", "--out", str(folder), "--vit.patch-size=16", "--steps=1"]
    assert mae.main([*tiny, *flags]) == 0
    return folder


# pairs


@pytest.mark.parametrize("preset", ["model_a", "hst"])
def test_larger_pixels_see_the_same_lens_through_the_same_optics(preset):
    pairs = Pairs("16to64", "optics")
    changes = lensgen.parse_overrides(pairs.on(DataConfig(stream=True, preset=preset)).set)
    coarse = lensgen.Simulator(preset, device="cpu", outputs=("clean", "image_hr"), hr_factor=4).override(changes)
    batch = coarse.batch(0, 6)
    fine = lensgen.Simulator(preset, device="cpu", outputs=("clean",)).batch(0, 6)
    assert batch.pixel_scale == pytest.approx(4 * fine.pixel_scale)
    for name, values in fine.params.items():
        assert torch.equal(values, batch.params[name]), name
    low, high = pairs.of(batch)
    assert low.shape == (6, 1, 16, 16) and low is batch.image
    torch.testing.assert_close(high, fine.maps["clean"], rtol=1e-5, atol=1e-7)
    sums = pairs.flux_ratio * downsample(fine.maps["clean"], 4, "area")
    torch.testing.assert_close(batch.maps["clean"], sums, rtol=1e-4, atol=1e-5 * float(sums.max()))


def test_twice_the_pixels_leave_the_preset_as_it_is():
    config = DataConfig(stream=True, preset="model_a")
    pairs = Pairs("64to128", "optics")
    assert pairs.on(config) == config and pairs.outputs == ("image", "image_hr") and pairs.factor == 2
    batch = lensgen.Simulator("model_a", device="cpu", outputs=(*pairs.outputs, "clean"), hr_factor=2).batch(0, 2)
    low, high = pairs.of(batch)
    assert torch.equal(low, batch.image) and high.shape == (2, 1, 128, 128)
    sums = 4 * downsample(high, 2, "area")
    torch.testing.assert_close(batch.maps["clean"], sums, rtol=1e-3, atol=1e-4 * float(sums.max()))


def test_a_stream_to_be_downsampled_has_finer_pixels_on_the_same_field():
    changed = Pairs("64to128", "downsample").on(DataConfig(stream=True, preset="model_a"))
    fine = lensgen.Simulator("model_a", device="cpu").override(lensgen.parse_overrides(changed.set))
    assert fine.image_shape == (1, 128, 128) and fine.preset.bands[0].observation.pixel_scale == 0.05
    assert fine.preset.classes["cdm"].softening == 0.4  # pixels: as many arcsec as before
    assert Pairs("16to64", "downsample").on(DataConfig(stream=True)).set == ()


def test_downsampling_keeps_units_and_place():
    image = torch.rand(2, 1, 64, 64)
    torch.testing.assert_close(downsample(image, 4, "area")[0, 0, 1, 2], image[0, 0, 4:8, 8:12].mean())
    ramp = torch.linspace(0, 1, 64).expand(1, 1, 64, 64)
    for by in ("area", "bicubic"):
        back = upsample(downsample(ramp, 4, by), 64)
        # torch's bicubic does not quite keep a ramp; a shift by a pixel would be .016
        torch.testing.assert_close(back[..., 12:-12], ramp[..., 12:-12], rtol=0, atol=0.004)


@pytest.mark.parametrize("task", TASKS)
def test_strided_pixels_are_upsampled_from_where_they_were_taken(task):
    pairs = Pairs(task, "downsample", "nearest")
    side, factor = pairs.high_side, pairs.factor
    across = torch.linspace(0, 1, side).expand(1, 1, side, side)
    for ramp in (across, across.transpose(2, 3)):  # a shift of both axes, or of one alone, would be seen
        low = downsample(ramp, factor, "nearest")
        assert torch.equal(low, torch.nn.functional.interpolate(ramp, scale_factor=1 / factor, mode="nearest"))
        registered, plain = upsample(low, side, pairs.offset), upsample(low, side)
        inner = (..., slice(12, -12), slice(12, -12))
        torch.testing.assert_close(registered[inner], ramp[inner], rtol=0, atol=0.25 / side)
        shift = (ramp - plain)[inner].mean() * (side - 1)
        assert float(shift) == pytest.approx((factor - 1) / 2, abs=0.01)  # fine pixels
        torch.testing.assert_close(registered[..., ::factor, ::factor], low, rtol=0, atol=1e-5)
    assert Pairs(task, "optics", "nearest").offset == Pairs(task, "downsample", "area").offset == 0


def test_upsampling_from_elsewhere_is_torchs_in_the_limit():
    image = torch.rand(2, 3, 16, 16)
    torch.testing.assert_close(upsample(image, 64, 1e-9), upsample(image, 64), rtol=0, atol=2e-5)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("low", ["optics", "downsample"])
def test_inputs_are_in_the_units_of_the_images_that_encoders_are_pretrained_on(task, low):
    pairs, config = Pairs(task, low), DataConfig(stream=True, preset="model_a")
    changes = lensgen.parse_overrides(pairs.on(config).set)
    simulator = lensgen.Simulator("model_a", device="cpu", outputs=pairs.outputs, hr_factor=pairs.factor)
    image, _ = pairs.of(simulator.override(changes).batch(0, 16))
    own = lensgen.Simulator("model_a", device="cpu").batch(0, 16).image
    # the finer pixels of 64to128 get noise of their own, so this is not exact
    assert pairs.input_ratio(config) == pytest.approx(float(image.mean() / own.mean()), rel=0.05)
    assert Pairs(task, "downsample").input_ratio(DataConfig(stream=True, preset="deeplense_ii_legacy")) == 1


def test_pairs_that_cannot_be_are_refused():
    optics = Pairs("16to64", "optics")
    with pytest.raises(ConfigError, match=r"observes each lens twice.*--low downsample"):
        optics.on(DataConfig(data="set.npz"))
    with pytest.raises(ConfigError, match=r"deeplense_ii_legacy are in another unit.*Fix: --low downsample"):
        optics.on(DataConfig(stream=True, preset="deeplense_ii_legacy"))
    with pytest.raises(ConfigError, match=r"lens_jepa_a has 150 x 150\. Fix: --set grid.size=64"):
        optics.on(DataConfig(stream=True, preset="lens_jepa_a"))
    with pytest.raises(ConfigError, match=r"Fix: --set psf.supersampled=true"):
        optics.on(DataConfig(stream=True, preset="model_a", set=("psf.supersampled=false",)))
    small = lensgen.Simulator("model_a", device="cpu").override({"grid.size": 32}).batch(0, 1)
    with pytest.raises(DataError, match="takes images of 64 x 64 pixels; these have 32 x 32"):
        Pairs("16to64", "downsample").of(small)


# the model


@pytest.mark.parametrize("units", [FluxUnits(16.0, 0.3), FluxUnits(16.0, None)])
def test_an_untrained_model_is_bicubic_upsampling_exactly(units):
    low = torch.rand(3, 1, 16, 16)
    model = resolver(units=units)
    expected = torch.nn.functional.interpolate(low / 16, scale_factor=4, mode="bicubic", align_corners=False)
    assert torch.equal(model(torch.asinh(low), low), expected)


def test_a_model_of_strided_pixels_reads_and_corrects_the_registered_image():
    torch.manual_seed(0)
    offset = Pairs("16to64", "downsample", "nearest").offset
    model = SuperResolver(
        (1, 16, 16), 64, VIT, "upsample", SuperDecoderConfig(depth=1, width=16), PLAIN, offset=offset
    )  # fmt: skip
    low = torch.rand(2, 1, 16, 16)
    registered = upsample(low, 64, offset)
    assert torch.equal(model(low, low), registered)
    assert torch.equal(model.tokens(low), model.tokens(registered))


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("entry", ["upsample", "resample"])
@pytest.mark.parametrize("kind", ["pixelshuffle", "transformer"])
def test_every_parameter_receives_a_gradient(task, entry, kind):
    model = resolver(task, entry, kind)
    # the last layer begins at zero and lets no gradient through to the others in the first step
    torch.nn.init.normal_(model.decoder.predict.weight)
    low = torch.rand(2, *TASKS[task][0])
    fine = model(low, low)
    assert fine.shape == (2, 1, TASKS[task][1], TASKS[task][1])
    (fine - torch.rand_like(fine)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 0, name


def test_a_transformer_decoder_puts_each_token_where_its_patch_is():
    model = resolver(kind="transformer").decoder
    torch.nn.init.normal_(model.predict.weight)
    model.blocks = torch.nn.Identity()  # attention would carry a token's content elsewhere
    tokens = torch.zeros(1, 64, 32)
    before = model(tokens)
    tokens[0, 8 * 3 + 5] = 1 + torch.rand(32)
    changed = (model(tokens) != before)[0, 0]
    assert changed[24:32, 40:48].any() and int(changed.sum()) == int(changed[24:32, 40:48].sum())


def test_smaller_patches_make_the_tokens_of_the_image_with_its_pixels_repeated():
    upsampled, resampled = resolver(), resolver(entry="resample")
    assert resampled.encoder.patch_embed.proj.weight.shape == (32, 1, 2, 2)
    torch.testing.assert_close(resampled.encoder.pos_embed, upsampled.encoder.pos_embed)
    low = torch.rand(2, 1, 16, 16)
    repeated = low.repeat_interleave(4, dim=2).repeat_interleave(4, dim=3)
    torch.testing.assert_close(resampled.tokens(low), upsampled.tokens(repeated), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(resampled.tokens(low), upsampled.tokens(low), atol=1e-3)


def test_a_patch_size_that_cannot_be_divided_is_refused():
    with pytest.raises(ConfigError, match=r"patch_size 2 is no multiple of 4.*--entry upsample.* 4, 8, 16, 32"):
        resolver(entry="resample", vit=ViTConfig(patch_size=2, depth=1, width=32, heads=2))
    with pytest.raises(ConfigError, match=r"decoder.width is 30 with decoder.heads 4"):
        SuperDecoderConfig("transformer", width=30)
    assert [prime_factors(number) for number in (1, 2, 12, 35)] == [[], [2], [2, 2, 3], [5, 7]]


def test_paper_units_know_only_the_low_image():
    units, low = FluxUnits(4.0, None), 4 * (1 + torch.rand(2, 3, 8, 8))
    scaled = units.scaled(upsample(low / 4, 8), low)
    assert scaled.amin((-2, -1)).tolist() == [[0] * 3] * 2 and scaled.amax((-2, -1)).tolist() == [[1] * 3] * 2
    fixed = FluxUnits(4.0, 2.0)
    torch.testing.assert_close(fixed.scaled(low, low), low / 2)


@pytest.mark.parametrize(("kind", "width", "steps"), [("pixelshuffle", 32, 110), ("transformer", 64, 220)])
def test_64_images_can_be_learnt_exactly(kind, width, steps):
    torch.manual_seed(0)
    axis, place = torch.arange(32.0), 8 + 16 * torch.rand(64, 2, 1)
    spots = torch.exp(-((axis - place).square()) / 5)  # narrower than a large pixel
    high = (spots[:, :1].transpose(1, 2) * spots[:, 1:])[:, None]
    low = downsample(high, 4, "area")
    model = SuperResolver(
        (1, 8, 8), 32, ViTConfig(patch_size=8, depth=1, width=64, heads=4), "upsample",
        SuperDecoderConfig(kind, depth=1, width=width), PLAIN, encoder_side=32,
    )  # fmt: skip
    bicubic = float(image_scores(model.bicubic(low), high)["psnr"].mean())
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        (model(low, low) - high).square().mean().backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        learnt = float(image_scores(model(low, low), high)["psnr"].mean())
    assert bicubic < 30 and learnt > 45, (bicubic, learnt)


# runs


def test_a_run_leaves_its_scores_beside_bicubic_and_starts_at_them(enlarge, capsys):
    folder = enlarge(draws=True)
    first = {name: float(value) for name, value in read_table(folder / "validation.csv")[0].items()}
    assert first["psnr"] == pytest.approx(first["bicubic_psnr"], abs=1e-5)
    assert first["ssim"] == pytest.approx(first["bicubic_ssim"], abs=1e-6)
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["images"] == 20 and metrics["units"]["data_range"] == pytest.approx(2, rel=0.6)
    for convention in ("data_range", "own_range"):
        assert set(metrics[convention]) == {"prediction", "bicubic", "all_zero"}
        for row in metrics[convention].values():
            assert all(row[name]["low"] <= row[name]["value"] <= row[name]["high"] for name in ("psnr", "ssim"))
    for name in ("enlargements.png", "training.png", "summary.json"):
        assert (folder / name).is_file()
    said = capsys.readouterr().out
    assert "bicubic" in said and "all-zero" in said and "20 test images" in said


def test_a_run_on_strided_pixels_says_what_bicubic_is_where_nobody_registers_it(enlarge, capsys):
    folder = enlarge("--downsample=nearest", "--optimizer.lr=1e-12")
    metrics = json.loads((folder / "metrics.json").read_text())
    for convention in ("data_range", "own_range"):
        rows = {name: row["psnr"]["value"] for name, row in metrics[convention].items()}
        assert set(rows) == {"prediction", "bicubic", "bicubic_unregistered", "all_zero"}
        assert rows["prediction"] == pytest.approx(rows["bicubic"], abs=1e-4)
        assert rows["bicubic_unregistered"] < rows["bicubic"] - 3
    assert "bicubic-unregistered" in capsys.readouterr().out
    model, _ = trainers.load(folder)
    low = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(model.predict(low), upsample(low, 64, -0.375), rtol=0, atol=1e-4)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("transform", ["asinh", "minmax"])
def test_inputs_are_the_same_in_training_evaluation_and_after_loading(enlarge, monkeypatch, task, transform):
    seen = []
    forward = SuperResolver.forward

    def watched(self, inputs, low):
        seen.append((inputs.detach().clone(), low.clone()))
        return forward(self, inputs, low)

    monkeypatch.setattr(SuperResolver, "forward", watched)
    side = TASKS[task][1]
    folder = enlarge(f"--task={task}", f"--input-transform={transform}", side=side)
    model, saved = trainers.load(folder)
    assert saved.name == transform
    for inputs, low in seen:
        assert torch.equal(inputs, saved(low)) and inputs.shape[1:] == TASKS[task][0]
    validation = seen[0][1]
    about = read_checkpoint(folder).about
    assert FluxUnits(**about["model"]["units"]).data_range is None or transform == "asinh"
    predicted = model.predict(validation)
    assert predicted.shape == (12, 1, side, side)
    assert torch.equal(seen[-1][0], saved(validation))


@pytest.mark.parametrize("entry", ["upsample", "resample"])
def test_a_pretrained_and_a_new_model_are_the_same_but_for_their_weights(enlarge, pretrained, entry):
    new = enlarge(f"--entry={entry}", out="new")
    old = enlarge(f"--entry={entry}", f"--encoder={pretrained}", "--vit.depth=3", "--optimizer.lr=1e-12", out="old")
    one, two = (read_checkpoint(folder).weights for folder in (new, old))
    assert {name: value.shape for name, value in one.items()} == {name: value.shape for name, value in two.items()}
    vit, transform = load_encoder(pretrained)
    for name, value in vit.state_dict().items():
        if entry == "upsample" or "patch_embed.proj.weight" not in name:
            torch.testing.assert_close(two[f"encoder.{name}"], value, rtol=1e-4, atol=1e-6)
    assert InputTransform.from_json(read_checkpoint(old).about["transform"]) == transform


@pytest.mark.parametrize("task", TASKS)
def test_by_optics_too_a_pretrained_and_a_new_model_have_the_same_inputs(enlarge, pretrained_on_stream, task):
    flags = ["--stream", "--preset=model_a", "--low=optics", f"--task={task}", "--batch-size=4", "--validation.test=4"]
    new = enlarge(*flags, out="new", side=None)
    old = enlarge(*flags, f"--encoder={pretrained_on_stream}", "--optimizer.lr=1e-12", out="old", side=None)
    one, two = (read_checkpoint(folder) for folder in (new, old))
    shapes = ({name: value.shape for name, value in checkpoint.weights.items()} for checkpoint in (one, two))
    assert next(shapes) == next(shapes)
    vit, transform = load_encoder(pretrained_on_stream)
    torch.testing.assert_close(
        two.weights["encoder.patch_embed.proj.weight"], vit.patch_embed.proj.weight.detach(), rtol=1e-4, atol=1e-6
    )
    # 64 pixels are those of the pretraining; 16 in their place collect 16 times the flux
    scale = [value * (16 if task == "16to64" else 1) for value in transform.scale]
    for name in ("transform", "model"):
        assert one.about[name] == two.about[name], name
    assert one.about["transform"] == {"name": "asinh", "scale": pytest.approx(scale)}


def test_an_encoder_that_does_not_fit_is_refused(enlarge, pretrained, train):
    with pytest.raises(ConfigError, match=r"through asinh, and this run has minmax. Fix: --input-transform asinh"):
        enlarge(f"--encoder={pretrained}", "--input-transform=minmax")
    with pytest.raises(ConfigError, match=r"encoder is for images of shape \(1, 16, 16\)"):
        enlarge(f"--encoder={train('--steps=1', out='small')}")
    with pytest.raises(CheckpointError, match=r"is by trainers\.superres; give the run of a trainers\.mae"):
        enlarge(f"--encoder={enlarge(out='other')}")


def test_a_resumed_run_needs_no_encoder_and_loses_nothing(enlarge, pretrained, large_blobs):
    folder = enlarge(f"--encoder={pretrained}", "--steps=4", "--checkpoint-every=2", "--keep=4")
    losses = [row["loss"] for row in read_table(folder / "train.csv")]
    hidden = pretrained.with_name("hidden")
    pretrained.rename(hidden)
    try:
        assert superres.main(["--resume", str(folder / "checkpoints" / "step_000002")]) == 0
    finally:
        hidden.rename(pretrained)
    assert [row["loss"] for row in read_table(folder / "train.csv")] == losses


def test_a_stream_is_trained_on_by_optics_and_judged_again(enlarge, large_blobs, capsys):
    flags = ("--stream", "--preset=model_a", "--low=optics", "--batch-size=4", "--validation.test=15")
    folder = enlarge(*flags, side=None)
    about = read_checkpoint(folder).about
    assert about["model"]["image_shape"] == [1, 16, 16] and about["model"]["units"]["flux_ratio"] == 16
    before = json.loads((folder / "metrics.json").read_text())
    common = ["--evaluate-only", str(folder), "--accelerator=cpu"]
    assert superres.main(common) == 0
    again = json.loads((folder / "evaluation_001" / "metrics.json").read_text())
    assert again["data_range"] == before["data_range"]
    assert superres.main([*common, "--preset=model_b", "--validation.test=12"]) == 0
    other = json.loads((folder / "evaluation_002" / "metrics.json").read_text())
    assert other["data"]["preset"] == "model_b" and other["images"] == 12
    out = folder / "stored"
    assert superres.main([*common, "--data", str(large_blobs[64]), "--out", str(out)]) == 0
    stored = json.loads((out / "metrics.json").read_text())
    assert stored["images"] == 140 and stored["pairs"]["low"] == "downsample"
    # in the papers' convention the units of a set do not matter: block sums are right for a model of the optics
    assert stored["own_range"]["bicubic"]["psnr"]["value"] > 25
    with pytest.raises(ConfigError, match=r"holds a metrics\.json already"):
        superres.main([*common, "--data", str(large_blobs[64]), "--out", str(out)])


def test_an_evaluation_can_be_interrupted(enlarge, monkeypatch, capsys):
    folder = enlarge()

    def interrupted(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("trainers.superres_evaluation.score_tables", interrupted)
    assert superres.main(["--evaluate-only", str(folder), "--accelerator=cpu"]) == 130
    assert "interrupted; nothing was written" in capsys.readouterr().err
    assert not list(folder.glob("evaluation_*"))


def test_only_superresolution_can_be_evaluated(pretrained):
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.superres"):
        superres.main(["--evaluate-only", str(pretrained)])
    with pytest.raises(CheckpointError, match=r"by trainers\.mae, not by trainers\.superres"):
        superres.main(["--evaluate-only", str(pretrained), "--preset=model_a", "--accelerator=cpu"])
