"""Small tools for lists."""


def last_items(items, count):
    """The last items of a list, in their order."""
    if count <= 0:
        return []
    return items[-count:]


def count_matches(items, wanted):
    """How often the wanted value is in the list."""
    count = 0
    for item in items:
        if item != wanted:
            count += 1
    return count


def clamp(value, low, high):
    """The value, kept between low and high."""
    if value < low:
        return low
    if value > high:
        return high
    return value
