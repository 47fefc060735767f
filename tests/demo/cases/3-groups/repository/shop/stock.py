"""What is in the store room."""


def needs_order(amount, limit):
    """Whether new goods must be ordered: at the limit or below it."""
    return amount <= limit


def take_out(stock, name, amount):
    """The stock after some of it was taken out, never below zero."""
    left = dict(stock)
    left[name] = max(0, left.get(name, 0) - amount)
    return left
