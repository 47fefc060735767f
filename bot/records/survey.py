"""What keeps the tests of a repository from running in the sandbox."""

import enum

from bot.records.record import Record


class Fault(enum.StrEnum):
    """What is wrong."""

    IMPORT_FAILS = "import fails"  # a package of the repository can't be imported
    NOT_BUILT = "not built"  # ... since a module that the repository's build writes is missing
    INSTALLED_COPY = "installed copy"  # ... or another copy of it is imported instead
    NO_INTERPRETER = "no interpreter"  # what runs the repository's language is not in the sandbox
    TOO_OLD = "too old"  # ... or an older one is than the repository asks for


class Obstacle(Record):
    """One thing that is wrong in the sandbox."""

    fault: Fault
    name: str  # of the package, of the program, or of an image that has a newer one ("": none is known)
    detail: str = ""  # the error of the import, where the copy is, or what is asked for and what is there
