import unittest

from pantry.receipt import receipt
from pantry.stock import OutOfStock, Shelf


class StockTest(unittest.TestCase):
    def test_add_and_take(self):
        shelf = Shelf({"rice": 2})
        shelf.add("rice", 3)
        assert shelf.take("rice", 4) == 4
        assert shelf.pieces == {"rice": 1}

    def test_all_or_none(self):
        try:
            Shelf({"rice": 1}).take("rice", 2)
        except OutOfStock:
            return
        raise AssertionError("took more than there was")

    def test_low(self):
        assert Shelf({"tea": 9, "salt": 1}).low() == ["salt"]

    def test_receipt(self):
        assert receipt([("tea", 1.5, 2)]).endswith("3.00")


if __name__ == "__main__":
    unittest.main()
