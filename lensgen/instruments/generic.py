"""The telescope that the DeepLense sets call Model I, given units.

Model I states 0.05" pixels, a Gaussian PSF of 0.087", exposures of 10^U(3, 3.5) s and a background rms of 0.01 per
pixel, in units without a zero point. Here the rates are e-/s, and sky and read noise are such that the background
rms of a 1,750 s exposure is that 0.01: sqrt(1 * 4^2 + 1750 * 0.1659) / 1750 = 0.0100 with 0.1659 e-/s per pixel.
"""

from lensgen.instruments.instrument import Instrument

GENERIC = Instrument(
    name="generic",
    telescope="the one of DeepLense's Model I",
    band="any",
    pixel_scale=0.05,
    exposure_time=1750.0,  # the median of 10^U(3, 3.5) is 1,778
    exposures=1,
    zero_point=25.0,  # our choice; it fixes what a magnitude means and nothing else
    read_noise=4.0,  # as HST WFC3/IR after up-the-ramp fits
    sky_brightness=20.445,  # 66.4 e-/s/arcsec^2
    psf_fwhm=0.087,
)

INSTRUMENTS = (GENERIC,)
