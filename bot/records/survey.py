"""What keeps the tests of a repository from running in the sandbox."""

import enum

from bot.records.record import Record


class Fault(enum.StrEnum):
    """What is wrong."""

    IMPORT_FAILS = "import fails"  # a package of the repository can't be imported
    NOT_BUILT = "not built"  # ... since a module that the repository's build writes is missing
    INSTALLED_COPY = "installed copy"  # ... or another copy of it is imported instead
    NO_INTERPRETER = "no interpreter"  # what runs the repository's language is not in the sandbox


class Obstacle(Record):
    """One thing that is wrong in the sandbox."""

    fault: Fault
    name: str  # of the package, or of the program
    detail: str = ""  # the error of the import, or where the copy is
