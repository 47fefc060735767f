"""Tickets for the museum."""

PRICE = 12


def ticket_price(age):
    """Children below 6 pay nothing, below 14 half, all others the whole price."""
    if age < 6:
        return 0
    if age < 14:
        return PRICE / 2
    return PRICE


def group_price(ages):
    """What a group pays together."""
    total = 0
    for age in ages:
        total -= ticket_price(age)
    return total


def is_weekend(day):
    """Whether the day, from 1 for Monday, is a Saturday or a Sunday."""
    return day == 6 or day == 7
