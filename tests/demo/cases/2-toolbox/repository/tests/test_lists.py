import unittest

from tools.lists import clamp, count_matches, last_items


class ListsTest(unittest.TestCase):
    def test_last_items(self):
        self.assertEqual(last_items([1, 2, 3, 4], 2), [3, 4])
        self.assertEqual(last_items([1, 2], 0), [])

    def test_nothing_to_count(self):
        self.assertEqual(count_matches([], 1), 0)

    def test_clamp(self):
        self.assertEqual([clamp(n, 1, 3) for n in range(5)], [1, 1, 2, 3, 3])
