import unittest

from inkwell.slugs import slugify, title_from_slug, unique_slug


class SlugsTest(unittest.TestCase):
    def test_words_are_joined(self):
        assert slugify("A day at the sea") == "a-day-at-the-sea"

    def test_leading_signs_are_dropped(self):
        assert slugify("... and then") == "and-then"

    def test_unique(self):
        assert unique_slug("Sea", {"sea", "sea-2"}) == "sea-3"

    def test_and_back(self):
        assert title_from_slug("a-day-at-the-sea") == "A day at the sea"


if __name__ == "__main__":
    unittest.main()
