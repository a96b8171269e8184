"""Scene and observation -> image. Picks the engine, and refuses by name what an engine cannot do."""

from __future__ import annotations

import importlib
import importlib.util
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from lensgen.checks import require
from lensgen.errors import NOT_FINITE, EngineError, ParameterError, unknown_name
from lensgen.notice import say_once
from lensgen.observation import Noise, Observation
from lensgen.scene import Scene

# What a simulator can put out: by plain renders, or by no engine at all; and by tracing rays through the lens.
RENDERED = (
    "image", "clean", "smooth", "image_hr", "source", "lens_light", "noise_map", "subhalo_mask", "catalogue",
)  # fmt: skip
TRACED = ("deflection", "potential", "kappa", "kappa_sub", "magnification", "detectability")


@dataclass(frozen=True)
class Engine:
    """What an engine can do, and where it is.

    Args:
        module: has `render(scene, observation, noise, psf_choice, **options)`, where `psf_choice` is None if there is
            one kernel, and `refusal(scene, observation, noise)`, which says what of them it cannot do, or None;
            imported when the engine is first used.
        summary: in a few words.
        devices, dtypes: that it renders on and in.
        derivatives: whether gradients flow through its images.
        outputs: that it gives, of RENDERED and TRACED.
        needs: the package it cannot do without.
        options: for `render`.
        fused: whether it is made of compiled kernels; on a GPU they look at each image they write, for `render` here
            must not wait for the device.
    """

    module: str
    summary: str
    devices: tuple[str, ...]
    dtypes: tuple[torch.dtype, ...]
    derivatives: bool = False
    outputs: tuple[str, ...] = RENDERED
    needs: str = "torch"
    options: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = True

    def load(self) -> ModuleType:
        return importlib.import_module(self.module)

    def unfit(self, device: torch.device, dtype: torch.dtype) -> str | None:
        """Why it cannot render on this device and in this dtype, or None."""
        if device.type not in self.devices:
            return f"it runs on {' and '.join(self.devices)}, not on {device.type}{_hint(self.devices)}"
        if dtype not in self.dtypes:
            return f"it renders in {' and '.join(map(str, self.dtypes))}, not in {dtype}"
        if importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed (pip install {self.needs})"
        if device.type == "cuda" and self.fused:
            from lensgen_kernels import cuda

            return cuda.available(device)
        return None

    def refusal(self, scene: Scene, observation: Observation, noise: Noise | None) -> str | None:
        """Why it cannot render these, or None."""
        if (reason := self.unfit(scene.device, scene.dtype)) is not None:
            return reason
        if not self.derivatives and _derivatives_wanted(scene, noise):
            return "gradients do not flow through it, and a parameter of the scene requires them"
        try:
            module = self.load()
        except ImportError as error:  # a package that is there and does not work
            return f"{self.needs} cannot be imported: {error}"
        return module.refusal(scene, observation, noise, **self.options)


_CPU = Engine("lensgen.cpu_engine", "fused kernels, float32 on the CPU", ("cpu",), (torch.float32,), needs="numba")
_CUDA = Engine("lensgen.cuda_engine", "fused kernels, float32 on a GPU", ("cuda",), (torch.float32,))
_CLOSED = {"tabulated": False}

ENGINES: dict[str, Engine] = {
    "cpu": _CPU,
    "cpu_closed": replace(_CPU, summary="as cpu, without tables of halos and far field", options=_CLOSED),
    "cuda": _CUDA,
    "cuda_closed": replace(_CUDA, summary="as cuda, without tables of halos and far field", options=_CLOSED),
    "torch": Engine(
        "lensgen.torch_engine", "plain torch, any device, differentiable", ("cpu", "cuda"),
        (torch.float32, torch.float64), derivatives=True, outputs=RENDERED + TRACED, fused=False,
    ),
}  # fmt: skip
AUTO = ("cpu", "cuda", "torch")  # the faster first


def _derivatives_wanted(scene: Scene, noise: Noise | None) -> bool:
    tensors = [t for c in scene.components for t in (*c.parameters.values(), *c.arrays.values())]
    if noise is not None:
        tensors.append(noise.exposure)
    if scene.deflection_scale is not None:
        tensors.append(scene.deflection_scale)
    if torch.is_grad_enabled() and any(t.requires_grad for t in tensors):
        return True
    wrapped = torch._C._functorch.is_functorch_wrapped_tensor  # inside torch.func.jvp or grad
    return any(wrapped(t) or torch.autograd.forward_ad.unpack_dual(t).tangent is not None for t in tensors)


def _hint(devices: tuple[str, ...]) -> str:
    """What may be the matter with a GPU's engine."""
    if devices != ("cuda",):
        return ""
    return "; give device='cuda'" if torch.cuda.is_available() else "; torch finds no CUDA device here"


def _cannot(engine: str, reason: str) -> EngineError:
    return EngineError(
        f"engine {engine!r} cannot do this: {reason}. Fix: engine='auto', or 'torch', which does it all."
    )


def pick_engine(engine: str, device: torch.device, dtype: torch.dtype, outputs: Sequence[str] = ()) -> str:
    """ "auto" or an engine's name -> the engine for images of this dtype on this device.

    "auto" leaves `outputs` that it does not give to torch. Raises UnknownNameError for a name that is not there,
    EngineError for an engine that cannot.
    """
    if engine == "auto":
        for name in AUTO:
            if (reason := ENGINES[name].unfit(device, dtype)) is None:
                return name
        raise _cannot(name, str(reason))
    if engine not in ENGINES:
        raise unknown_name("engine", engine, (*ENGINES, "auto"))
    if (reason := ENGINES[engine].unfit(device, dtype)) is not None:
        raise _cannot(engine, reason)
    for output in outputs:
        if output not in ENGINES[engine].outputs:
            raise _cannot(engine, f"of the outputs it gives {', '.join(ENGINES[engine].outputs)}, but not {output!r}")
    return engine


def fitting_engine(engine: str, scene: Scene, observation: Observation, noise: Noise | None) -> str:
    """The engine that renders these; says once which one was picked, and why not a faster one."""
    if engine != "auto":
        pick_engine(engine, scene.device, scene.dtype)
        if (reason := ENGINES[engine].refusal(scene, observation, noise)) is not None:
            raise _cannot(engine, reason)
        return engine
    why = ""
    for name in AUTO:
        reason = ENGINES[name].refusal(scene, observation, noise)
        if reason is None:
            say_once(f"engine '{name}' ({ENGINES[name].summary}){why}")
            return name
        if scene.device.type in ENGINES[name].devices:
            why += f"; not '{name}': {reason}"
    raise _cannot(name, str(reason))


def _checked_choice(choice: Tensor | None, scene: Scene, observation: Observation) -> Tensor | None:
    """Which kernel each image takes, `[B]`; None where there is only one."""
    kernels = observation.psf.choices
    if choice is None:
        if kernels > 1:
            raise ParameterError(
                f"the PSF is one of {kernels} kernels: give psf_choice, [B] int64 within [0, {kernels})."
            )
        return None
    if not isinstance(choice, Tensor) or choice.dtype != torch.int64 or choice.shape != (len(scene),):
        got = f"{choice.dtype} {list(choice.shape)}" if isinstance(choice, Tensor) else repr(choice)
        raise ParameterError(f"psf_choice must be int64 [{len(scene)}], one for each image, not {got}.")
    bad = (choice < 0) | (choice >= kernels)
    require(bad, lambda k: f"psf_choice = {int(choice[k])} is outside [0, {kernels - 1}].")
    return choice.to(scene.device) if kernels > 1 else None


def render(
    scene: Scene,
    observation: Observation,
    noise: Noise | None = None,
    engine: str = "auto",
    psf_choice: Tensor | None = None,
) -> Tensor:
    """Images `[B, H, W]` in the dtype and on the device of the scene, e-/s per pixel unless the recipe says counts.

    The same system gives the same bits from the same engine on the same machine, however systems are batched.

    Args:
        scene: B systems.
        observation: pixel grid and PSF.
        noise: None for the noise-free image.
        engine: "auto" for the fastest that can, or a name of `ENGINES`.
        psf_choice: `[B]` int64, which of the PSF's kernels each image takes; needed where there are several.

    Raises:
        UnknownNameError: no such engine.
        EngineError: the engine that was named cannot do this.
        ParameterError: an image holds a value that is not finite.
    """
    if noise is not None and len(noise.index) != len(scene):
        raise ParameterError(
            f"the noise is for {len(noise.index)} images, the scene holds {len(scene)}: give one each."
        )
    psf_choice = _checked_choice(psf_choice, scene, observation)
    name = fitting_engine(engine, scene, observation, noise)
    image = ENGINES[name].load().render(scene, observation, noise, psf_choice, **ENGINES[name].options)
    values = image.detach()
    if image.is_cuda:
        if not ENGINES[name].fused:
            require(~torch.isfinite(values).flatten(1).all(1), NOT_FINITE.format)
    elif not math.isfinite(float(values.sum())):  # one pass; where the sum overflows every image is looked at
        bad = ~torch.isfinite(values).flatten(1).all(1)
        if bool(bad.any()):
            raise ParameterError(NOT_FINITE.format(int(bad.nonzero()[0])))
    return image
