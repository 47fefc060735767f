"""Linears whose weights are numbers of four or six bits with shared scales, as dequantised checkpoints hold them."""
