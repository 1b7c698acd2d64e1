"""Numbers as text on the page: missing values are empty, and the minus sign is U+2212."""

from __future__ import annotations

import math
from typing import Any


def known(value: Any) -> bool:
    """Whether a value is neither None nor NaN."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def percent(value: float | None) -> str:
    """A number with two decimals, as in the tables."""
    return "" if value is None or not known(value) else _signed(f"{value:.2f}")


def _signed(text: str) -> str:
    """The text with a minus sign in place of the hyphen; zero has no sign."""
    return text.replace("-", "−" if text.strip("-0.") else "")


def figures(value: float | None) -> str:
    """A number with three significant figures."""
    if value is None or not known(value):
        return ""
    if math.isinf(value):
        return _signed("∞" if value > 0 else "-∞")
    text = f"{value:#.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return _signed(text.rstrip("."))


def probability(value: float | None) -> str:
    """A probability with two significant figures or two decimals; `< 0.001` if it is smaller."""
    if value is None or not known(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.095 else f"{value:.2f}"


def count(value: float | None) -> str:
    """A whole number with separated thousands."""
    return f"{value:,.0f}" if known(value) else ""


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss or m:ss; with one decimal below a minute."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def size(value: float) -> str:
    """A number of bytes, in units of powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def sentence(text: str) -> str:
    """The text with a capital first letter, unless its first word is a projection's name."""
    first = text.partition(" ")[0]
    return text if "_" in first else text[:1].upper() + text[1:]


def cell(value: Any, column: str = "") -> str:
    """A value of a csv file."""
    if not known(value):
        return ""
    if column.endswith("_bytes"):
        return size(float(value))
    if column == "p":
        return probability(float(value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.2f}" if abs(value) >= 10 else figures(value)
    return str(value)


FILTERS = {
    one.__name__: one for one in (percent, figures, probability, count, clock, sentence, cell)
}
"""The filters of the page's templates, by name."""
