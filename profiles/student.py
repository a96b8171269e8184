"""Two small networks that learn to tell systems with substructure from their partners.

The partner of an image is the same lens and source without substructure, under other noise. One network guesses the
smooth lens of an image, from where a fit goes on (profiles.smooth_fit); the other judges what the fit leaves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from lensgen.draw import Systems, draw
from lensgen.errors import require_number, require_whole
from lensgen.observation import Noise
from lensgen.preset import Preset
from lensgen.render import render
from lensgen.rng import MAX_SEED, RandomSource
from lensgen.simulator import Simulator
from profiles.smooth_fit import Guess, SmoothModel
from trainers.models.cnn import SmallCNN

AT_A_TIME = 64  # systems whose derivatives are in memory
T = TypeVar("T")


@dataclass(frozen=True)
class Lessons:
    """How a student learns."""

    guesses: int = 30_000
    """Images that the network which guesses smooth lenses trains on, each seen once."""
    pairs: int = 3_000
    """Pairs that the network which judges trains on."""
    epochs: int = 6
    """Times that it sees them, turned and mirrored."""
    fit_steps: int = 6
    """Gauss-Newton steps of a smooth fit."""
    batch: int = 32
    """Pairs a step of either training."""
    width: int = 16
    """Channels of the judge's first layer."""
    learning_rate: float = 2e-3
    """The highest, of AdamW."""

    def __post_init__(self) -> None:
        for name in ("guesses", "pairs", "epochs", "fit_steps", "batch", "width"):
            require_whole(f"--lessons.{name.replace('_', '-')}", getattr(self, name), 1, 10**7)
        require_number("--lessons.learning-rate", self.learning_rate, 1e-6, 1.0)


def bar(parts: Iterable[T], what: str) -> Iterable[T]:
    """A progress bar on stderr."""
    return tqdm(parts, desc=what, dynamic_ncols=True)


@dataclass(frozen=True)
class Pairs:
    """Systems, and their images `[B, 2, P]`: with their substructure, and without it under other noise."""

    systems: Systems
    image: Tensor

    @property
    def exposure(self) -> Tensor:
        """`[B]`, s."""
        return self.systems.exposure[0]


def make_pairs(preset: Preset, random: RandomSource, index: Tensor) -> Pairs:
    """The pairs of systems `index` `[B]`."""
    systems, band = draw(preset, random, index), preset.bands[0]
    other = RandomSource(MAX_SEED - random.seed, random.split)
    images = [
        render(scene, band.observation, Noise(preset.recipe, band.detector, systems.exposure[0], source, index))
        for scene, source in ((systems.scene, random), (systems.smooth, other))
    ]
    return Pairs(systems, torch.stack(images, 1).flatten(2))


class Judge(SmallCNN):
    """Views `[B, 2, H, W]` -> logit of there being substructure `[B]`."""

    def __init__(self, width: int) -> None:
        super().__init__(channels=2, outputs=1, width=width)

    def forward(self, view: Tensor) -> Tensor:
        return super().forward(view).squeeze(1)


class Student:
    """Both networks of one seed.

    Args:
        lessons: how they learn.
        model: smooth lenses of the preset.
        simulator: of the same preset, split "train"; its seed is also that of the weights and of the order of pairs.
    """

    def __init__(self, lessons: Lessons, model: SmoothModel, simulator: Simulator) -> None:
        torch.manual_seed(simulator.random.seed)
        self.lessons, self.model, self.simulator = lessons, model, simulator
        self.random, self.seed = simulator.random, simulator.random.seed
        self.size, (self.scale,) = simulator.image_shape[-1], simulator.input_scale
        self.guess = Guess(self.size, self.scale, len(model.names))
        self.judge = Judge(lessons.width)

    def learn_to_guess(self) -> None:
        """Regression of smooth lenses on images with and without substructure, each seen once."""
        steps = max(1, self.lessons.guesses // (2 * self.lessons.batch))
        descent = Descent(self.guess, self.lessons.learning_rate, steps)
        for step in bar(range(steps), f"seed {self.seed}: guess"):
            first = step * self.lessons.batch
            pairs = make_pairs(self.model.preset, self.random, torch.arange(first, first + self.lessons.batch))
            truth = self.model.vector(pairs.systems.smooth)[:, None].expand(-1, 2, -1)
            descent(F.smooth_l1_loss(self.guess(pairs.image.flatten(0, 1)), truth.flatten(0, 1)))
        self.guess.eval()

    @torch.no_grad()
    def views(self, random: RandomSource, index: Tensor, what: str) -> Tensor:
        """What the judge sees of the pairs of `index` `[B]`: `[B, 2, 2, H, W]`."""
        found = []
        for part in bar(index.split(AT_A_TIME), f"seed {self.seed}: {what}"):
            pairs = make_pairs(self.model.preset, random, part)
            image, exposure = pairs.image.flatten(0, 1), pairs.exposure.repeat_interleave(2)
            left = self.model.left(image, exposure, self.guess(image), self.lessons.fit_steps)
            both = torch.stack([torch.asinh(left), 0.5 * torch.asinh(image / self.scale)], 1)
            found.append(both.view(len(part), 2, 2, self.size, self.size))
        return torch.cat(found)

    def learn_to_judge(self, views: Tensor) -> Iterator[float]:
        """After each epoch over `views` `[N, 2, 2, H, W]` the mean loss."""
        epochs, batch = self.lessons.epochs, self.lessons.batch
        descent = Descent(self.judge, self.lessons.learning_rate, epochs * -(-len(views) // batch))
        for epoch in range(epochs):
            self.judge.train()
            losses = []
            for part in bar(torch.randperm(len(views)).split(batch), f"seed {self.seed}: judge, epoch {epoch + 1}"):
                seen = views[part].flatten(0, 1).rot90(int(torch.randint(4, ())), (2, 3))
                seen = seen.flip(3) if torch.rand(()) < 0.5 else seen
                truth = torch.tensor([1.0, 0.0]).repeat(len(part))
                losses.append(descent(F.binary_cross_entropy_with_logits(self.judge(seen), truth)))
            yield sum(losses) / len(losses)

    @torch.no_grad()
    def right(self, views: Tensor) -> Tensor:
        """The fraction of each pair that is told rightly `[N]`: 0, 1/2 or 1."""
        self.judge.eval()
        logit = torch.cat([self.judge(part.flatten(0, 1)).view(-1, 2) for part in views.split(AT_A_TIME)])
        return torch.stack([logit[:, 0] > 0.0, logit[:, 1] <= 0.0], 1).float().mean(1)


class Descent:
    """Steps of AdamW, the learning rate rising over the first few and then falling in a line to nothing."""

    def __init__(self, net: nn.Module, highest: float, steps: int) -> None:
        self.optimizer = torch.optim.AdamW(net.parameters(), highest, weight_decay=0.05)
        self.schedule = torch.optim.lr_scheduler.LambdaLR(
            self.optimizer, lambda step: min(1.0, (step + 1) / 30) * (1.0 - step / steps)
        )

    def __call__(self, loss: Tensor) -> float:
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss.item()
