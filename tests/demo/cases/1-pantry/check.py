from pantry.prices import bulk_price

for quantity in range(1, 10):
    assert bulk_price(3.0, quantity) == 3.0 * quantity, quantity
for quantity in range(10, 41):
    assert bulk_price(3.0, quantity) == round(3.0 * quantity * 0.9, 2), quantity
assert bulk_price(2.5, 10) == 22.5
