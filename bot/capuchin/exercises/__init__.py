"""The training data of the bundled model: mutated functions, with issues, tests and edits about them."""
