"""Spans of days, as pairs of a first and a last day number."""


def length(span):
    """Days of the span, the first and the last included."""
    first, last = span
    return last - first + 1


def overlap(one, other):
    """The days that both spans have, or None."""
    first = max(one[0], other[0])
    last = min(one[1], other[1])
    return (first, last) if first <= last else None


def merge(spans):
    """The same days in as few spans as possible."""
    merged = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return merged
