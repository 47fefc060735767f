"""Names of people."""


def initials(name):
    """The first letters of all parts of a name, upper case."""
    return "".join(part[0].upper() for part in name.split())


def short_name(name, limit=10):
    """The name, cut at the limit with a dot if it is longer."""
    if len(name) <= limit:
        return name
    return name[:limit] + "."
