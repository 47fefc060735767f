"""The words that people read: on GitHub, on the console and on the pages. Pure."""
