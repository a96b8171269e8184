"""Point-spread functions, one file each. Images are `[K, H, W]`, any dtype and device."""

from lensgen.psf.adaptive_optics import AdaptiveOpticsPSF
from lensgen.psf.aperture import Aperture
from lensgen.psf.diffraction import DiffractionPSF
from lensgen.psf.gaussian import GaussianPSF
from lensgen.psf.moffat import MoffatPSF
from lensgen.psf.one_of import OneOfPSF
from lensgen.psf.pixel import PixelPSF
from lensgen.psf.psf import EDGES, PSF, SAMPLINGS

__all__ = [
    "EDGES",
    "PSF",
    "SAMPLINGS",
    "AdaptiveOpticsPSF",
    "Aperture",
    "DiffractionPSF",
    "GaussianPSF",
    "MoffatPSF",
    "OneOfPSF",
    "PixelPSF",
]
