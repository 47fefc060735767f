"""Which paths a file of a repository can have, and which links stay within one."""

import os
import re
from pathlib import PurePosixPath

_MAX_PATH = 1000  # bytes
_MAX_NAME = 255  # bytes
# Where tests run: tracebacks and other output name the repository's files so.
_SANDBOX = re.compile(
    r"/tmp/troop/repo/|/repo/tree/|/(?:[^/]{1,255}/){0,20}job-[0-9a-f]{8}/repo/|/(?:repo|testbed|workspace)/"  # noqa: S108 - a name
)
_IN_TRACEBACK = re.compile(  # of Python, JavaScript and Rust
    r"(?:File )?\"([^\"]+)\"(?:, line \d+.*)?|at (?:[^()]* \()?([^()]+:\d+:\d+)\)?|--> (\S+)"
)
# `:3`, `:3:9` and `:3-9`; of links, compilers, pytest's names of tests, and in words.
_LINE_NUMBER = re.compile(
    r"(?<=\w)(?:(?::\d+){1,2}(?:-\d+)?(?:: ?| \+0x[0-9a-f]+)?|#L\d+(?:-L?\d+)?|\(\d+(?:, ?\d+)?\)|::[A-Za-z_][^/]*)$"
    r"|,? lines? \d+$| \((?:at )?lines? \d+(?:-\d+)?\)$"
)
_GIT_NAME = re.compile(r"(\.git|git~\d+)[ .]*", re.IGNORECASE)  # also what other file systems take for `.git`


def path_problem(path: str) -> str:
    """Why the path can't be a file of a repository, in words that follow the path, or "" if it can. Pure."""
    parts = path.split("/")
    if not path or path.startswith("/") or re.match(r"[A-Za-z]:", path):
        return "is not relative to the repository's root"
    if any(part in ("", ".", "..") for part in parts):
        return "is not a plain path"
    if "\\" in path or not path.isprintable():
        return "has a backslash or a character that can't be printed"
    if any(_GIT_NAME.fullmatch(part.partition(":")[0]) for part in parts):  # behind a colon: a stream of NTFS
        return "is in git's own folder"
    if len(path.encode()) > _MAX_PATH or any(len(part.encode()) > _MAX_NAME for part in parts):
        return "is longer than file systems allow"
    return ""


def normalised(path: str) -> str:
    """The path without the quotes, back slashes and `./` with which models write it. Pure; may still be unsafe.

    A path as a traceback prints it loses the sandbox's folder and the line number.
    """
    plain = path.strip()
    traced = _IN_TRACEBACK.fullmatch(plain)
    plain = plain[1:-1] if plain.startswith("(") and plain.endswith(")") else plain
    plain = next(filter(None, traced.groups())) if traced else plain
    plain = re.sub(r"^file:(//)?", "", plain).strip("`\"'\u201c\u201d\u2018\u2019").replace("\\", "/")
    if "." in plain.rpartition("/")[2]:
        plain = _LINE_NUMBER.sub("", plain)
    plain = _SANDBOX.sub("", plain, count=1) if _SANDBOX.match(plain) else plain
    return str(PurePosixPath(plain)) if plain else ""


def link_stays_within(link: str, root: str) -> bool:
    """Whether a symbolic link, both as it is written and followed to its end, stays below the root.

    As it is written too: `../tree/x` is in the tree here, but not in a sandbox, where the tree has another name.
    """
    target = os.readlink(link)
    written = os.path.normpath(os.path.join(os.path.relpath(os.path.dirname(link), root), target))
    if os.path.isabs(target) or written == ".." or written.startswith(".." + os.sep):
        return False
    real, real_root = os.path.realpath(link), os.path.realpath(root)
    return real == real_root or real.startswith(real_root + os.sep)
