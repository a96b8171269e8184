"""The methods by name: each is a file beside this one and a line here."""

from __future__ import annotations

from typing import Literal

from trainers.self_supervision import byol, dino, lejepa, noise, rotation, simclr, simsiam, vicreg
from trainers.self_supervision.method import Method

MethodName = Literal["rotation", "noise", "byol", "simsiam", "dino", "simclr", "vicreg", "lejepa"]

METHODS: dict[str, Method] = {
    "rotation": rotation.METHOD,
    "noise": noise.METHOD,
    "byol": byol.METHOD,
    "simsiam": simsiam.METHOD,
    "dino": dino.METHOD,
    "simclr": simclr.METHOD,
    "vicreg": vicreg.METHOD,
    "lejepa": lejepa.METHOD,
}
