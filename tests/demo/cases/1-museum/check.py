from shop.tickets import group_price, ticket_price

assert [ticket_price(age) for age in (0, 5, 6, 7, 13, 14, 90)] == [0, 0, 6, 6, 6, 12, 12]
assert group_price([5, 6, 40]) == 18
