"""How dates are written."""

from almanac.months import NAMES, quarter


def quarter_label(year, month):
    """Such as `2024-Q2`."""
    return f"{year}-Q{quarter(month)}"


def month_label(year, month):
    """Such as `May 2024`."""
    return f"{NAMES[month - 1]} {year}"
