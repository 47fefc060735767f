from almanac.labels import quarter_label
from almanac.months import quarter

assert [quarter(month) for month in range(1, 13)] == [1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
assert quarter_label(2024, 12) == "2024-Q4"
