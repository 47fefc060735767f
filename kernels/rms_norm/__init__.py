"""Root-mean-square normalisation, with the residual addition before it where there is one."""
