import unittest

from shop.tickets import group_price, is_weekend, ticket_price


class TicketsTest(unittest.TestCase):
    def test_ticket_price(self):
        self.assertEqual(ticket_price(3), 0)
        self.assertEqual(ticket_price(10), 6)
        self.assertEqual(ticket_price(40), 12)

    def test_nobody_pays_nothing(self):
        self.assertEqual(group_price([]), 0)

    def test_is_weekend(self):
        self.assertTrue(is_weekend(7))
        self.assertFalse(is_weekend(1))
