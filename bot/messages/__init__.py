"""The words that people read, and the markers by which they are found again."""
