"""Pieces of inline SVG charts: 360 units wide, so that they are read 1:1 on a phone.

Colours are CSS classes of the page (`c0` to `c13`, `axis`, `faint`), which has a light and a dark
set of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from neurosim.energy.units import with_unit

WIDTH = 360.0


def text(x: float, y: float, words: str, anchor: str = "start", css: str = "") -> str:
    """A line of text; y is its baseline."""
    style = f' class="{css}"' if css else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{style}>{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, css: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" class="{css}"/>'


def box(x: float, y: float, width: float, height: float, css: str, title: str = "") -> str:
    """A filled rectangle with a tooltip."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 0.0):.2f}" height="{height:.1f}" '
        f'class="{css}">{inside}</rect>'
    )


def dot(x: float, y: float, css: str, title: str = "", radius: float = 3.0) -> str:
    """A filled circle with a tooltip."""
    inside = f"<title>{escape(title)}</title>" if title else ""
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{radius}" class="{css}">{inside}</circle>'


def path(points: Sequence[tuple[float, float]], css: str) -> str:
    """A polyline."""
    steps = " L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path d="M{steps}" class="{css}"/>'


def ribbon(x1: float, y1: float, x2: float, y2: float, width: float, css: str, title: str) -> str:
    """A band of constant width from (x1, y1) to (x2, y2), upper edges given."""
    middle = (x1 + x2) / 2
    return (
        f'<path d="M{x1:.1f} {y1:.2f} C{middle:.1f} {y1:.2f} {middle:.1f} {y2:.2f} {x2:.1f} '
        f"{y2:.2f} L{x2:.1f} {y2 + width:.2f} C{middle:.1f} {y2 + width:.2f} {middle:.1f} "
        f'{y1 + width:.2f} {x1:.1f} {y1 + width:.2f} Z" class="{css}">'
        f"<title>{escape(title)}</title></path>"
    )


def figure(identity: str, title: str, description: str, height: float, parts: Sequence[str]) -> str:
    """A whole chart, with a name and a description for those who do not see it."""
    return (
        f'<svg viewBox="0 0 {WIDTH:.0f} {height:.0f}" role="img" '
        f'aria-labelledby="{identity}-t {identity}-d"><title id="{identity}-t">{escape(title)}'
        f'</title><desc id="{identity}-d">{escape(description)}</desc>{"".join(parts)}</svg>'
    )


@dataclass(frozen=True)
class Axis:
    """A scale from values to units of the chart, linear or logarithmic."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __post_init__(self) -> None:
        if self.low >= self.high or (self.logarithmic and self.low <= 0.0):
            raise ValueError(f"expected a rising (positive, if logarithmic) range, got {self}")

    def at(self, value: float) -> float:
        """Where a value stands; outside values stand at the edge."""
        value = min(max(value, self.low), self.high)
        if self.logarithmic:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)

    def ticks(self, most: int = 5) -> list[float]:
        """Round values inside the range."""
        if self.logarithmic:
            first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
            every = max(1, math.ceil((last - first + 1) / most))
            return [10.0**power for power in range(first, last + 1, every)]
        step = 10.0 ** math.floor(math.log10((self.high - self.low) / most))
        step *= next(f for f in (1, 2, 5, 10) if (self.high - self.low) / (step * f) <= most)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def log_axis(values: Sequence[float], start: float, end: float) -> Axis:
    """A logarithmic axis around positive values, with a little room."""
    positive = [value for value in values if value > 0]
    if not positive:
        raise ValueError("expected positive values for a logarithmic axis")
    return Axis(min(positive) / 1.3, max(positive) * 1.3, start, end, logarithmic=True)


def horizontal(axis: Axis, y: float, height: float, label: str, unit: str | None) -> list[str]:
    """An x axis below a field of `height`, with grid lines; `unit` None: plain numbers."""
    parts = []
    for value in axis.ticks():
        x = axis.at(value)
        words = f"{value:g}" if unit is None else short(value, unit)
        parts += [line(x, y - height, x, y, "grid"), text(x, y + 12, words, "middle", "small")]
    middle = (axis.start + axis.end) / 2
    return [*parts, line(axis.start, y, axis.end, y, "axis"), text(middle, y + 26, label, "middle")]


def vertical(axis: Axis, x: float, width: float, label: str, unit: str) -> list[str]:
    """A y axis left of a field of `width`, its label above it."""
    parts = []
    for value in axis.ticks():
        y = axis.at(value)
        parts += [line(x, y, x + width, y, "grid")]
        parts += [text(x - 4, y + 3, short(value, unit), "end", "small")]
    return [*parts, line(x, axis.start, x, axis.end, "axis"), text(4, axis.end - 8, label)]


def short(value: float, unit: str) -> str:
    """A tick: 1e-5 J -> "10 uJ"."""
    number, _, rest = with_unit(value, unit).partition(" ")
    return f"{float(number):g} {rest}"
