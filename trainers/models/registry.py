"""Models by name: the project's own, a line each, and all of timm's."""

from __future__ import annotations

import difflib
from typing import Any, Protocol

import timm
from torch import nn

from lensgen.errors import UnknownNameError
from trainers.errors import ConfigError
from trainers.models.cnn import SmallCNN
from trainers.models.cvt import cvt
from trainers.models.lens_encoder import LensEncoder
from trainers.models.lensformer import lensformer
from trainers.models.lenspinn import lenspinn_large, lenspinn_small
from trainers.models.shifted_vit import ShiftedViT
from trainers.models.small_data import cait, paper_vit, vitsd
from trainers.models.stems import conv_vit
from trainers.models.vit import ViTConfig, build_vit

ImageShape = tuple[int, int, int]


class Builder(Protocol):
    def __call__(self, image_shape: ImageShape, outputs: int, vit: ViTConfig) -> nn.Module:
        """A model `[B, C, H, W]` -> `[B, outputs]`, or to pooled features `[B, D]` where `outputs` is 0.

        Args:
            image_shape: `(C, H, W)`.
            vit: the options `--vit.*`, of which a model uses those that it has.
        """


def pooled_vit(image_shape: ImageShape, outputs: int, vit: ViTConfig) -> nn.Module:
    """The ViT that `vit` describes; its head sees the mean of the normalised patch tokens.

    That is what `trainers.mae` probes, and with `fc_norm=False` the norm is the encoder's own, so that a pretrained
    encoder lacks nothing but the head.
    """
    return build_vit(vit, image_shape, num_classes=outputs, global_pool="avg", fc_norm=False)


def small_cnn(image_shape: ImageShape, outputs: int, vit: ViTConfig) -> nn.Module:
    """A `SmallCNN`."""
    return SmallCNN(image_shape[0], outputs)


# A model of this project is a file beside this one and a line here.
OWN: dict[str, Builder] = {
    "vit": pooled_vit,
    "cnn": small_cnn,
    "vit_conv": conv_vit,
    "vit_spt": ShiftedViT,
    "lenspinn_small": lenspinn_small,
    "lenspinn_large": lenspinn_large,
    "lensformer": lensformer,
    "lens_jepa": LensEncoder,
    "vit_paper": paper_vit,
    "vitsd": vitsd,
    "cait": cait,
    "cvt": cvt,
}


def build_model(
    name: str, image_shape: ImageShape, outputs: int, vit: ViTConfig, pretrained: bool = False
) -> nn.Module:
    """A model by its name, `OWN` or timm's, as `Builder` says; of `vit` timm's take drop_path alone.

    Args:
        pretrained: with the weights that timm has for it (they are downloaded once).

    Raises:
        UnknownNameError: no such model.
        ConfigError: it cannot be built for these images.
    """
    if name in OWN:
        if pretrained:
            raise ConfigError(
                f"--pretrained: model {name} has no weights in timm; give --encoder PATH or a timm model."
            )
        return OWN[name](image_shape, outputs, vit)
    if not timm.is_model(name):
        raise _unknown_model(name)
    channels, height, width = image_shape
    arguments: dict[str, Any] = {"in_chans": channels, "num_classes": outputs}
    settings = timm.get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        arguments["img_size"] = (height, width)
    if vit.drop_path:
        arguments["drop_path_rate"] = vit.drop_path
    if vit.dropout:  # in timm's CNNs it is no module, and so it cannot be keyed by image as that of the ViT is
        raise ConfigError(f"--vit.dropout does nothing to model {name}; leave it out, or take --model vit.")
    try:
        model = timm.create_model(name, pretrained=pretrained, **arguments)
    except OSError as error:  # of the network, and what the Hugging Face Hub makes of it
        raise ConfigError(f"--pretrained: the weights of {name} could not be had ({error}); leave it out.") from error
    except (TypeError, AssertionError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model {name} cannot be built for images of {image_shape}: {error}") from error
    _require_whole_patches(name, model, height, width)
    return model


def _require_whole_patches(name: str, model: nn.Module, height: int, width: int) -> None:
    """timm cuts off, without a word, the pixels that do not fill a patch."""
    patch = getattr(getattr(model, "patch_embed", None), "patch_size", None)
    if isinstance(patch, tuple) and (height % patch[0] or width % patch[1]):
        raise ConfigError(
            f"model {name} has patches of {patch[0]} pixels, which do not cut {height} x {width} pixels; take "
            f"--model vit --vit.timm-name {name} with a --vit.patch-size that does."
        )


def _unknown_model(name: str) -> UnknownNameError:
    near = difflib.get_close_matches(name.lower(), [*OWN, *timm.list_models()], n=5, cutoff=0.5)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    others = f" Names like it: {', '.join(near[1:])}." if near[1:] else ""
    return UnknownNameError(
        f"unknown model '{name}'.{hint}{others} Known: {', '.join(OWN)}, and the models of timm (timm.list_models())."
    )
