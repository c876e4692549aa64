"""Numbers for people: joules with a prefix, shares, ratios."""

from __future__ import annotations

import math

_PREFIXES = {-18: "a", -15: "f", -12: "p", -9: "n", -6: "\N{MICRO SIGN}", -3: "m", 0: ""}


def prefix_of(value: float) -> tuple[float, str]:
    """(power of ten, prefix) that shows `value` between 1 and 1000."""
    if value == 0 or not math.isfinite(value):
        return 1.0, ""
    exponent = 3 * math.floor(math.log10(abs(value) * (1 + 1e-12)) / 3)
    exponent = min(max(exponent, -18), 0)
    return 10.0**exponent, _PREFIXES[exponent]


def joules(value: float | None) -> str:
    """Three figures with a prefix: 4.23e-8 -> "42.3 nJ"; None -> "not run"."""
    return "not run" if value is None else with_unit(value, "J")


def with_unit(value: float, unit: str) -> str:
    """Three figures with a prefix."""
    value = float(f"{value:.2e}")  # 999.9 n is 1.00 micro
    scale, prefix = prefix_of(value)
    number = value / scale
    digits = max(2 - math.floor(math.log10(abs(number))), 0) if number else 0
    return f"{number:.{min(digits, 3)}f} {prefix}{unit}"


def times(ratio: float) -> str:
    """A ratio as "3.20x"."""
    return f"{ratio:.3g}x"


def percent(share: float) -> str:
    """A share as a percentage; what rounds to nothing is shown as less than a tenth."""
    return "< 0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"
