import unittest

from tools.names import initials, short_name


class NamesTest(unittest.TestCase):
    def test_initials(self):
        self.assertEqual(initials("Ada Lovelace"), "AL")

    def test_short_name(self):
        self.assertEqual(short_name("Ada"), "Ada")
