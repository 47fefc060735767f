from shop.tickets import group_price, ticket_price

assert group_price([30, 40]) == 24
assert group_price([5, 10, 40]) == 18
assert group_price([]) == 0
assert ticket_price(6) == 6
