"""How the tests of a Django project, and of Django itself, are started: by a script of the repository's. Pure.

Sources: Django's "Testing in Django" (`manage.py test`, labels) and "Unit tests" (`runtests.py`) guides.
"""

import re
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from bot.recipe.ci import DJANGO_RUNNERS, django_script

Read = Callable[[str], str | None]

_MANAGED = "manage.py"
_TEST = re.compile(r"(?:^|/)tests?(?:_[^/]*|/[^/]+|s)?\.py$|(?:^|/)tests?/")
_FOREIGN = frozenset(("docs", "example", "examples", "node_modules", "sandbox", "site-packages", "templates", "vendor"))
_OF_PYTEST = ("pytest.ini", ".pytest.ini", "pyproject.toml", "setup.cfg", "tox.ini", "conftest.py")
_HAS_SETTINGS = re.compile(
    r"^[ \t]*DJANGO_SETTINGS_MODULE\s*=|environ.*DJANGO_SETTINGS_MODULE|settings\.configure\(|django\.setup\(",
    re.MULTILINE,
)
_WITH_VALUE = ("-v", "--verbosity", "--settings", "--parallel", "-k", "--tag", "--exclude-tag", "-p", "--pattern", "-t")


def django_runner(files: Sequence[str]) -> tuple[tuple[str, ...], str] | None:
    """The script that runs tests, with its first arguments, and the folder that it is to be started in.

    None where the repository has none.
    """
    known = frozenset(files)
    if script := next((path for path in DJANGO_RUNNERS if path in known), None):
        return (script,), ""
    if (folder := _managed(files)) is not None:
        return (_MANAGED, "test"), folder
    return None


def django_command(files: Sequence[str], read: Read) -> tuple[str, ...] | None:
    """The command for all tests; None where there is no such script, or it is not Django's."""
    for script in DJANGO_RUNNERS:
        text = read(script) if script in files else None
        if text and "django" in text:
            # Other people's runners may know no such options. Of results, only this process' own are proved.
            known = (("--verbosity", ("-v", "2")), ("--parallel", ("--parallel", "1")))
            return ("python3", script, *(word for name, words in known if name in text for word in words))
    folder = _managed(files)
    if folder is None or not any(map(_TEST.search, files)):
        return None
    found = ("python3", f"{folder}/{_MANAGED}" if folder else _MANAGED, "test", "-v", "2", "--noinput")
    return (*found, "-t", folder, folder) if folder else found


def knows_settings(files: Sequence[str], read: Read) -> bool:
    """Whether pytest, too, is told of the project's settings, so that its tests may be meant for it."""
    places = [path for path in files if path.rpartition("/")[2] in _OF_PYTEST and path.count("/") < 3]
    return any(_HAS_SETTINGS.search(read(path) or "") for path in places)


def with_labels(command: Sequence[str], labels: Sequence[str]) -> tuple[str, ...] | None:
    """The command for these tests alone, by dotted names; None if the command is none of `django_command`'s kind."""
    at = _program_of(command)
    if not labels or at is None:
        return None
    kept = list(command)
    while len(kept) > at and not kept[-1].startswith("-") and kept[-2] not in _WITH_VALUE:
        kept.pop()
    return (*kept, *labels)


def labels_of(command: Sequence[str], paths: Sequence[str]) -> list[str]:
    """The dotted names by which the command takes these files of tests."""
    at = _program_of(command)
    if at is None:
        return []
    script = command[at - 2] if command[at - 1] == "test" else command[at - 1]
    return dotted(paths, script.rpartition("/")[0])


def dotted(paths: Sequence[str], folder: str) -> list[str]:
    """The names of the Python files below the folder, as they are imported from it; "" is the root."""
    root = f"{folder}/" if folder else ""
    inside = [path for path in paths if path.endswith(".py") and path.startswith(root)]
    return [path[len(root) :].removesuffix(".py").replace("/", ".") for path in inside]


def _program_of(command: Sequence[str]) -> int | None:
    """Where the arguments of the script begin that runs tests, or of `-m django test`; None for other commands."""
    if not command or not PurePosixPath(command[0]).name.startswith("python"):
        return None
    at = next((i for i, word in enumerate(command) if i and not word.startswith("-")), 0)
    if at and (django_script(command[at:]) or tuple(command[at - 1 : at + 2]) == ("-m", "django", "test")):
        return at + 2 if tuple(command[at + 1 : at + 2]) == ("test",) else at + 1
    return None


def _managed(files: Sequence[str]) -> str | None:
    """The folder of the outermost `manage.py` that is no example's; "" for the root."""
    folders = [path.rpartition("/")[0] for path in files if path.rpartition("/")[2] == _MANAGED]
    own = [folder for folder in folders if _FOREIGN.isdisjoint(PurePosixPath(folder).parts) and folder.count("/") < 3]
    return min(own, key=lambda folder: (folder.count("/"), bool(folder), folder), default=None)
