"""Unified diffs in git's format, for `git apply`. Pure."""

import difflib
import re
from collections.abc import Iterable

from bot.patch.binary_diff import binary_diff
from bot.patch.encoding import UTF_8

_QUOTED = {"\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "\\": "\\\\"}


def file_diff(path: str, before: str | None, after: str | None, executable: bool = False, encoding: str = UTF_8) -> str:
    """The diff of one file from `before` to `after`; None: it does not exist. "" for equal texts.

    `encoding`: of the existing file. Where it has other bytes than UTF-8 for the lines of the diff, these are to be
    read, and what `git apply` takes comes after them.
    """
    if before == after:
        return ""
    mode = "100755" if executable else "100644"
    head = [f"diff --git {_name('a/' + path)} {_name('b/' + path)}\n"]
    if before is None:
        head.append(f"new file mode {mode}\n")
    elif after is None:
        head.append(f"deleted file mode {mode}\n")
    old, new = _lines(before), _lines(after)
    if not old and not new:  # without a hunk git needs the blobs' ids; here one is the empty blob
        empty = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
        zero = "0" * 40
        head.append(f"index {zero}..{empty}\n" if before is None else f"index {empty}..{zero}\n")
        return "".join(head)
    hunks = "".join(_hunks(old, new))
    if before is not None and _bytes(hunks, encoding) != _bytes(hunks, UTF_8):
        read = re.sub(r"^@@ -(\d+).*$", r"from line \1:", hunks, flags=re.MULTILINE)
        change = binary_diff(_bytes(before, encoding), None if after is None else _bytes(after, encoding), mode)
        said = f"{_name(path)} is {encoding}; its text changes like this, and below are its bytes:\n"
        return f"{said}{read}{head[0]}{change}"
    head.append(f"--- {_name('a/' + path, tab=True) if before is not None else '/dev/null'}\n")
    head.append(f"+++ {_name('b/' + path, tab=True) if after is not None else '/dev/null'}\n")
    return "".join([*head, hunks])


def _bytes(text: str, encoding: str) -> bytes:
    return text.encode(encoding, "surrogateescape")


def _lines(text: str | None) -> list[str]:
    """Lines as git counts them: only a line feed ends one."""
    return re.findall(r"[^\n]*\n|[^\n]+\Z", text or "")


def _hunks(old: list[str], new: list[str]) -> Iterable[str]:
    for line in list(difflib.unified_diff(old, new, lineterm="\n"))[2:]:
        yield line if line.endswith("\n") else f"{line}\n\\ No newline at end of file\n"


def _name(path: str, *, tab: bool = False) -> str:
    """The path as git writes it: quoted where it has odd characters, ended by a tab where it has spaces."""
    if re.search(r'[\x00-\x1f\x7f"\\]', path):
        return (
            '"'
            + "".join(_QUOTED.get(c) or (f"\\{ord(c):03o}" if ord(c) < 32 or ord(c) == 127 else c) for c in path)
            + '"'
        )
    return f"{path}\t" if tab and " " in path else path
