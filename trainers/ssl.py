"""Encoders that teach themselves, without a label: `python -m trainers.ssl --stream --method byol --model resnet50`.

Two views of a lens are to be alike, and those of other lenses not, or not all the same (`trainers/self_supervision`:
a file a method). Views are augmentations of one image, or, by `--views simulate`, two images of the same lens and dark
matter that only a simulator can make. For lenses: Contrastive learning, BYOL, SimSiam and DINO, ML4PS at NeurIPS 2023.
"""

from __future__ import annotations

import dataclasses
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from lightly.utils.scheduler import cosine_schedule
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from tqdm import tqdm

from trainers.checkpoint import load_weights, read_checkpoint
from trainers.classify_evaluation import NO_STORED_DETECTABILITY
from trainers.collapse import MOST_PAIRS, collapse, geometry
from trainers.command_line import exit_with_message, parse
from trainers.config import require
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws, key_of
from trainers.encoder_evaluation import as_text, evaluate
from trainers.errors import ConfigError
from trainers.export import export_encoder
from trainers.gather import gathered
from trainers.logs import validations
from trainers.loop import Loop
from trainers.models.registry import OWN
from trainers.models.self_supervised import SelfSupervised, build, restore
from trainers.pairs import Change, no_stored_twins, views_of, with_twins
from trainers.probes import probe
from trainers.self_supervision.config import MethodConfig
from trainers.session import claim_folder, launch, say_how_to_resume, train
from trainers.ssl_figures import draw_loss, draw_probes, draw_views
from trainers.summary import write_summary
from trainers.transform import InputTransform
from trainers.views import Augmentation, augmented, require_square

_AT_A_TIME = 256  # images through an untrained network

__all__ = ["SSLConfig", "SSLTask", "main", "predict", "restore"]


@dataclass(frozen=True)
class SSLConfig(MethodConfig):
    """Let an encoder teach itself: two views of a lens are alike, those of others are not."""

    views: Literal["augment", "simulate"] = "augment"
    """Two augmentations of an image, or two simulated images of the same lens (with --stream)."""
    augment: Augmentation | None = None
    """How each of the two is augmented; None: as the method has it, and d4 with --views simulate."""
    change: tuple[str, ...] | None = None
    """Of --views simulate, what the second image has otherwise: source, lens_light, substructure, noise, psf, exposure,
    or lens (another one of the same class); None: source and noise, with --telescope noise alone."""
    telescope: str | None = None
    """Of --views simulate, the instrument that the second image is seen through."""
    detectability: int = 0
    """How many test images, the first ones, to simulate the detectability of their substructure for (slow)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require("detectability", self.detectability, 0)
        if self.views == "augment":
            for name in ("change", "telescope"):
                if getattr(self, name) is not None:
                    raise ConfigError(f"--{name} is of --views simulate; give that, or leave --{name} out.")
            if self.augment == "none":
                raise ConfigError("--augment none shows the same image twice; take another, or --views simulate.")
        elif self.data.data is not None:
            raise ConfigError(no_stored_twins(self.data.data))
        if self.detectability and self.data.data is not None:
            raise ConfigError(NO_STORED_DETECTABILITY)

    @property
    def augmentations(self) -> tuple[Augmentation, Augmentation]:
        """Of the two large views."""
        if self.augment is not None:
            return self.augment, self.augment
        return ("d4", "d4") if self.views == "simulate" else self._chosen.views

    @property
    def changes(self) -> Change:
        """Of the second image."""
        own = ("source", "noise") if self.telescope is None else ("noise",)
        return Change(own if self.change is None else self.change, self.telescope)


class SSLTask:
    """Trains a `SelfSupervised`; judges its encoder by probes, and the projections by whether they collapsed.

    Args:
        second: the transform of the second image of a pair; that of `data` where both are one.

    Attributes:
        selects: the checkpoint of the best linear probe is the best; where there is one class, that of the greatest
            rank of the features, which needs no labels (Garrido et al. 2023, arXiv 2210.02885).
    """

    def __init__(self, config: SSLConfig, data: Data, second: InputTransform, device: torch.device) -> None:
        if "d4" in config.augmentations:
            require_square(data.image_shape)
        self.config, self.data, self._transforms = config, data, (data.transform, second)
        self.selects = "+linear_accuracy" if len(data.fit.label.unique()) > 1 else "+feature_rank"
        self.about: dict[str, Any] = {
            "trainer": "ssl",
            "model": {
                "name": config.model,
                "image_shape": list(data.image_shape),
                "vit": dataclasses.asdict(config.vit),
                "method": config.method,
                "heads": dataclasses.asdict(config.heads),
                "options": config.options,
            },
            "transform": data.transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        self._device = device
        self.model: nn.Module = self._new_model()

    @property
    def learner(self) -> SelfSupervised:
        assert isinstance(self.model, SelfSupervised)
        return self.model

    def _new_model(self) -> SelfSupervised:
        """As it is before the first step."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(key_of(self.config.data.seed, "weights"))
            return build(self.about["model"]).to(self._device)

    def _untrained(self) -> SelfSupervised:
        """As it is before the first step, but that its batch norms know the mean and deviation of what they see."""
        model = self._new_model()
        update_bn(self.data.transform(self.data.fit.image).split(_AT_A_TIME), model.encoder)
        return model.eval()

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """The method's loss of the whole batch of all processes, after its teacher has followed the last step."""
        options = self.config.options
        if "momentum" in options:
            self.learner.move_teacher(cosine_schedule(draws.step, draws.steps, options["momentum"], 1.0))
        outputs = {name: gathered(value, dim=1) for name, value in forward(self.views(batch, draws)).items()}
        return self.learner.method.loss(self.learner.criterion, outputs, options, draws)

    def views(self, batch: Batch, draws: Draws, small: bool = True) -> list[Tensor]:
        """Transformed views `[B, C, H, W]` of a batch: two large ones, then the small ones, of both images in turn."""
        pair = tuple(zip(views_of(batch), self._transforms, strict=True))
        names = list(self.config.augmentations)
        names += ["local"] * int(small and self.config.options.get("local_views", 0))
        return [augmented(*pair[view % 2], name, draws, view) for view, name in enumerate(names)]

    def held_out_pair(self, batch: Batch) -> list[Tensor]:
        """The large views, always the same ones of an image, and none that training uses."""
        return self.views(batch, Draws(self.config.data.seed, -1, batch.index), small=False)

    def features(self, images: Tensor) -> Tensor:
        """The encoder's, of raw images."""
        return self.learner.features(self.data.transform(images))

    def validate(self) -> dict[str, float]:
        """The probes of the encoder, and how the projections of two views of the `score` images lie."""
        found = probe(
            self.features, self.data.fit, self.data.score, self.data.targets, self.config.validation.neighbours
        )
        found |= geometry(self.learner.project, self.held_out_pair(self.data.score))
        words = collapse(found, [row["projection_deviation"] for row in validations(self.config.run.out)])
        if words:
            tqdm.write(f"warning: {words}", file=sys.stderr)
        return {**found, "collapsed": float(bool(words))}

    def test(self, folder: Path, path: Path) -> dict[str, Any]:
        """Judges a checkpoint on the test images, beside the untrained encoder; writes and returns `metrics.json`."""
        checkpoint = read_checkpoint(path)
        load_weights(self.model, checkpoint)
        *before, last = validations(folder)
        about = {
            "checkpoint": str(checkpoint.path), "step": checkpoint.about["step"], "method": self.config.method,
            "collapsed": bool(last["collapsed"]), "last": last,
            "collapse": collapse(last, [row["projection_deviation"] for row in before]),
            **geometry(self.learner.project, self.held_out_pair(next(self.data.test(MOST_PAIRS)))),
        }  # fmt: skip
        untrained = self._untrained()
        return evaluate(
            self.features,
            lambda images: untrained.features(self.data.transform(images)),
            self.data,
            self.config.validation.neighbours,
            folder,
            about,
            self.config.detectability,
        )

    def draw(self, folder: Path, lenses: int = 6) -> list[Path]:
        """Draws views of validation images, the loss and the probes; returns the files."""
        batch, transform = self.data.score, self.data.transform
        views = self.views(batch, Draws(self.config.data.seed, -1, batch.index))
        names = [self.data.class_names[label] for label in batch.label[:lenses].tolist()]
        images, *shown = (part[:lenses, 0].cpu().numpy() for part in (transform(batch.image[:lenses]), *views))
        unit = "asinh(flux / noise)" if transform.name == "asinh" else "each image from 0 to 1"
        made = " and ".join(dict.fromkeys(self.config.augmentations))
        heading = f"{self.config.method}: {made}"
        if self.config.views == "simulate":
            change = self.config.changes
            heading += f" of twins with another {', '.join((*change.parts, change.telescope or ''))}".rstrip(", ")
        files = [folder / f"{name}.png" for name in ("views", "loss", "probes")]
        draw_views(files[0], images, shown, names, heading, unit)
        draw_loss(files[1], folder, self.config.method)
        draw_probes(files[2], folder, 1 / len(self.data.class_names))
        return files

    def export(self, folder: Path, step: int) -> Path | None:
        """Writes the encoder for timm, into the run's folder `encoder`; None for one that is none of timm's."""
        name, config = self.config.model, self.config
        if name in OWN and name != "vit":
            return None
        return export_encoder(folder, self.learner.encoder, name, config.vit, self.data.image_shape, self.about, step)


def predict(model: SelfSupervised, transform: InputTransform, image: Tensor) -> Tensor:
    """Features `[B, F]` of images `[B, C, H, W]`: what `trainers.load` gives of a run."""
    return model.features(transform(image))


def main(argv: list[str] | None = None) -> int:
    """Trains as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    recipe = "ssl_gpu" if torch.cuda.is_available() else "ssl_cpu"
    config = parse(SSLConfig, recipe, argv, prog="python -m trainers.ssl")
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        config = claim_folder(config, "ssl", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        data = open_data(
            config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank, fabric.world_size
        )
        second = data.transform
        if config.views == "simulate":
            data, second = with_twins(data, config.data, config.changes)
        task = SSLTask(config, data, second, fabric.device)
        loop = Loop(fabric, task, data.source, config)
        train(loop, checkpoint)
        if fabric.is_global_zero:
            best = loop.best
            with loop.writing():
                metrics = task.test(loop.folder, best)
                task.export(loop.folder, metrics["step"])
                figures = task.draw(loop.folder)
            write_summary(loop, data, figures, {name: metrics[name] for name in ("collapsed", "collapse")})
            print(as_text(metrics))
    except KeyboardInterrupt:
        say_how_to_resume("trainers.ssl", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
