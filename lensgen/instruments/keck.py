"""Keck II with laser adaptive optics and the narrow camera of NIRC2 in K', from its handbook and papers; lenstronomy
has none.

Magnitudes are AB, 1.83 more than Vega's in K'. The sky is that of an observer who fills pixels of the wide camera
(0.0397") to 8,000 counts in 90 s: 12.9 Vega magnitudes per arcsec^2, the telescope's and the adaptive optics' own
warmth included. The zero point is that of 76 m^2, a band of 0.351 micrometres and a quarter of all photons counted.
Adaptive optics: a Strehl ratio of 0.35 in K' (Wizinowich et al. 2006, PASP 118, 297) above what the atmosphere leaves.
"""

from lensgen.instruments.instrument import Instrument
from lensgen.psf import Aperture

# 36 segments of 1.8 m from corner to corner, 76 m^2; behind a secondary mirror of 2.65 m on vanes of an inch
APERTURE = Aperture(
    diameter=10.0,
    obstruction=0.265,
    vanes=(0.0, 60.0, 120.0, 180.0, 240.0, 300.0),
    vane_width=0.0254,
    rings=3,
    segment=1.559,
    gap=0.003,
)

KP = Instrument(
    name="keck_ao_kp",
    telescope="Keck II, NIRC2 narrow camera with adaptive optics",
    band="K'",
    pixel_scale=0.00994,  # handbook: 9.942 mas
    exposure_time=180.0,  # our choice: three hours in all, as deep as the images of SHARP (Lagattuta et al. 2012)
    exposures=60,
    zero_point=28.1,
    read_noise=15.0,  # handbook: 60 e- in one difference of two reads; in sixteen, a quarter of that
    sky_brightness=14.75,
    psf_fwhm=0.06,  # of the core, as SHARP's images have it; diffraction alone gives 0.045"
    gain=4.0,
    wavelength=2.124,
    aperture=APERTURE,
    strehl=0.35,
    halo_fwhm=0.5,  # the median seeing of Mauna Kea in K
)

INSTRUMENTS = (KP,)
