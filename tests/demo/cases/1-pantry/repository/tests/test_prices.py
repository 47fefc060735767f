import unittest

from pantry.prices import bulk_price, split_bill, with_tax


class PricesTest(unittest.TestCase):
    def test_tax(self):
        assert with_tax(10.0) == 11.9

    def test_few_pieces_cost_the_full_price(self):
        assert bulk_price(2.5, 4) == 10.0

    def test_many_pieces_are_cheaper(self):
        assert bulk_price(2.5, 20) == 45.0

    def test_shares_add_up(self):
        assert split_bill(10.0, 3) == [3.34, 3.33, 3.33]


if __name__ == "__main__":
    unittest.main()
