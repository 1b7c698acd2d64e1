"""How numbers are written on a page: what is unknown is empty, and minus is a minus."""

from __future__ import annotations

import math
from typing import Any


def known(value: Any) -> bool:
    """Whether there is a value at all."""
    return value is not None and not (isinstance(value, float) and math.isnan(value))


def percent(value: float | None) -> str:
    """Two digits behind the point, as the tables have them."""
    return "" if value is None or not known(value) else _signed(f"{value:.2f}")


def _signed(text: str) -> str:
    """With a minus that is one, and none before a zero."""
    return text.replace("-", "−" if text.strip("-0.") else "")


def figures(value: float | None) -> str:
    """Three significant figures."""
    if value is None or not known(value):
        return ""
    text = f"{value:#.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return _signed(text.rstrip("."))


def probability(value: float | None) -> str:
    """Two significant figures of what is small, and no false exactness of what is tiny."""
    if value is None or not known(value):
        return ""
    return "< 0.001" if value < 0.001 else f"{value:.2g}" if value < 0.095 else f"{value:.2f}"


def count(value: float | None) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,.0f}" if known(value) else ""


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss, or with a digit where they are few."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"


def size(value: float) -> str:
    """Bytes, in powers of a thousand."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"


def sentence(text: str) -> str:
    """With a capital, but for the name of a projection."""
    first = text.partition(" ")[0]
    return text if "_" in first else text[:1].upper() + text[1:]


def cell(value: Any, column: str = "") -> str:
    """A value of any csv."""
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
"""By the names that the page calls them."""
