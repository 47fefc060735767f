import unittest

from inkwell.counting import count_words, most_common, reading_minutes
from inkwell.excerpts import excerpt, first_sentence


class TextsTest(unittest.TestCase):
    def test_short_texts_stay(self):
        assert excerpt("one two", 80) == "one two"

    def test_long_texts_are_cut_between_words(self):
        assert excerpt("one two three four", 12) == "one two..."

    def test_first_sentence(self):
        assert first_sentence("It rains. It pours.") == "It rains."

    def test_counting(self):
        assert count_words("one two  three") == 3
        assert reading_minutes("word " * 500) == 2
        assert most_common("b a b c a b", 2) == ["b", "a"]


if __name__ == "__main__":
    unittest.main()
