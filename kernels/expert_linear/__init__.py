"""The linears of experts: each row is multiplied with the weights of those experts that were chosen for it."""
