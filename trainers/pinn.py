"""What kind of dark matter is in a lens, by networks that know the lens equation: `python -m trainers.pinn --stream`.

LensPINN (ML4PS 2024) compares an image with the source that it rebuilds from it, Lensformer (ML4PS 2023) does so with
tokens. The rebuilt source teaches them next to nothing of the lens: what is easily told apart needs no right source.
So beside the class there is a loss of the lens itself, which needs no true parameters either: that the source be
compact, and, on simulated images, that it lensed again be the image. Both networks are new ones, never pretrained.
The best checkpoint on the validation images is judged, once, on test images, and shown at work.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.checkpoint import Checkpoint, load_weights, read_checkpoint
from trainers.classification import ClassificationTask, prediction_options
from trainers.command_line import exit_with_message, parse
from trainers.compact_source import CompactSource
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws
from trainers.einstein_radius import Radii, test_radii, true_radii
from trainers.finetune import Origin, finetune, open_origin
from trainers.loop import Loop
from trainers.models.classifier import predict
from trainers.models.encoders import Encoder
from trainers.models.heads import CHUNK
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import LensPINN
from trainers.models.pinn import build_pinn, restore
from trainers.pinn_config import PinnConfig
from trainers.pinn_figures import draw_radii
from trainers.pinn_seeing import draw_seen
from trainers.relensed import Relensed, require_no_lens_light
from trainers.session import claim_folder, launch, say_how_to_resume

__all__ = ["PinnConfig", "PinnTask", "main", "predict", "prediction_options", "restore"]


class PinnTask(ClassificationTask[PinnConfig]):
    """A `ClassificationTask` with losses of the lens."""

    trainer = "pinn"

    def __init__(self, config: PinnConfig, data: Data, device: torch.device, origin: Origin) -> None:
        self._relensed: Relensed | None = None
        if data.benchmark is not None and config.weights:
            preset = data.benchmark.simulator.preset
            if "compactness" in config.weights:
                require_no_lens_light("--compactness", preset)
            if "chi_square" in config.weights:
                self._relensed = Relensed(preset)
        super().__init__(config, data, device, origin)
        self._compact = CompactSource(self.data, self._held_out)
        both = (data.fit.params, data.score.params)
        self._held_out_params = {name: torch.cat([own[name] for own in both]) for name in both[0] if name in both[1]}
        self._held_out_index = torch.cat([data.fit.index, data.score.index])

    @property
    def network(self) -> LensPINN | Lensformer:
        assert isinstance(self.model, LensPINN | Lensformer)
        return self.model

    def description(self, data: Data, encoder: Encoder | None) -> dict[str, Any]:
        config = self.config
        return {
            "name": config.model,
            "image_shape": list(data.image_shape),
            "classes": len(data.class_names),
            "method": "finetune",
            "options": config.options,
        }

    def build(self, description: Mapping[str, Any], pretrained: bool) -> nn.Module:
        network = build_pinn(description)
        if self.config.hard:
            # several processes wait for the gradient of all that is to be trained, and here none ever comes
            lens = network.radius if isinstance(network, LensPINN) else network.correction
            assert lens is not None, "--hard without physics is refused"
            lens.requires_grad_(False)
        return network

    def loss(self, forward: nn.Module, batch: Batch, draws: Draws) -> Tensor:
        """Cross entropy of a batch, and the losses of the lens, each times its weight."""
        if not self.config.weights:
            return super().loss(forward, batch, draws)
        found = forward(self.shown(batch, draws), explained=True)
        total = self.cross_entropy(found.outputs, batch)
        late = draws.step >= self.config.physics_after * draws.steps
        for name, part in self.lens_losses(batch.image, batch.params, found.theta_E, late).items():
            total = total + self.config.weights[name] * part.mean()
        return total

    def lens_losses(
        self, images: Tensor, params: Mapping[str, Tensor], theta_E: Tensor, late: bool = True
    ) -> dict[str, Tensor]:
        """Those that have a weight, `[B]` each.

        Args:
            images: `[B, C, H, W]`, as they were simulated.
            params: of the images.
            theta_E: `[B]`, in pixels; which survives the augmentation.
            late: whether chi-square's time has come; before it is none of them.
        """
        found = {}
        if "compactness" in self.config.weights:
            found["compactness"] = self._compact.loss(images, theta_E)
        if self._relensed is not None and late:
            found["chi_square"] = self._relensed.chi_square(images, params, theta_E)
        return found

    def remarks(self) -> list[str]:
        """What whoever gave the images should know of their sky, a line each."""
        return self._compact.remarks(self.config.data) if "compactness" in self.config.weights else []

    def validate(self) -> dict[str, float]:
        """As of all classifiers, the losses of the lens that have a weight, and how well theta_E is known."""
        figures = super().validate()
        if not self.config.physics:
            return figures
        theta_E = self.learned_radii(self._held_out)
        parts: list[dict[str, Tensor]] = []
        for rows in torch.arange(len(theta_E), device=theta_E.device).split(CHUNK):
            params = {name: column[rows] for name, column in self._held_out_params.items()}
            with torch.no_grad():
                parts.append(self.lens_losses(self._held_out[rows], params, theta_E[rows]))
        figures |= {name: float(torch.cat([part[name] for part in parts]).mean()) for name in parts[0]}
        true = true_radii(self._held_out_params, self.data)
        radii = Radii.of(theta_E, true, self._held_out_index, self.data.pixel_scale)
        return figures if radii is None else figures | radii.figures()

    def learned_radii(self, images: Tensor) -> Tensor:
        """Of raw images `[N, C, H, W]`, in pixels, `[N]`, without gradients."""
        with torch.no_grad():
            return torch.cat([self.network.einstein_radius(self.data.transform(part)) for part in images.split(CHUNK)])

    def test(self, folder: Path, checkpoint: Checkpoint) -> list[Path]:
        """As of all classifiers; and how well theta_E is known, in `theta_E.npz` and figures."""
        load_weights(self.model, checkpoint)
        self.model.eval()
        radii = test_radii(self.learned_radii, self.data) if self.config.physics else None
        files = self.evaluate(folder, checkpoint, {} if radii is None else radii.figures())
        if radii is not None:
            print(f"  {radii}")
            np.savez(folder / "theta_E.npz", index=radii.index, learned=radii.learned, true=radii.true)
            files.append(folder / "theta_E.png")
            draw_radii(files[-1], radii)
        return files + draw_seen(self.network, self.data, folder)


def main(argv: list[str] | None = None) -> int:
    """Trains as the command line says; returns the exit status: 0, or 130 after Ctrl-C."""
    recipe = "pinn_gpu" if torch.cuda.is_available() else "pinn_cpu"
    config = parse(PinnConfig, recipe, argv, prog="python -m trainers.pinn")
    loop: Loop | None = None
    try:
        fabric = launch(config.run)
        config = claim_folder(config, "pinn", fabric)
        checkpoint = None if config.resume is None else read_checkpoint(config.resume)
        data = open_data(
            config.data, config.validation, config.run.batch_size, fabric.device, fabric.global_rank, fabric.world_size
        )
        config, origin = open_origin(config, data, checkpoint)
        task = PinnTask(config, data, fabric.device, origin)
        loop = Loop(fabric, task, data.source, config)
        for words in task.remarks() if fabric.is_global_zero else ():
            print(words, file=sys.stderr)
        finetune(loop, task, data, checkpoint)
    except KeyboardInterrupt:
        say_how_to_resume("trainers.pinn", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
