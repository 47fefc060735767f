"""Arithmetic with months from 1 to 12."""

NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAYS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


def quarter(month):
    """The quarter of the year that a month is in, from 1 to 4."""
    return (month - 1) // 4 + 1


def is_leap(year):
    """Whether the year has a 29th of February."""
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)


def days_in(month, year):
    """How many days the month has."""
    if month == 2 and is_leap(year):
        return 29
    return DAYS[month - 1]


def add_months(year, month, count):
    """The year and the month that come `count` months later."""
    index = year * 12 + month - 1 + count
    return index // 12, index % 12 + 1
