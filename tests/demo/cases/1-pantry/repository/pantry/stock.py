"""What lies on the shelf."""


class OutOfStock(Exception):
    """There is less on the shelf than somebody wants."""


class Shelf:
    """Pieces by name."""

    def __init__(self, pieces=None):
        self.pieces = dict(pieces or {})

    def add(self, name, count=1):
        """Put pieces on the shelf."""
        self.pieces[name] = self.pieces.get(name, 0) + count

    def take(self, name, count=1):
        """Take pieces off the shelf, all of them or none."""
        if self.pieces.get(name, 0) < count:
            raise OutOfStock(name)
        self.pieces[name] -= count
        return count

    def low(self, limit=5):
        """Names of which there are fewer than `limit` pieces."""
        return sorted(name for name, count in self.pieces.items() if count < limit)
