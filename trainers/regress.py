"""A parameter of lenses and its uncertainty: `python -m trainers.regress --target axion_mass --stream [--encoder RUN]`.

A pretrained encoder or a new network is fine-tuned, or stays frozen under a linear layer; its outputs are mean and
log-variance of a Gaussian of the standardised target, by maximum likelihood (Nix & Weigend 1994). Only images of the
class that has the target are shown. Mean and deviation that standardise it are those of the validation images `fit`,
which are draws of the same prior, and are kept in the checkpoint. The best checkpoint on the validation images is
judged, once, on test images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from trainers.checkpoint import Checkpoint, load_weights, read_checkpoint
from trainers.command_line import exit_with_message, parse
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws
from trainers.errors import ConfigError
from trainers.finetune import FinetuneConfig, Origin, begin, describe, finetune, open_origin
from trainers.frozen import FrozenImages
from trainers.loop import Loop
from trainers.models.heads import in_chunks
from trainers.models.regressor import (
    Method,
    Scaling,
    build_regressor,
    estimates,
    gaussian_nll,
    predict,
    prediction_options,
    restore,
)
from trainers.regress_evaluation import evaluate
from trainers.session import claim_folder, launch, say_how_to_resume
from trainers.targets import find_target
from trainers.views import Augmentation, augmented, require_square

__all__ = ["RegressConfig", "RegressTask", "main", "predict", "prediction_options", "restore"]


@dataclass(frozen=True)
class RegressConfig(FinetuneConfig):
    """Learn a parameter of lenses and how well it is known, and test it on lenses that were never seen."""

    target: str = "axion_mass"
    """What to predict: axion_mass (log10, of class axion), theta_E, e1, e2; or the parameter's whole name."""
    method: Method = "finetune"
    """Train everything, or a linear layer on frozen features."""

    def __post_init__(self) -> None:
        super().__post_init__()
        target = find_target(self.target)
        if not target.survives(self.augment):
            allowed = [name for name in get_args(Augmentation) if target.survives(name)]
            raise ConfigError(
                f"--augment {self.augment} shows images for which {target.name} is another; allowed: "
                f"{', '.join(allowed)}."
            )


class RegressTask:
    """Trains a regressor by maximum likelihood; judges it by likelihood, error and coverage.

    Args:
        config: with the options of the encoder.
        data: of the class that has the target.
        origin: what it begins with; where a run is gone on with the model is built as it was.

    Attributes:
        selects: the checkpoint of the least negative log-likelihood is the best.
        data: with the transform of the encoder, if there is one.
        target: what is predicted.
    """

    selects = "-nll"

    def __init__(
        self,
        config: RegressConfig,
        data: Data,
        device: torch.device,
        origin: Origin,
    ) -> None:
        if config.augment == "d4":
            require_square(data.image_shape)
        self.config, self.target = config, find_target(config.target)
        saved = origin.saved
        if saved is None:
            description = describe(config, data, origin.encoder) | {"method": config.method, "targets": 1}
            self._scaling = self._scaling_of(data.fit)
        else:
            description, self._scaling = saved["model"], Scaling.of_checkpoint(saved)
        self.model, transform = begin(
            config, data, device, lambda pretrained: build_regressor(description, pretrained), origin
        )
        self.data = dataclasses.replace(data, transform=transform)
        self.about: dict[str, Any] = {
            "trainer": "regress",
            "model": description,
            "targets": [self.target.name],
            "scaling": dataclasses.asdict(self._scaling),
            "transform": transform.as_json(),
            "data": data.identity,
            "class_names": list(data.class_names),
        }
        # no more than the scaling was learnt from any of them, so that all can score
        self._held_out = torch.cat([data.fit.image, data.score.image])
        self._truth = torch.cat([self.target.of(data.fit.params), self.target.of(data.score.params)])

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Negative log-likelihood of a batch, whose images are augmented as `draws` says."""
        images = augmented(batch.image, self.data.transform, self.config.augment, draws)
        return gaussian_nll(forward(images), self._scaling.standardise(self.target.of(batch.params)[:, None]))

    def validate(self) -> dict[str, float]:
        """Of all validation images `nll`, `rmse` (its name ends in _dex for decades), and `coverage_68`."""
        outputs = in_chunks(self.model, self.data.transform(self._held_out))
        nll = gaussian_nll(outputs, self._scaling.standardise(self._truth[:, None]))
        mean, sigma = estimates(outputs, self._scaling)[:, 0].unbind(dim=1)
        error = self._truth - mean
        return {
            "nll": float(nll),
            f"rmse{self.target.suffix}": float(error.square().mean().sqrt()),
            "coverage_68": float((error.abs() < sigma).double().mean()),
        }

    def test(self, folder: Path, checkpoint: Checkpoint) -> list[Path]:
        """Judges a checkpoint's weights on the test images; writes `metrics.json` and figures; returns the figures."""
        load_weights(self.model, checkpoint)
        return evaluate(
            self.model,
            self.data.transform,
            self._scaling,
            self.target,
            FrozenImages.held_out(self.data),
            folder,
            {"checkpoint": str(checkpoint.path), "step": checkpoint.about["step"], "method": self.config.method},
        )

    def _scaling_of(self, fit: Batch) -> Scaling:
        scaling = Scaling.of(self.target.of(fit.params)[:, None])
        if not scaling.deviation[0]:
            raise ConfigError(
                f"{self.target.parameter} is {float(fit.params[self.target.parameter][0]):g} for all images: there is "
                f"nothing to learn. Take a preset in which it varies, or another --target."
            )
        return scaling


def main(argv: list[str] | None = None) -> int:
    """Trains as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    recipe = "regress_gpu" if torch.cuda.is_available() else "regress_cpu"
    config = parse(RegressConfig, recipe, argv, prog="python -m trainers.regress")
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        config = claim_folder(config, "regress", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        data = open_data(
            config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank,
            fabric.world_size, label=find_target(config.target).label,
        )  # fmt: skip
        config, origin = open_origin(config, data, checkpoint)
        task = RegressTask(config, data, fabric.device, origin)
        task.about |= origin.about
        loop = Loop(fabric, task, data.source, config)
        finetune(loop, task, data, checkpoint)
    except KeyboardInterrupt:
        say_how_to_resume("trainers.regress", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
