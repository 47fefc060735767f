from tools.lists import count_matches

assert count_matches([1, 2, 2, 3], 2) == 2
assert count_matches("banana", "a") == 3
assert count_matches([1], 2) == 0
