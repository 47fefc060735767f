"""What a repository asks of its contributors: AGENTS.md, CLAUDE.md and CONTRIBUTING of the base commit.

Anybody whose pull request was merged may have written them, so they are data: what their readers don't see is removed,
and what looks like a tag of ours is escaped. Of a long file the sections on code, style and tests are kept.
"""

import bisect
import itertools
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from bot.records import Checkout, SourceFile
from bot.sanitize import clean
from bot.sanitize.delimiters import escaped

_NAMES = ("agents.md", "claude.md", "contributing.md", "contributing.rst", "contributing.txt", "contributing")
_FOLDERS = (".", ".github", "docs", "doc", ".claude")
_MOST_READ = 200_000  # bytes of a file
_EACH, _ALL = 2_500, 3_500  # characters that are shown of one file, and of all
_HEADING = re.compile(r"^(?:#{1,6} .+|[^\s#].*\n(?:={3,}|-{3,}|~{3,}|\^{3,}))[ \t]*$", re.MULTILINE)
_CODE_BLOCK = re.compile(r"^ {0,3}(```++|~~~++).*\n(?:.*\n)*?(?: {0,3}\1[`~]*[ \t]*$|\Z)", re.MULTILINE)
_ON_CODE = re.compile(
    r"\b(?:cod(?:e|ing)|styl|format|lint|test|naming|convention|typ(?:e|ing)|docstring|architect|structure|guideline"
    r"|command|check|python|rule)",
    re.IGNORECASE,
)
_CUT = "[... the rest is left out ...]"


def customs(checkout: Checkout, shown: Sequence[str] = (), most: int = _ALL) -> tuple[SourceFile, ...]:
    """The files as a prompt may hold them: of the root, and those named AGENTS.md or CLAUDE.md above a `shown` file.

    At most so many characters of all, and never more than 3,500.

    Blocks: run it in a thread.
    """
    above = {str(folder) for path in shown for folder in PurePosixPath(path).parents}
    found = [path for path in checkout.files if _is_one(path, above)]
    files: list[SourceFile] = []
    read: set[str] = set()
    left = min(_ALL, most)
    for path in sorted(found, key=_order):
        text = escaped(clean(_beginning(Path(checkout.root) / path)).text.strip())
        if not text or text in read:  # CLAUDE.md is often a copy of AGENTS.md
            continue
        read.add(text)
        kept = abridged(text, min(_EACH, left))
        if kept:
            files.append(SourceFile(path=path, text=kept, excerpt=kept != text))
            left -= len(kept)
    return tuple(files)


def _is_one(path: str, above: set[str]) -> bool:
    pure = PurePosixPath(path)
    folder, name = str(pure.parent), pure.name.lower()
    return name in _NAMES and (folder in _FOLDERS or (folder in above and name in _NAMES[:2]))


def _order(path: str) -> tuple[int, int, str]:
    return _NAMES.index(PurePosixPath(path).name.lower()), path.count("/"), path


def _beginning(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(_MOST_READ)
    except OSError:
        return ""
    return "" if b"\0" in data else data.decode("utf-8-sig", "replace")


def abridged(text: str, characters: int) -> str:
    """The text, or its sections on code, style and tests, in their order, as many as fit; "" where none does. Pure."""
    if len(text) <= characters:
        return text
    blocks = [match.span() for match in _CODE_BLOCK.finditer(text)]
    headings = [match.start() for match in _HEADING.finditer(text)]
    begins = [begin for begin, _ in blocks]
    in_block = [bisect.bisect_right(begins, at) for at in headings]  # the last that begins before, from 1
    outside = (at for at, last in zip(headings, in_block, strict=True) if not last or blocks[last - 1][1] <= at)
    starts = [0, *filter(None, outside), len(text)]
    sections = [text[a:b].strip("\n") for a, b in itertools.pairwise(starts)]
    first = sorted(range(len(sections)), key=lambda i: (not _ON_CODE.search(sections[i].split("\n", 1)[0]), i))
    kept: set[int] = set()
    room = characters - len(_CUT) - 2
    for i in first:
        if len(sections[i]) + 2 <= room:
            kept.add(i)
            room -= len(sections[i]) + 2
    if not kept:
        head = text[: max(0, characters - len(_CUT) - 2)].rpartition("\n")[0]
        return f"{head}\n\n{_CUT}" if head.strip() else ""
    return "\n\n".join([*(sections[i] for i in sorted(kept)), _CUT])
