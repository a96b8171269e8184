"""LSST of the Vera C. Rubin Observatory after its ten years, as lenstronomy configured it (LSST.py, coadd_years=10).

Zero points, sky and seeing: LSST Science Book and Ivezic et al. 2019, table 2, turned to e-/s. Exposures: two of 15 s
for each of the visits planned in ten years. The atmosphere makes the PSF: there is no aperture.
"""

from lensgen.instruments.instrument import Instrument

_BANDS = {  # wavelength, exposures, zero_point, sky_brightness, psf_fwhm
    "u": (0.368, 140, 26.5, 22.99, 0.81),
    "g": (0.481, 200, 28.30, 22.26, 0.77),
    "r": (0.622, 460, 28.13, 21.2, 0.73),
    "i": (0.754, 460, 27.79, 20.48, 0.71),
    "z": (0.869, 400, 27.40, 19.6, 0.69),
    "y": (0.971, 400, 26.58, 18.61, 0.68),
}

INSTRUMENTS = tuple(
    Instrument(
        name=f"lsst_{band}",
        telescope="Rubin, LSSTCam",
        band=band,
        pixel_scale=0.2,
        exposure_time=15.0,
        exposures=exposures,
        zero_point=zero_point,
        read_noise=10.0,  # an upper limit
        sky_brightness=sky,
        psf_fwhm=fwhm,
        gain=2.3,
        wavelength=wavelength,
    )
    for band, (wavelength, exposures, zero_point, sky, fwhm) in _BANDS.items()
)
