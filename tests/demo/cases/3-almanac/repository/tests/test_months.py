import unittest

from almanac.labels import month_label, quarter_label
from almanac.months import add_months, days_in, is_leap, quarter


class MonthsTest(unittest.TestCase):
    def test_quarters(self):
        assert quarter(1) == 1
        assert quarter(5) == 2

    def test_labels(self):
        assert quarter_label(2024, 2) == "2024-Q1"
        assert month_label(2024, 5) == "May 2024"

    def test_leap_years(self):
        assert is_leap(2024)
        assert not is_leap(1900)
        assert days_in(2, 2000) == 29

    def test_adding_goes_over_the_year(self):
        assert add_months(2023, 11, 3) == (2024, 2)


if __name__ == "__main__":
    unittest.main()
