"""Encoders that predict features, not pixels: `python -m trainers.jepa --stream --encoder physics`.

From a block of patches of a lens, out of which others are cut, the features of those are predicted (I-JEPA, Assran et
al. 2023, arXiv 2301.08243). The encoder is a plain ViT, one for small data sets, or one that rebuilds the source by the
lens equation (Lens-JEPA, ML4PS 2025). `trainers.classify --encoder RUN` goes on with it.
"""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from tqdm import tqdm

from trainers import jepa_evaluation
from trainers.checkpoint import load_weights, read_checkpoint
from trainers.collapse import collapse, spread
from trainers.command_line import exit_with_message, parse
from trainers.compact_source import CompactSource
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws, key_of
from trainers.encoder_evaluation import as_text, evaluate
from trainers.errors import ConfigError
from trainers.export import export_encoder
from trainers.jepa_config import JEPAConfig
from trainers.jepa_evaluation import learned_radii, lens_figures, prediction_figures, radius_figures
from trainers.jepa_figures import draw_loss, draw_masks
from trainers.logs import validations
from trainers.loop import Loop
from trainers.models.jepa import JEPA, NAMES, build, jepa_loss, restore
from trainers.models.lens_encoder import LensEncoder
from trainers.probes import in_chunks, probe
from trainers.relensed import require_no_lens_light
from trainers.seeing import draw_sources, some_of_each_class
from trainers.session import claim_folder, launch, say_how_to_resume, train
from trainers.ssl_figures import draw_probes
from trainers.summary import write_summary
from trainers.transform import InputTransform
from trainers.views import augmented

__all__ = ["JEPAConfig", "JEPATask", "main", "predict", "restore"]


class JEPATask:
    """Trains a `JEPA`; judges its target encoder by probes, and its predictions beside constant ones.

    Attributes:
        selects: the checkpoint of the best linear probe is the best; where there is one class, that of the greatest
            rank of the features, which needs no labels (Garrido et al. 2023, arXiv 2210.02885).
    """

    def __init__(self, config: JEPAConfig, data: Data, device: torch.device) -> None:
        require_hideable(data)
        self.config, self.data, self._device = config, data, device
        self._compact: CompactSource | None = None
        if config.compactness_weight:
            if data.benchmark is not None:
                require_no_lens_light("--compactness", data.benchmark.simulator.preset)
            self._compact = CompactSource(data, torch.cat((data.fit.image, data.score.image)))
        self.selects = "+linear_accuracy" if len(data.fit.label.unique()) > 1 else "+feature_rank"
        self.about: dict[str, Any] = {
            "trainer": "jepa",
            "model": {
                "name": NAMES[config.encoder],
                "image_shape": list(data.image_shape),
                "vit": dataclasses.asdict(config.vit),
                "predictor": dataclasses.asdict(config.predictor),
                "mask": dataclasses.asdict(config.mask),
            },
            "transform": data.transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        self.model: nn.Module = self._new_model()
        # always the same of all steps, and none that training uses
        self._fixed = self.jepa.masks(Draws(config.data.seed, -1, data.score.index))

    @property
    def jepa(self) -> JEPA:
        assert isinstance(self.model, JEPA)
        return self.model

    @property
    def lens_encoder(self) -> LensEncoder | None:
        """The target encoder, if it knows the lens equation."""
        return self.jepa.target if isinstance(self.jepa.target, LensEncoder) else None

    def _new_model(self) -> JEPA:
        """As it is before the first step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(self.config.data.seed, "weights"))
            return build(self.about["model"]).to(self._device)

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Of a batch, after the target encoder has followed the last step."""
        self.jepa.move_target(cosine_schedule(draws.step, draws.steps, self.config.momentum, 1.0))
        images = augmented(batch.image, self.data.transform, self.config.augment, draws)
        masks = self.jepa.masks(draws)
        outputs = forward(images, masks.context, masks.targets)
        loss = jepa_loss(outputs).mean()
        if self._compact is None:
            return loss
        # of the raw image, which d4 turns: theta_E is the same
        return loss + self.config.compactness_weight * self._compact.loss(batch.image, outputs["theta_E"]).mean()

    def remarks(self) -> list[str]:
        """What whoever gave the images should know of their sky, a line each."""
        return [] if self._compact is None else self._compact.remarks(self.config.data)

    def validate(self) -> dict[str, float]:
        """The loss under fixed masks and that of the mean token, probes, and how features are spread."""
        score, transform = self.data.score, self.data.transform
        found = prediction_figures(self.jepa, self.data, self._fixed) | probe(
            self.features, self.data.fit, score, self.data.targets, self.config.validation.neighbours
        )
        found |= spread(in_chunks(self.jepa.project, transform(score.image)))
        if (encoder := self.lens_encoder) is not None:
            found |= radius_figures(encoder, self.data)
            if self._compact is not None:
                radii = learned_radii(encoder, self.data, score.image)
                found["compactness"] = float(self._compact.loss(score.image, radii).mean())
        words = collapse(found, [row["projection_deviation"] for row in validations(self.config.run.out)])
        if words:
            tqdm.write(f"warning: {words}", file=sys.stderr)
        return {**found, "collapsed": float(bool(words))}

    def features(self, images: Tensor) -> Tensor:
        """The target encoder's, of raw images."""
        return self.jepa.features(self.data.transform(images))

    def test(self, folder: Path, path: Path) -> dict[str, Any]:
        """Judges a checkpoint on the test images, beside the untrained encoder; writes and returns `metrics.json`."""
        checkpoint = read_checkpoint(path)
        load_weights(self.model, checkpoint)
        self.model.eval()
        untrained = self._new_model().eval()
        *before, last = validations(folder)
        about: dict[str, Any] = {
            "checkpoint": str(checkpoint.path), "step": checkpoint.about["step"], "encoder": self.config.encoder,
            "collapsed": bool(last["collapsed"]), "last": last,
            "collapse": collapse(last, [row["projection_deviation"] for row in before]),
        }  # fmt: skip
        if self.lens_encoder is not None:
            about |= lens_figures(self.lens_encoder, self.data, folder)
        return evaluate(
            self.features,
            lambda images: untrained.features(self.data.transform(images)),
            self.data,
            self.config.validation.neighbours,
            folder,
            about,
            self.config.detectability,
        )

    def draw(self, folder: Path, lenses_per_class: int = 2) -> list[Path]:
        """Draws masks, loss, probes and, of an encoder that knows the lens equation, sources and k; returns files."""
        lenses = some_of_each_class(self.data, lenses_per_class)
        images = self.data.transform(lenses.image)
        masks = self.jepa.masks(Draws(self.config.data.seed, -1, lenses.index))
        files = [folder / f"{name}.png" for name in ("masks", "loss", "probes")]
        draw_masks(files[0], images[:, 0].cpu().numpy(), masks, self.jepa.patch_size, lenses.classes(self.data))
        draw_loss(files[1], folder, self.config.compactness_weight)
        draw_probes(files[2], folder, 1 / len(self.data.class_names))
        if self.lens_encoder is not None:
            with torch.no_grad():
                found = self.lens_encoder.explain(images)
            files += draw_sources(folder / "sources.png", self.lens_encoder, found, self.data, lenses)
        return files

    def export(self, folder: Path, step: int) -> Path | None:
        """Writes the target encoder for timm, into the run's folder `encoder`; None for one that is none of timm's."""
        if self.config.encoder != "vit":
            return None
        shape = self.data.image_shape
        return export_encoder(folder, self.jepa.target, "vit", self.config.vit, shape, self.about, step)


def require_hideable(data: Data) -> None:
    """Raises `ConfigError` of images that are not square, or divided by a peak that may be hidden."""
    _, height, width = data.image_shape
    if height != width:
        raise ConfigError(
            f"images are {height} x {width} pixels; masks take square ones: a preset with --set grid.size=64, or a "
            "stored set of [N,C,H,W], channels first."
        )
    preset = None if data.benchmark is None else data.benchmark.simulator.preset
    if preset is not None and preset.normalise != "none":
        raise ConfigError(
            f"images of --preset {preset.name} are divided by their own peak, hidden or not, which tells the context "
            "of the targets: give --set normalise=none."
        )


def predict(model: JEPA, transform: InputTransform, image: Tensor) -> Tensor:
    """Features `[B, D]` of images `[B, C, H, W]`: what `trainers.load` gives of a run."""
    return model.features(transform(image))


def main(argv: list[str] | None = None) -> int:
    """Trains as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    recipe = "jepa_gpu" if torch.cuda.is_available() else "jepa_cpu"
    config = parse(JEPAConfig, recipe, argv, prog="python -m trainers.jepa")
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        config = claim_folder(config, "jepa", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        data = open_data(
            config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank, fabric.world_size
        )
        task = JEPATask(config, data, fabric.device)
        loop = Loop(fabric, task, data.source, config)
        for words in task.remarks() if fabric.is_global_zero else ():
            print(words, file=sys.stderr)
        train(loop, checkpoint)
        if fabric.is_global_zero:
            best = loop.best
            with loop.writing():
                metrics = task.test(loop.folder, best)
                task.export(loop.folder, metrics["step"])
                figures = task.draw(loop.folder)
            write_summary(loop, data, figures, {name: metrics[name] for name in ("collapsed", "collapse")})
            print(as_text(metrics) + jepa_evaluation.as_text(metrics))
    except KeyboardInterrupt:
        say_how_to_resume("trainers.jepa", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
