"""The beginning of a text."""


def excerpt(text, limit=80):
    """At most `limit` characters, cut between words, with dots where something is missing."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 3].rsplit(" ", 1)[0]
    return kept.rstrip(" ,.") + "..."


def first_sentence(text):
    """Everything up to the first full stop."""
    head, stop, _ = text.partition(". ")
    return head + stop.strip()
