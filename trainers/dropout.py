"""Dropout keyed by image: the same global batch drops the same things on one process or eight.

torch's and timm's layers draw from the device's global generator, which stands elsewhere on every rank and after a
resume. Here the masks of an image depend on the run's seed, the step, the image's index and the layer's name alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timm.layers import DropPath
from torch import Tensor, nn

from trainers.draws import Draws
from trainers.errors import ConfigError

# where libraries keep the rate of a layer that drops something
RATES = ("p", "drop_prob", "prob", "dropout", "layer_dropout")


class Current:
    """The draws of the step that is being taken, shared by the keyed layers of a model."""

    def __init__(self) -> None:
        self._draws: Draws | None = None
        self._calls: dict[str, int] = {}

    def set(self, draws: Draws) -> None:
        """To be called before each forward pass of a training step."""
        self._draws, self._calls = draws, {}

    def uniforms(self, name: str, images: int, count: int) -> Tensor:
        """Uniforms `[images, count]` for one call of the layer `name`; a second call in a step draws others.

        Raises:
            ConfigError: the layer's input is not one row an image.
        """
        assert self._draws is not None, "a training step begins with Current.set"
        if images != len(self._draws.index):
            raise ConfigError(
                f"dropout in {name} gets {images} rows for {len(self._draws.index)} images, so that its masks cannot "
                "be keyed by image; set its rate to 0, or let the first dimension be the image."
            )
        call = self._calls[name] = self._calls.get(name, 0) + 1
        return self._draws.uniforms(f"{name} {call}", count)


class KeyedDraws:
    """Gives a model and its task the draws of each training step, and sees to it that they use no others.

    Args:
        model: its dropout is replaced, see `key_dropout`.
        seed: of the run.
        device: of the model.
    """

    def __init__(self, model: nn.Module, seed: int, device: torch.device) -> None:
        self._current, self._seed, self._device = Current(), seed, device
        self._checked = False
        key_dropout(model, self._current)

    @contextmanager
    def at(self, step: int, index: Tensor, steps: int) -> Iterator[Draws]:
        """Within it, which is to be one forward pass, the model drops what `step` drops of the images `index` `[B]`.

        Args:
            steps: of the whole run.

        Raises:
            ConfigError: the first pass drew from torch's global generators.
        """
        draws = Draws(self._seed, step, index, steps)
        self._current.set(draws)
        before = None if self._checked else _generator_states(self._device)
        yield draws
        if before is not None:
            after = _generator_states(self._device)
            self._checked = True
            if any(not torch.equal(one, two) for one, two in zip(before, after, strict=True)):
                raise ConfigError(
                    "the model or its loss draws from torch's global random generator, so that a resumed run, or one "
                    "on more processes, would draw something else; draw from Draws, or set the rate of that dropout "
                    "to 0."
                )


class KeyedDropout(nn.Module):
    """Sets elements of `[B, ...]` to zero with probability `rate` and scales the others by 1 / (1 - rate).

    Args:
        rate: 0 to 1.
        name: under which it draws: its path in the model.
        current: shared with the loop.
        kept: how many of the leading dimensions have masks of their own: None for every element, 1 for whole images
            (stochastic depth; Huang et al. 2016, arXiv 1603.09382), 2 for whole channels.
        scale: whether what is left is scaled.
    """

    def __init__(self, rate: float, name: str, current: Current, kept: int | None = None, scale: bool = True) -> None:
        super().__init__()
        self.rate, self.name, self.kept, self.scale = rate, name, kept, scale
        self._current = current

    def forward(self, values: Tensor) -> Tensor:
        if not self.training:
            return values
        factor = 1 / (1 - self.rate) if self.scale and self.rate < 1 else 1.0
        return torch.where(self._keeps(values), values * factor, torch.zeros_like(values))

    @torch.compiler.disable
    def _keeps(self, values: Tensor) -> Tensor:
        kept = values.ndim if self.kept is None else self.kept
        shape = values.shape[:kept] + (1,) * (values.ndim - kept)
        return (self._current.uniforms(self.name, shape[0], shape[1:].numel()) >= self.rate).view(shape)

    def extra_repr(self) -> str:
        return f"rate={self.rate:g}"


def key_dropout(model: nn.Module, current: Current) -> None:
    """Replaces every dropout and stochastic depth of `model` with a rate above 0 by one that is keyed by image.

    Dropout has no weights, so the names of the state dict stay.

    Raises:
        ConfigError: something is dropped in a way that cannot be keyed: within fused attention, or by a layer that is
            not known here.
    """
    replaced: dict[nn.Module, KeyedDropout] = {}  # a layer may stand in several places
    for path, module in list(model.named_modules()):
        if isinstance(getattr(module, "attn_drop", None), nn.Dropout) and getattr(module, "fused_attn", False):
            _refuse_fused(path, module.attn_drop)
        for name, child in list(module._modules.items()):
            if child is None:
                continue
            if child not in replaced:
                keyed = _keyed(child, f"{path}.{name}" if path else name, current)
                if keyed is None:
                    continue
                replaced[child] = keyed.train(child.training)
            setattr(module, name, replaced[child])


def _generator_states(device: torch.device) -> list[Tensor]:
    states = [torch.get_rng_state()]
    return [*states, torch.cuda.get_rng_state(device)] if device.type == "cuda" else states


def _keyed(module: nn.Module, path: str, current: Current) -> KeyedDropout | None:
    rates = [rate for rate in (getattr(module, name, None) for name in RATES) if isinstance(rate, float | int)]
    rate = max(rates, default=0)
    if rate == 0 or isinstance(module, KeyedDropout):
        return None
    if isinstance(module, nn.Dropout):
        return KeyedDropout(rate, path, current)
    if isinstance(module, nn.Dropout1d | nn.Dropout2d | nn.Dropout3d):
        return KeyedDropout(rate, path, current, kept=2)
    if isinstance(module, DropPath):
        return KeyedDropout(rate, path, current, kept=1, scale=module.scale_by_keep)
    if "drop" in type(module).__name__.lower() or isinstance(module, nn.MultiheadAttention):
        raise ConfigError(
            f"{path} ({type(module).__name__}) drops with rate {rate:g} by torch's global generator, which "
            "differs between processes and after a resume; set it to 0, or use nn.Dropout or timm's DropPath."
        )
    return None


def _refuse_fused(path: str, dropout: nn.Dropout) -> None:
    if dropout.p > 0:
        raise ConfigError(
            f"{path}.attn_drop is {dropout.p:g} in fused attention, whose kernel draws its masks itself, other ones on "
            "every process; set the attention's dropout to 0, or timm.layers.set_fused_attn(False) before the model "
            "is built."
        )
