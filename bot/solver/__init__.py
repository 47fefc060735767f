"""Issue and checkout in, verdict out."""
