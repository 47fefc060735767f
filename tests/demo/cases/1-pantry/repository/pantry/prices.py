"""What things cost."""

BULK_MINIMUM = 10
BULK_DISCOUNT = 0.1


def with_tax(price, rate=0.19):
    """The price with tax, rounded to cents."""
    return round(price * (1 + rate), 2)


def bulk_price(price, quantity):
    """The price of several pieces, with 10 % off from ten pieces on."""
    total = price * quantity
    if quantity > BULK_MINIMUM:
        total -= total * BULK_DISCOUNT
    return round(total, 2)


def split_bill(total, people):
    """Equal shares in cents; the first ones pay what is left over."""
    cents = round(total * 100)
    share, left = divmod(cents, people)
    return [(share + (1 if i < left else 0)) / 100 for i in range(people)]
