import unittest

from almanac.spans import length, merge, overlap


class SpansTest(unittest.TestCase):
    def test_length_includes_both_ends(self):
        assert length((3, 5)) == 3

    def test_overlap(self):
        assert overlap((1, 5), (4, 9)) == (4, 5)
        assert overlap((1, 2), (3, 4)) is None

    def test_neighbours_are_merged(self):
        assert merge([(5, 6), (1, 2), (3, 4)]) == [(1, 6)]


if __name__ == "__main__":
    unittest.main()
