"""JWST's NIRCam, as lenstronomy configured it (JWST.py), but for the sky.

lenstronomy's sky, "derived using the ETC", is 28 to 31 magnitudes per arcsec^2: a thousand times darker than the
zodiacal light, of about 22 (Rigby et al. 2023). Read as the rate of one *pixel* the same numbers are 22 to 23.4 per
arcsec^2, which is what is stated here. Noise of an empty pixel is thereby up to 2.1 times lenstronomy's.

Exposures: one hour (F200W, F356W) and those of COSMOS-Web (the rest; Casey et al. 2023).
PSF: widths measured in flight, NIRCam Point Spread Functions, JWST User Documentation; lenstronomy's own where it has
one, which are the same.
"""

from lensgen.instruments.instrument import Instrument
from lensgen.psf import Aperture

# 18 segments, 26.3 m^2 polished, every 1.33 m; three struts hide 0.9 m^2 (JWST User Documentation: 25.4 m^2 remain).
# The secondary mirror stands before the segment that is missing in the middle.
APERTURE = Aperture(
    diameter=6.5, obstruction=0.11, vanes=(90.0, 240.0, 300.0), vane_width=0.12, rings=2, segment=1.30, gap=0.03
)

_SHORT, _LONG = (0.031, 15.77, 2.05), (0.063, 13.25, 1.82)  # pixel_scale, read_noise, gain of either channel
_BANDS = {  # channel, wavelength, exposure_time, exposures, zero_point, sky_brightness, psf_fwhm
    "F115W": (_SHORT, 1.154, 257.0, 8, 28.02, 23.42, 0.040),
    "F150W": (_SHORT, 1.501, 257.0, 8, 28.02, 22.42, 0.050),
    "F200W": (_SHORT, 1.988, 3600.0, 1, 28.00, 21.98, 0.066),
    "F277W": (_LONG, 2.776, 257.0, 8, 26.49, 22.96, 0.092),
    "F356W": (_LONG, 3.565, 3600.0, 1, 26.47, 22.39, 0.116),
    "F444W": (_LONG, 4.402, 257.0, 8, 26.49, 22.15, 0.145),
}


INSTRUMENTS = tuple(
    Instrument(
        name=f"jwst_{band.lower()}",
        telescope="JWST, NIRCam",
        band=band,
        pixel_scale=pixel_scale,
        exposure_time=exposure_time,
        exposures=exposures,
        zero_point=zero_point,
        read_noise=read_noise,
        sky_brightness=sky,
        psf_fwhm=fwhm,
        gain=gain,
        wavelength=wavelength,
        aperture=APERTURE,
    )
    for band, ((pixel_scale, read_noise, gain), wavelength, exposure_time, exposures, zero_point, sky, fwhm) in (
        _BANDS.items()
    )
)
