"""What the bundled model learns from: mutated functions, and issues, tests and edits about them."""
