"""Euclid, as lenstronomy configured it (Euclid.py, coadd_years=6: the wide survey's four dithers).

`euclid_vis_2022` is the configuration of lenstronomy 1.9.0 to 1.14.0, with which the published sets were made (Euclid
Definition Study Report, Laureijs et al. 2011, and Collett 2015). lenstronomy 1.14.1 (June 2026) raised the zero point
to that measured in flight, so the same script gives 4.9 times the flux there: `euclid_vis_2026`. NISP has only the
latter (Euclid Collaboration: Mellier et al. 2024; Jahnke et al. 2024; zero points and sky of arXiv:2405.13496).
The gain of NISP is lenstronomy's, which repeats that of VIS.
"""

from lensgen.instruments.instrument import Instrument
from lensgen.psf import Aperture

# 1.2 m; obstruction and three vanes such that 1.006 m^2 remain (Mellier et al. 2024)
APERTURE = Aperture(diameter=1.2, obstruction=0.29, vanes=(90.0, 210.0, 330.0), vane_width=0.025)

VIS_2022 = Instrument(
    name="euclid_vis_2022",
    telescope="Euclid, VIS",
    band="I_E",
    pixel_scale=0.101,
    exposure_time=565.0,
    exposures=4,
    zero_point=24.0,
    read_noise=4.2,
    sky_brightness=22.35,
    psf_fwhm=0.16,
    gain=3.1,
    wavelength=0.715,
    aperture=APERTURE,
)

VIS_2026 = Instrument(
    name="euclid_vis_2026",
    telescope="Euclid, VIS",
    band="I_E",
    pixel_scale=0.101,
    exposure_time=566.0,
    exposures=4,
    zero_point=25.72,
    read_noise=4.2,
    sky_brightness=22.3,
    psf_fwhm=0.16,
    gain=3.1,
    wavelength=0.715,
    aperture=APERTURE,
)

_NISP = {  # wavelength (Schirmer et al. 2022), zero_point, sky_brightness, psf_fwhm
    "Y": (1.081, 25.04, 22.1, 0.48),
    "J": (1.367, 25.26, 22.2, 0.49),
    "H": (1.771, 25.21, 22.3, 0.50),
}

INSTRUMENTS = (
    VIS_2022,
    VIS_2026,
    *(
        Instrument(
            name=f"euclid_nisp_{band.lower()}",
            telescope="Euclid, NISP",
            band=f"{band}_E",
            pixel_scale=0.3,
            exposure_time=87.2,
            exposures=4,
            zero_point=zero_point,
            read_noise=6.1,
            sky_brightness=sky,
            psf_fwhm=fwhm,
            gain=3.1,
            wavelength=wavelength,
            aperture=APERTURE,
        )
        for band, (wavelength, zero_point, sky, fwhm) in _NISP.items()
    ),
)
