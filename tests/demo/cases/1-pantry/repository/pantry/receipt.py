"""What is printed for the customer."""

from pantry.prices import bulk_price


def line(name, price, quantity, width=32):
    """One line of a receipt: the name on the left, the amount on the right."""
    left = f"{quantity} x {name}"
    right = f"{bulk_price(price, quantity):.2f}"
    return left + right.rjust(width - len(left))


def receipt(items):
    """All lines, then the sum."""
    lines = [line(name, price, quantity) for name, price, quantity in items]
    total = sum(bulk_price(price, quantity) for _, price, quantity in items)
    return "\n".join([*lines, "-" * 32, f"{total:.2f}".rjust(32)])
