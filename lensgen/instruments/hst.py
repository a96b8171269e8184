"""Hubble Space Telescope: WFC3/IR F160W as lenstronomy configured it, ACS/WFC F814W from its handbook."""

from lensgen.instruments.instrument import Instrument
from lensgen.psf import Aperture

# Tiny Tim (Krist, Hook & Stoehr 2011): 2.4 m, a third of it dark, four vanes of 2.2 % of the radius
APERTURE = Aperture(diameter=2.4, obstruction=0.33, vanes=(45.0, 135.0, 225.0, 315.0), vane_width=0.0264)

WFC3_F160W = Instrument(  # lenstronomy's HST.py, band "WFC3_F160W"
    name="hst_wfc3_f160w",
    telescope="HST, WFC3/IR",
    band="F160W",
    pixel_scale=0.08,  # drizzled; 0.128" on the detector
    exposure_time=5400.0,  # two orbits
    exposures=1,
    zero_point=25.96,
    read_noise=4.0,
    sky_brightness=22.3,
    psf_fwhm=0.08,  # lenstronomy's, one drizzled pixel; diffraction alone gives 0.14": use the aperture
    gain=2.5,
    wavelength=1.537,
    aperture=APERTURE,
)

ACS_F814W = Instrument(  # ACS Instrument Handbook; lenstronomy has none
    name="hst_acs_f814w",
    telescope="HST, ACS/WFC",
    band="F814W",
    pixel_scale=0.05,
    exposure_time=525.0,  # one orbit in four, as SLACS did (Bolton et al. 2008)
    exposures=4,
    zero_point=25.94,  # Sirianni et al. 2005, table 10: 25.937
    read_noise=4.0,  # handbook, chapter 4: 3.9 to 4.7 e- in the four quadrants since 2009
    sky_brightness=22.0,  # 0.094 e-/s per pixel; the handbook's average sky is about 0.1
    psf_fwhm=0.08,
    gain=2.0,
    wavelength=0.806,
    aperture=APERTURE,
)

INSTRUMENTS = (WFC3_F160W, ACS_F814W)
