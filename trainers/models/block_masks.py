"""Block masks of I-JEPA (Assran et al. 2023, arXiv 2301.08243, appendix A.1), for a whole batch at once on its device.

Of each image a few target blocks are predicted from a context block out of which the targets are cut. The lengths are
the same for all images and steps, so that nothing is padded and `torch.compile` compiles once:

- of a target block that is larger than the smallest possible one, a random part of that size is predicted; all of it is
  hidden;
- the context has the number of patches that three of four random draws leave. Draws that leave fewer are drawn again;
  of one that leaves more a random part is shown. (The public code cuts all contexts of a batch to the smallest among
  them, and always at the bottom of the image.)
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainers.config import require
from trainers.draws import Draws
from trainers.errors import ConfigError

DRAWS = 12  # of the targets of an image, of which the first that leaves enough is taken: 11 fail for one in 4e6
SHARE = 0.25  # of draws that leave less than the context's length
_TRIED = 4096  # draws from which that length is found


@dataclass(frozen=True)
class BlockMaskConfig:
    """The blocks of patches."""

    targets: int = 4
    """Target blocks of an image."""
    target_scale: tuple[float, float] = (0.15, 0.2)
    """Least and largest share of the image's patches in a target block."""
    aspect: tuple[float, float] = (0.75, 1.5)
    """Least and largest height of a target block in units of its width."""
    context_scale: tuple[float, float] = (0.85, 1.0)
    """Likewise of the context block, before the targets are cut out of it; its sides differ by a patch at most."""

    def __post_init__(self) -> None:
        require("mask.targets", self.targets, 1, 16)
        for name, low, high in (("target_scale", 0, 0.9), ("aspect", 0.05, 20), ("context_scale", 0.05, 1)):
            ends = getattr(self, name)
            if not low <= ends[0] <= ends[1] <= high:
                raise ConfigError(f"mask.{name} is {ends[0]:g} {ends[1]:g}; allowed: {low:g} to {high:g}, rising.")


class Masks(NamedTuple):
    """Numbers of patches, row by row, of B images.

    Attributes:
        context: `[B, K]`, all different, in a random order.
        targets: `[B, M, L]`, of each of M blocks; blocks may overlap one another, and never the context.
        hidden: `[B, M, G, G]`, the whole target blocks on the grid of patches.
    """

    context: Tensor
    targets: Tensor
    hidden: Tensor


class BlockMasks(nn.Module):
    """A sampler of masks; a module, so that the shapes of its blocks are where its model is.

    Args:
        grid: patches a side, G.
        config: the blocks.

    Attributes:
        target_shapes, context_shapes: height and width of all blocks that the scales allow, int64 `[N, 2]`.
        target_length, context_length: L and K.

    Raises:
        ConfigError: no block of whole patches has these scales, or targets leave no context.
    """

    target_shapes: Tensor
    context_shapes: Tensor

    def __init__(self, grid: int, config: BlockMaskConfig) -> None:
        super().__init__()
        self.grid, self.config = grid, config
        every = list(itertools.product(range(1, grid + 1), repeat=2))
        low, high = config.aspect
        shapes = {
            "target_scale": [(h, w) for h, w in every if low <= h / w <= high],
            "context_scale": [(h, w) for h, w in every if abs(h - w) <= 1],
        }
        targets, contexts = (self._of_scale(name, own, getattr(config, name)) for name, own in shapes.items())
        self.register_buffer("target_shapes", torch.tensor(targets), persistent=False)
        self.register_buffer("context_shapes", torch.tensor(contexts), persistent=False)
        self.target_length = min(h * w for h, w in targets)
        uniforms = torch.rand(_TRIED, self._count, generator=torch.Generator().manual_seed(0))
        left = self._candidates(uniforms)[1][:, :-1].flatten(0, 1).flatten(1).sum(1)
        # so many the last candidate always leaves
        always = min(h * w for h, w in contexts) - max(h * w for h, w in targets)
        self.context_length = min(int(left.float().quantile(SHARE, interpolation="lower")), always)
        if self.context_length < 1:
            raise ConfigError(
                f"{config.targets} targets of mask.target_scale {config.target_scale[0]:g} to "
                f"{config.target_scale[1]:g} leave no context on {grid} x {grid} patches; take fewer or smaller ones."
            )

    def forward(self, draws: Draws) -> Masks:
        """Masks of the images of `draws`, which depend on its seed and step and the image alone."""
        patches = self.grid**2
        uniforms = draws.uniforms("blocks", self._count)
        blocks, left = self._candidates(uniforms)  # [B, D, M, G, G], [B, D, G, G]
        enough = left.flatten(2).sum(2) >= self.context_length
        # the first of True; of an image without any the last candidate, whose targets all lie in one place
        enough[:, -1] = True
        chosen = enough.int().argmax(1)
        rows = torch.arange(len(chosen), device=chosen.device)
        hidden, shown = blocks[rows, chosen], left[rows, chosen].flatten(1)
        order = draws.uniforms("order", 2 * patches)
        context = _some(shown, order[:, :patches], self.context_length)
        targets = _some(hidden.flatten(2), order[:, None, patches:], self.target_length)
        return Masks(context, targets, hidden)

    @property
    def _count(self) -> int:
        """Uniforms of an image."""
        return DRAWS * 3 * (self.config.targets + 1)

    def _candidates(self, uniforms: Tensor) -> tuple[Tensor, Tensor]:
        """`DRAWS` draws of an image's target blocks, and what each leaves of its context block.

        The targets of the last one all lie in one place, so that it leaves enough for certain.

        Args:
            uniforms: `[B, _count]`.

        Returns:
            `[B, D, M, G, G]` and `[B, D, G, G]`, boolean.
        """
        own = uniforms.view(len(uniforms), DRAWS, self.config.targets + 1, 3)
        targets = self._blocks(own[:, :, :-1], self.target_shapes)
        targets = torch.cat((targets[:, :-1], targets[:, -1:, :1].expand_as(targets[:, -1:])), 1)
        return targets, self._blocks(own[:, :, -1], self.context_shapes) & ~targets.any(2)

    def _blocks(self, uniforms: Tensor, shapes: Tensor) -> Tensor:
        """One of `shapes` `[N, 2]` anywhere on the grid: uniforms `[..., 3]` below 1 -> boolean `[..., G, G]`."""
        size = shapes[(uniforms[..., 0] * len(shapes)).long()]  # [..., 2]
        first = (uniforms[..., 1:] * (self.grid - size + 1)).long()
        place = torch.arange(self.grid, device=uniforms.device)
        rows, columns = (
            (place >= first[..., axis, None]) & (place < (first + size)[..., axis, None]) for axis in (0, 1)
        )
        return rows[..., :, None] & columns[..., None, :]

    def _of_scale(self, name: str, shapes: list[tuple[int, int]], scale: tuple[float, float]) -> list[tuple[int, int]]:
        patches = self.grid**2
        found = [(h, w) for h, w in shapes if scale[0] * patches - 1e-6 <= h * w <= scale[1] * patches + 1e-6]
        if not found:
            possible = sorted({round(h * w / patches, 3) for h, w in shapes})
            near = [str(one) for one in sorted(possible, key=lambda one: abs(one - sum(scale) / 2))[:4]]
            raise ConfigError(
                f"mask.{name} is {scale[0]:g} to {scale[1]:g}, and no block of {self.grid} x {self.grid} patches has "
                f"that share; near ones: {', '.join(near)}. Widen it, or take a smaller --vit.patch-size."
            )
        return found


def _some(of: Tensor, order: Tensor, count: int) -> Tensor:
    """The places `[..., count]` of some True of `of` `[..., P]`, in the `order` `[..., P]` of uniforms."""
    return torch.where(of, order, 2.0).argsort(dim=-1, stable=True)[..., :count]
