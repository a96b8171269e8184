"""caustics, float32, a batch by vmap: plain, under torch.compile, and on its JAX backend.

It has several ways to do the same. Each contender tries them on the task and keeps the fastest: subhalos one by one
(SinglePlane) or as one vectorised lens (BatchedPlane), the PSF by FFT or as a convolution. Subhalos one by one are
left out where they compile for minutes, to no gain (torch.compile: 25 TNFW in 163 s, and no faster).
"""

from __future__ import annotations

import itertools
import math
import os
import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np

from profiles.cases import Lens, Task, as_points, draw_systems
from profiles.contenders.contender import Refused
from profiles.contenders.lensgen_images import CHECKED
from profiles.timing import keep_going

TRIAL_SECONDS = {"cpu": 0.5, "cuda": 0.2}
Z_LENS, Z_SOURCE = 0.5, 1.0
RENAMED = {
    "center_x": "x0", "center_y": "y0", "theta_E": "Rein", "gamma1": "gamma_1", "gamma2": "gamma_2",
    "R_sersic": "Re", "n_sersic": "n", "amp": "Ie",
}  # fmt: skip


def _renamed(parameters: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """caustics' names, with axis ratio and direction for the ellipticity."""
    own = {RENAMED.get(name, name): values for name, values in parameters.items()}
    if "e1" in own:
        e1, e2 = own.pop("e1"), own.pop("e2")
        size = np.hypot(e1, e2)
        own |= {"q": (1.0 - size) / (1.0 + size), "phi": (0.5 * np.arctan2(e2, e1)) % math.pi}
    if "gamma" in own:
        own["t"] = own.pop("gamma") - 1.0
    return own


def _total_mass(own: dict[str, np.ndarray], critical_density: float) -> dict[str, np.ndarray]:
    """A TNFW by its total mass (Baltz et al. 2009, equation A.4) instead of alpha_Rs; the density per arcsec^2."""
    t2 = own["tau"] ** 2
    shape = t2 / (t2 + 1.0) ** 2 * ((t2 - 1.0) * np.log(own["tau"]) + math.pi * own["tau"] - (t2 + 1.0))
    mass = math.pi * own["Rs"] * own.pop("alpha_Rs") * critical_density / (1.0 - math.log(2.0)) * shape
    return {**own, "mass": mass}


class _Caustics:
    """The simulator and the parameters of a batch; subclasses say how it is run."""

    dtype = "float32"
    backend = "torch"
    most_written_out: ClassVar[dict[str, int]] = {"point": 100, "tnfw": 100}  # subhalos

    def __init__(self, task: Task) -> None:
        if os.environ.get("CASKADE_BACKEND", "torch") != self.backend:
            raise Refused(f"CASKADE_BACKEND must be {self.backend} before caustics is imported")
        import caustics

        warnings.filterwarnings("ignore", module="caustics")
        self.caustics, self.task = caustics, task
        self.systems = draw_systems(task)
        self.lenses = [as_points(lens) for lens in self.systems.lenses]
        self.image: Any = None
        self._set_up()

    def run(self, function: Callable, arguments: Any) -> Any:
        raise NotImplementedError

    def function(self, simulator: Any) -> Callable:
        """The batched simulator."""
        raise NotImplementedError

    def array(self, values: np.ndarray) -> Any:
        raise NotImplementedError

    def scalar(self, value: float) -> Any:
        """For the cosmology, which is not on the device yet when it is asked for distances."""
        return self.array(np.asarray(value))

    def _set_up(self) -> None:
        subhalos = {lens.model: lens.slots for lens in self.lenses if lens.slots}
        slots = sum(subhalos.values())
        layouts = ["batched"] if slots else ["no subhalos"]
        if slots and all(n <= self.most_written_out.get(model, 0) for model, n in subhalos.items()):
            layouts.append("written out")
        series = ("series at once", "series by terms") if self.task.case.host == "epl" else ("",)
        self._variants: dict[str, tuple[Callable, Any]] = {}
        rates: dict[str, float] = {}
        failure: Exception | None = None
        for layout, psf_mode, terms in itertools.product(layouts, ("fft", "conv2d"), series):
            if layout == "written out" and self._variants and psf_mode not in self.notes:
                continue  # the better PSF is known by now
            simulator, arguments = self._simulator(layout, psf_mode, terms)
            function = self.function(simulator)
            try:
                self.run(function, arguments)
            except Exception as error:  # e.g. the compiler does not take this variant: another may do
                failure = error
                continue
            name = ", ".join(word for word in (layout, psf_mode, terms) if word)
            self._variants[name] = (function, arguments)
            rates[name] = self._rate(name)
            self._take(max(rates, key=rates.__getitem__))
        if not self._variants:
            raise Refused("failed: " + " ".join(str(failure).split())[:150])

    def choose(self) -> None:
        """Keeps the fastest variant; asked again by those who had it set up while the machine was busy."""
        self._take(max(self._variants, key=self._rate))

    def _rate(self, name: str) -> float:
        def once() -> int:
            self.run(*self._variants[name])
            return self.task.rendered

        items, seconds = keep_going(once, self.wait, TRIAL_SECONDS[self.task.device])
        return items / seconds

    def _take(self, name: str) -> None:
        self.notes = name
        self._function, self._arguments = self._variants[name]

    def _simulator(self, layout: str, psf_mode: str, terms: str) -> tuple[Any, Any]:
        c = self.caustics
        cosmology = c.FlatLambdaCDM(name="cosmology")
        kinds = {"sie": c.SIE, "epl": c.EPL, "shear": c.ExternalShear, "point": c.Point, "tnfw": c.TNFW}
        planes: list[Any] = []
        given: dict[tuple[str, str], np.ndarray] = {}
        for number, lens in enumerate(self.lenses):
            own = self._own(lens, cosmology)
            fixed: dict[str, Any] = {"x0": 0.0, "y0": 0.0} if lens.model == "shear" else {}
            if terms == "series by terms" and lens.model == "epl":
                fixed["chunk_size"] = 1
            each = range(lens.slots) if lens.slots and layout == "written out" else [None]
            for slot in each:
                name = f"lens{number}" if slot is None else f"lens{number}_{slot}"
                model = kinds[lens.model](cosmology=cosmology, name=name, **fixed)
                given |= {(name, k): v if slot is None else v[:, slot] for k, v in own.items()}
                wrapped = lens.slots and slot is None
                planes.append(
                    c.BatchedPlane(cosmology=cosmology, lens=model, name=f"all{number}") if wrapped else model
                )
        plane = c.SinglePlane(cosmology=cosmology, lenses=planes, z_l=Z_LENS, z_s=Z_SOURCE, name="plane")
        source = c.Sersic(name="source", use_lenstronomy_k=True)
        light = _renamed(self.systems.source)
        light["Ie"] = light["Ie"] * self.task.pixel_scale**2
        light["Re"] = light["Re"] / np.sqrt(light["q"])  # along the major axis, not the product average
        given |= {("source", k): v for k, v in light.items()}
        simulator = c.LensSource(
            lens=plane, source=source, pixelscale=self.task.pixel_scale, pixels_x=self.task.size,
            upsample_factor=self.task.supersampling, psf=self.array(self.task.psf_weights), psf_mode=psf_mode,
            name="simulator",
        )  # fmt: skip
        self.place(simulator)
        order = [(next(p for p in param.parents if p.name in {n for n, _ in given}).name, param.name)
                 for param in simulator.dynamic_params]  # fmt: skip
        return simulator, [self.array(given[key]) for key in order]

    def place(self, simulator: Any) -> None:
        """Puts the simulator on the device, in float32."""

    def _own(self, lens: Lens, cosmology: Any) -> dict[str, np.ndarray]:
        own = _renamed(lens.parameters)
        if lens.model != "tnfw":
            return own
        zs = [self.scalar(z) for z in (Z_LENS, Z_SOURCE)]
        density = float(cosmology.critical_surface_density(*zs))  # Msun / Mpc^2
        distance = float(cosmology.angular_diameter_distance(zs[0]))
        return _total_mass(own, density * (distance * math.pi / 648_000.0) ** 2)

    def render(self) -> int:
        self.image = self.run(self._function, self._arguments)
        return self.task.rendered

    def check_images(self) -> np.ndarray:
        self.render()
        self.wait()
        return self.to_numpy(self.image[:CHECKED])

    def to_numpy(self, images: Any) -> np.ndarray:
        return np.asarray(images, dtype=np.float64)

    def wait(self) -> None:
        return None


class CausticsEager(_Caustics):
    """torch.vmap of the simulator."""

    def __init__(self, task: Task) -> None:
        import torch

        self.torch = torch
        super().__init__(task)

    def array(self, values: np.ndarray) -> Any:
        return self.torch.as_tensor(values, dtype=self.torch.float32, device=self.task.device)

    def scalar(self, value: float) -> Any:
        return self.torch.tensor(value, dtype=self.torch.float32)

    def place(self, simulator: Any) -> None:
        simulator.to(device=self.torch.device(self.task.device), dtype=self.torch.float32)

    def function(self, simulator: Any) -> Callable:
        return self.torch.vmap(simulator)

    def run(self, function: Callable, arguments: Any) -> Any:
        with self.torch.no_grad():
            return function(arguments)

    def to_numpy(self, images: Any) -> np.ndarray:
        return images.double().cpu().numpy()

    def wait(self) -> None:
        if self.task.device == "cuda":
            self.torch.cuda.synchronize()


class CausticsCompiled(CausticsEager):
    """torch.compile of that."""

    most_written_out: ClassVar[dict[str, int]] = {}

    def _set_up(self) -> None:
        self.torch._dynamo.reset()  # else the next task of this process would count as one more shape of the last
        super()._set_up()

    def function(self, simulator: Any) -> Callable:
        return self.torch.compile(self.torch.vmap(simulator))


class CausticsJAX(_Caustics):
    """jax.jit of jax.vmap of the simulator."""

    backend = "jax"
    most_written_out: ClassVar[dict[str, int]] = {"point": 100, "tnfw": 25}

    def array(self, values: np.ndarray) -> Any:
        import jax.numpy as jnp

        return jnp.asarray(values, dtype=jnp.float32)

    def function(self, simulator: Any) -> Callable:
        import jax

        return jax.jit(jax.vmap(simulator))

    def run(self, function: Callable, arguments: Any) -> Any:
        return function(arguments).block_until_ready()
