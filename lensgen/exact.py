"""Elementary functions with the same bits on every machine, device and engine.

log, exp, sin and sqrt of different libraries differ in the last place, and then the "same" random system differs.
These are built from + - * /, comparisons and bit shifts of float64 alone, each of which IEEE 754 defines to the bit,
so the parameters of a lens are equal wherever they are drawn. They are accurate to a few units in 1e-16, not
correctly rounded. Inputs and outputs are float64 tensors of any shape.

Divide tensors by tensors only: torch takes `tensor / number` as a product with the reciprocal on CUDA and as a division
on a CPU, and `number / tensor` as a product with the reciprocal everywhere. Write `tensor * (1.0 / number)` and
`number * (1.0 / tensor)`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function

_LN2_HI = 6.93147180369123816490e-01  # fdlibm's split: n * _LN2_HI is exact for |n| < 2**20
_LN2_LO = 1.90821492927058770002e-10
# (node, weight) of Gauss-Legendre on [0, 1], 16 points, of which the other half lies at 1 - node; literals, so that
# no library's rounding enters
GAUSS_LEGENDRE = (
    (0.0052995325041750337, 0.0135762297058770482), (0.0277124884633837103, 0.0311267619693239468),
    (0.0671843988060841224, 0.0475792558412463929), (0.1222977958224984831, 0.0623144856277669384),
    (0.1910618777986781147, 0.0747979944082883680), (0.2709916111713863151, 0.0845782596975012679),
    (0.3591982246103705422, 0.0913017075224617919), (0.4524937450811812866, 0.0947253052275342511),
)  # fmt: skip
_MANTISSA = (1 << 52) - 1
_HALF_BITS = 0x3FE << 52


def overridable(function: Callable) -> Callable:
    """`function` as a part of torch's override protocol: what stands for a tensor may do something else with it.

    So the kernels print it once and call it, instead of repeating it wherever it is used.
    """

    @functools.wraps(function)
    def public(*args):
        if has_torch_function(args):
            return handle_torch_function(public, args, *args)
        return function(*args)

    return public


def _frexp(x: Tensor) -> tuple[Tensor, Tensor]:
    """x > 0 (normal) -> (m, e) with x = m 2**e, sqrt(1/2) <= m < sqrt(2)."""
    bits = x.view(torch.int64)
    exponent = (bits >> 52) - 1022
    mantissa = ((bits & _MANTISSA) | _HALF_BITS).view(torch.float64)
    low = mantissa < math.sqrt(0.5)
    return torch.where(low, 2.0 * mantissa, mantissa), torch.where(low, exponent - 1, exponent)


def _power_of_two(exponent: Tensor) -> Tensor:
    return ((exponent + 1023) << 52).view(torch.float64)


def _log_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    mantissa, exponent = _frexp(x.clamp(min=2.3e-308))
    s = (mantissa - 1.0) / (mantissa + 1.0)  # log m = 2 atanh s, |s| < 0.172
    z = s * s
    series = torch.full_like(z, 1.0 / 23.0)
    for k in range(21, 0, -2):
        series = series * z + 1.0 / k
    return 2.0 * s * series, exponent.to(torch.float64)


@overridable
def log(x: Tensor) -> Tensor:
    """Natural logarithm; x below the smallest normal number is taken as that."""
    log_mantissa, n = _log_parts(x)
    return n * _LN2_HI + (n * _LN2_LO + log_mantissa)


@overridable
def log1p(x: Tensor) -> Tensor:
    """log(1 + x) without cancellation near 0 (Goldberg 1991, theorem 4), x > -1."""
    u = 1.0 + x
    shift = u - 1.0
    safe = torch.where(shift == 0.0, torch.ones_like(shift), shift)
    return torch.where(shift == 0.0, x, log(u) * (x / safe))


@overridable
def exp(x: Tensor) -> Tensor:
    """Exponential, clamped to |x| <= 700."""
    x = x.clamp(-700.0, 700.0)
    n = torch.floor(x * 1.4426950408889634 + 0.5)  # 1 / ln 2
    r = (x - n * _LN2_HI) - n * _LN2_LO  # |r| < 0.3466
    total = torch.full_like(r, 1.0 / math.factorial(14))
    for k in range(13, -1, -1):
        total = total * r + 1.0 / math.factorial(k)
    return total * _power_of_two(n.to(torch.int64))


@overridable
def sqrt(x: Tensor) -> Tensor:
    """Square root by Newton's iteration, 0 for x <= 0."""
    mantissa, exponent = _frexp(x.clamp(min=1e-300))
    odd = (exponent & 1) == 1
    mantissa = torch.where(odd, 2.0 * mantissa, mantissa)
    half = torch.where(odd, exponent - 1, exponent) >> 1
    root = 0.41731 + 0.59016 * mantissa
    for _ in range(5):
        root = 0.5 * (root + mantissa / root)
    return torch.where(x > 0.0, root * _power_of_two(half), torch.zeros_like(x))


def _sin_cos_quarter(t: Tensor) -> tuple[Tensor, Tensor]:
    """sin and cos of t in [-pi/4, pi/4]."""
    z = t * t
    sine = torch.full_like(z, -1.0 / math.factorial(19))
    cosine = torch.full_like(z, 1.0 / math.factorial(20))
    for k in range(17, 0, -2):
        sine = sine * z + (1.0 if k % 4 == 1 else -1.0) / math.factorial(k)
    for k in range(18, -1, -2):
        cosine = cosine * z + (1.0 if k % 4 == 0 else -1.0) / math.factorial(k)
    return sine * t, cosine


@overridable
def sin_cos_turns(u: Tensor) -> tuple[Tensor, Tensor]:
    """(sin, cos) of 2 pi u: reducing turns is exact, reducing radians is not."""
    quarter = torch.floor(4.0 * u + 0.5)
    sine, cosine = _sin_cos_quarter((u - 0.25 * quarter) * (2.0 * math.pi))
    k = quarter.to(torch.int64) & 3
    swap = (k & 1) == 1
    s = torch.where(swap, cosine, sine)
    c = torch.where(swap, sine, cosine)
    return torch.where(k >= 2, -s, s), torch.where((k == 1) | (k == 2), -c, c)


@overridable
def sin(x: Tensor) -> Tensor:
    return sin_cos_turns(x * (0.5 / math.pi))[0]


@overridable
def cos(x: Tensor) -> Tensor:
    return sin_cos_turns(x * (0.5 / math.pi))[1]


@overridable
def atan(x: Tensor) -> Tensor:
    """Arc tangent: two halvings of the angle, then the series."""
    size = torch.abs(x)
    inverted = size > 1.0
    t = torch.where(inverted, 1.0 / size.clamp(min=1.0), size)
    t = t / (1.0 + sqrt(1.0 + t * t))
    t = t / (1.0 + sqrt(1.0 + t * t))  # |t| < 0.199
    z = t * t
    series = torch.full_like(z, -1.0 / 23.0)
    for k in range(21, 0, -2):
        series = series * z + (1.0 if k % 4 == 1 else -1.0) / k
    angle = 4.0 * t * series
    angle = torch.where(inverted, 0.5 * math.pi - angle, angle)
    return torch.where(x < 0.0, -angle, angle)


@overridable
def atan2(y: Tensor, x: Tensor) -> Tensor:
    """Angle of (x, y) in (-pi, pi]; 0 at the origin."""
    steep = torch.abs(y) > torch.abs(x)
    bottom = torch.where(steep, y, x)
    angle = atan(torch.where(steep, x, y) / torch.where(bottom == 0.0, torch.ones_like(bottom), bottom))
    turned = torch.where(y < 0.0, torch.full_like(y, -0.5 * math.pi), torch.full_like(y, 0.5 * math.pi)) - angle
    flat = torch.where(x < 0.0, torch.where(y < 0.0, angle - math.pi, angle + math.pi), angle)
    return torch.where(steep, turned, flat)


@overridable
def power(x: Tensor, exponent: Tensor | float) -> Tensor:
    """x ** exponent for x > 0."""
    return exp(exponent * log(x))


# Lanczos' approximation, g = 7, nine terms (Godfrey 2001)
_LANCZOS = (
    0.99999999999980993,
    676.5203681218851,
    -1259.1392167224028,
    771.32342877765313,
    -176.61502916214059,
    12.507343278686905,
    -0.13857109526572012,
    9.9843695780195716e-6,
    1.5056327351493116e-7,
)


@overridable
def gamma(x: Tensor) -> Tensor:
    """The gamma function for x >= 1/2, to 2e-14 for x <= 20."""
    x = x - 1.0
    total = torch.full_like(x, _LANCZOS[0])
    for k, coefficient in enumerate(_LANCZOS[1:], start=1):
        total = total + coefficient * (1.0 / (x + k))
    t = x + 7.5
    return math.sqrt(2.0 * math.pi) * exp((x + 0.5) * log(t) - t) * total


# Wichura (1988), algorithm AS 241, PPND16: relative error 1e-16
_CENTRAL = (
    (2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
     1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080e0),
    (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
     5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0),
)  # fmt: skip
_TAIL = (
    (7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258e0,
     3.64784832476320460504e0, 5.76949722146069140550e0, 4.63033784615654529590e0, 1.42343711074968357734e0),
    (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
     6.89767334985100004550e-1, 1.67638483018380384940e0, 2.05319162663775882187e0, 1.0),
)  # fmt: skip
_FAR_TAIL = (
    (2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
     2.96560571828504891230e-1, 1.78482653991729133580e0, 5.46378491116411436990e0, 6.65790464350110377720e0),
    (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
     1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0),
)  # fmt: skip


def _rational(t: Tensor, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Tensor:
    top, bottom = torch.full_like(t, coefficients[0][0]), torch.full_like(t, coefficients[1][0])
    for a, b in zip(coefficients[0][1:], coefficients[1][1:], strict=True):
        top, bottom = top * t + a, bottom * t + b
    return top / bottom


@overridable
def normal_quantile(u: Tensor) -> Tensor:
    """Inverse of the standard normal's distribution function, 0 < u < 1."""
    q = u - 0.5
    central = torch.abs(q) <= 0.425
    value = q * _rational(torch.where(central, 0.180625 - q * q, torch.zeros_like(q)), _CENTRAL)
    r = sqrt(-log(torch.where(q < 0.0, u, 1.0 - u)))
    tail = torch.where(r <= 5.0, _rational(r.clamp(max=5.0) - 1.6, _TAIL), _rational(r.clamp(min=5.0) - 5.0, _FAR_TAIL))
    return torch.where(central, value, torch.where(q < 0.0, -tail, tail))


@overridable
def normal_cdf(x: Tensor) -> Tensor:
    """The standard normal's distribution function: Marsaglia's series near 0, the continued fraction beyond 3."""
    size = torch.abs(x).clamp(max=37.0)
    density = exp(-0.5 * size * size) * (1.0 / math.sqrt(2.0 * math.pi))
    near = size.clamp(max=3.0)
    term, total = near, near
    for k in range(3, 81, 2):
        term = term * near * near * (1.0 / k)
        total = total + term
    upper_near = 0.5 - total * density
    far = size.clamp(min=3.0)
    fraction = far
    for k in range(60, 0, -1):
        fraction = far + k * (1.0 / fraction)
    upper = torch.where(size <= 3.0, upper_near, density / fraction)
    return torch.where(x < 0.0, upper, 1.0 - upper)
