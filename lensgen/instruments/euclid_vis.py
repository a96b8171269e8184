"""Euclid VIS, as lenstronomy configured it.

`euclid_vis` is the configuration of lenstronomy 1.9.0 to 1.14.0, with which the published sets were made (Euclid
Definition Study Report, Laureijs et al. 2011, and Collett 2015); lenstronomy 1.14.1 raised the zero point, so the
same script gives 4.9 times the flux there.
"""

from lensgen.instruments.instrument import Instrument

EUCLID_VIS = Instrument(
    name="euclid_vis",
    pixel_scale=0.101,
    exposure_time=565.0,
    exposures=4,
    zero_point=24.0,
    read_noise=4.2,
    sky_brightness=22.35,
    psf_fwhm=0.16,
)

INSTRUMENTS = (EUCLID_VIS,)
