import unittest

from shop.stock import needs_order, take_out


class StockTest(unittest.TestCase):
    def test_needs_order(self):
        self.assertTrue(needs_order(1, 5))
        self.assertFalse(needs_order(9, 5))

    def test_take_out(self):
        self.assertEqual(take_out({"tea": 5}, "tea", 2), {"tea": 3})
