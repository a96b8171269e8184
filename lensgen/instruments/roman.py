"""Roman's Wide Field Instrument in its High Latitude Wide Area Survey, as lenstronomy configured it (Roman.py,
survey_mode="wide_area", the medium tier: three dithers of 107 s in each of two passes).

Zero points: Roman-STScI-000825, table 3. Sky: the zodiacal light's minimum. PSF, read noise and pixels: the Roman
project's WFI technical page. lenstronomy gives the images of one band at a time in e-, hence the gain of 1.
"""

from lensgen.instruments.instrument import Instrument
from lensgen.psf import Aperture

# 2.36 m, 32 % of it dark; the six vanes, which stand in pairs, evenly here, and such that 3.76 m^2 remain (GalSim)
APERTURE = Aperture(diameter=2.36, obstruction=0.32, vanes=(0.0, 60.0, 120.0, 180.0, 240.0, 300.0), vane_width=0.035)

_BANDS = {  # wavelength, zero_point, sky_brightness, psf_fwhm
    "F106": (1.06, 26.3546, 22.99, 0.087),
    "F129": (1.293, 26.3531, 22.99, 0.106),
    "F158": (1.577, 26.3760, 23.10, 0.128),
}

INSTRUMENTS = tuple(
    Instrument(
        name=f"roman_{band.lower()}",
        telescope="Roman, WFI",
        band=band,
        pixel_scale=0.11,
        exposure_time=107.0,
        exposures=6,
        zero_point=zero_point,
        read_noise=8.5,
        sky_brightness=sky,
        psf_fwhm=fwhm,
        gain=1.0,
        wavelength=wavelength,
        aperture=APERTURE,
    )
    for band, (wavelength, zero_point, sky, fwhm) in _BANDS.items()
)
