"""What kind of dark matter is in a lens, by networks that know the lens equation: `python -m trainers.pinn --stream`.

LensPINN (ML4PS 2024) compares an image with the source that it rebuilds from it, Lensformer (ML4PS 2023) does so with
tokens. The rebuilt source teaches them next to nothing of the lens: what is easily told apart needs no right source.
So beside the class there is a loss of the lens itself, which needs no true parameters either: that the source be
compact, and, on simulated images, that it lensed again be the image. Both networks are new ones, never pretrained.
The best checkpoint on the validation images is judged, once, on test images, and shown at work.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from trainers.checkpoint import Checkpoint, load_weights, read_checkpoint
from trainers.classification import ClassificationTask, prediction_options
from trainers.command_line import exit_with_message, parse
from trainers.data import Batch, Data, open_data
from trainers.draws import Draws
from trainers.einstein_radius import Radii, true_radii
from trainers.finetune import Origin, finetune, open_origin
from trainers.loop import Loop
from trainers.models.classifier import predict
from trainers.models.encoders import Encoder
from trainers.models.heads import CHUNK
from trainers.models.lensformer import Lensformer
from trainers.models.lenspinn import LensPINN
from trainers.models.physics.compactness import SEEN, compactness, seen, sky
from trainers.models.pinn import build_pinn, restore
from trainers.pinn_config import PinnConfig
from trainers.pinn_figures import draw_radii
from trainers.pinn_seeing import draw_seen
from trainers.relensed import Relensed, require_no_lens_light
from trainers.session import claim_folder, launch, say_how_to_resume

__all__ = ["PinnConfig", "PinnTask", "main", "predict", "prediction_options", "restore"]

NOISIER = 1.25  # than the input scale: with less compactness is as good, and 16 pixels of sky say it no better


class PinnTask(ClassificationTask[PinnConfig]):
    """A `ClassificationTask` with losses of the lens.

    Attributes:
        steps: how many the run has, which `--minutes` fixes after the task is made.
        on_trial: whether steps are only timed, to see how many fit into `--minutes`.
    """

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
        self.steps: Callable[[], int] = lambda: config.run.steps
        self.on_trial: Callable[[], bool] = lambda: False
        self._noise = data.fit.image.new_tensor(self.data.transform.scale).view(-1, 1, 1)
        level, noise = (found.median(0).values for found in sky(self._held_out))
        # decided once for the set: the few pixels in the corners of one image would say it too roughly
        self._noisier = bool((noise > NOISIER * self._noise).any())
        self._bright_sky = bool((level > SEEN * torch.maximum(noise, self._noise)).any())
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
        # steps on trial are to take as long as the later ones
        late = self.on_trial() or draws.step >= self.config.physics_after * self.steps()
        for name, part in self.lens_losses(batch.image, batch.params, found.theta_E, late).items():
            total = total + self.config.weights[name] * part.mean()
        return total

    def lens_losses(
        self, images: Tensor, params: Mapping[str, Tensor], theta_E: Tensor, late: bool = True
    ) -> dict[str, Tensor]:
        """Those that have a weight, `[B]` each.

        Compactness is that of the raw images, in units of their noise, whatever transform and augmentation show the
        network: an image from 0 to 1 does not say what in it is sky. The noise is the input scale, or where the set is
        noisier than that says (which is 1 % of the peak, where images were divided by theirs, or a stored set does
        not say it) that of each image's own sky.

        Args:
            images: `[B, C, H, W]`, as they were simulated.
            params: of the images.
            theta_E: `[B]`, in pixels; which survives the augmentation.
            late: whether chi-square's time has come; before it is none of them.
        """
        found = {}
        if "compactness" in self.config.weights:
            noise = torch.maximum(sky(images)[1], self._noise) if self._noisier else self._noise
            found["compactness"] = compactness(seen(images / noise), theta_E)
        if self._relensed is not None and late:
            found["chi_square"] = self._relensed.chi_square(images, params, theta_E)
        return found

    def remarks(self) -> list[str]:
        """What whoever gave the images should know of their sky, a line each."""
        if "compactness" not in self.config.weights:
            return []
        source = self.config.data
        images = f"--preset {source.preset}" if source.data is None else f"--data {source.data}"
        found = []
        if self._noisier:
            found.append(
                f"note: the sky of {images} is noisier than its input scale, which is 1 % of the peak where nobody "
                "says it; compactness takes the noise that each image has in its corners. A stored set says it by "
                "input_scale = the sky noise."
            )
        if self._bright_sky:
            found.append(
                f"warning: the corners of the images of {images} are not dark, and compactness takes all light for the "
                "source's: subtract sky and lens light, or give --compactness 0."
            )
        return found

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
        radii = self._test_radii() if self.config.physics else None
        files = self.evaluate(folder, checkpoint, {} if radii is None else radii.figures())
        if radii is not None:
            print(f"  {radii}")
            np.savez(folder / "theta_E.npz", index=radii.index, learned=radii.learned, true=radii.true)
            files.append(folder / "theta_E.png")
            draw_radii(files[-1], radii)
        return files + draw_seen(self.network, self.data, folder)

    def _test_radii(self) -> Radii | None:
        """Of all test images."""
        parts = [(self.learned_radii(batch.image), batch.params, batch.index) for batch in self.data.test()]
        learned, params, index = zip(*parts, strict=True)
        columns = {name: torch.cat([own[name] for own in params]) for name in params[0]}
        return Radii.of(torch.cat(learned), true_radii(columns, self.data), torch.cat(index), self.data.pixel_scale)


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
        loop = made = Loop(fabric, task, data.source, config)
        begun = made.config
        task.steps = lambda: made.config.run.steps
        # a new run's loop takes another configuration when it knows its number of steps
        task.on_trial = lambda: checkpoint is None and made.config is begun
        for words in task.remarks() if fabric.is_global_zero else ():
            print(words, file=sys.stderr)
        finetune(loop, task, data, checkpoint)
    except KeyboardInterrupt:
        say_how_to_resume("trainers.pinn", loop, config.resume)
        return 130
    return 0


if __name__ == "__main__":
    exit_with_message(main)
