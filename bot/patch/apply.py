"""Edits that a model asks for, applied to a repository's files as texts: a patch, or what is wrong and where.

Nothing is written: `apply` reads through a callable and returns the files' new texts. SEARCH text must match whole
lines at exactly one place. Where it matches nowhere, the errors that models make in copied lines are ignored
(`bot.patch.matching`), as long as one place matches. A whole definition replaces the one of the same name. Line
endings, a byte order mark, a missing final newline and the encoding are kept.
"""

import difflib
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from bot.patch.diff import file_diff
from bot.patch.encoding import UTF_8, unencodable
from bot.patch.matching import Place, exactly, shifted, starts, unnumbered, without_blank_lines, without_trailing_space
from bot.patch.paths import normalised, path_problem
from bot.patch.reader import Unreadable
from bot.patch.redefine import NotDefined, redefined
from bot.patch.syntax import syntax_error
from bot.records import FileChange, Patch, Record, by_path


class Problem(Record):
    """What is wrong with a reply, for the model to read. The first line says it; the others help to correct it."""

    text: str

    @property
    def short(self) -> str:
        return self.text.split("\n", 1)[0]

    @property
    def kind(self) -> str:
        """The first line without the paths, names and numbers of the case: equal for mistakes of one kind."""
        words = self.short.partition(": ")[0].split()
        return " ".join(word for word in words if not re.search(r"[^a-zA-Z<>,=]", word))


class Block(Record):
    """One SEARCH/REPLACE pair: whole lines, without the last newline.

    `others`: the pairs that it would be if a later `=======` line were the divider; the file decides which applies.
    """

    search: str
    replace: str
    others: tuple[tuple[str, str], ...] = ()
    line: int = 0  # of the block in the reply, from 1; 0: unknown


class Replace(Record):
    """Blocks to replace in an existing file."""

    path: str
    blocks: tuple[Block, ...]


class Redefine(Record):
    """Rewritten functions, methods or classes; each replaces the one of its name (`bot.patch.redefine`)."""

    path: str
    text: str


class Create(Record):
    """A new file, or the whole new text of an existing one."""

    path: str
    text: str


class Delete(Record):
    path: str


FileEdit = Replace | Redefine | Create | Delete


class _Wrong(Exception):
    """A problem; its text is for the model."""


Reader = Callable[[str], str | None]  # the file's text with its own line endings; None: not there; raises `Unreadable`


def apply(
    edits: Sequence[FileEdit],
    read: Reader,
    *,
    paths: Collection[str] = (),
    executable: Callable[[str], bool] = lambda path: False,
    encoding: Callable[[str], str] = lambda path: UTF_8,
) -> Patch | Problem:
    """The patch that the edits make of the base commit, or the first problem.

    `paths`: the repository's files, to suggest from where a path is not there. `executable`, `encoding`: of an existing
    file (`bot.patch.reader`).
    """
    blocks: dict[str, list[Block]] = {}
    wholes: dict[str, list[Redefine]] = {}
    changes: dict[str, FileChange] = {}
    diffs: dict[str, str] = {}
    try:
        for edit in edits:
            path = _located(edit, paths)
            if isinstance(edit, Replace | Redefine):
                if isinstance(edit, Replace):
                    blocks.setdefault(path, []).extend(edit.blocks)
                else:
                    wholes.setdefault(path, []).append(edit)
                before, after = _read(read, path), ""
                mark, body = _marked(before)
                mine = blocks.get(path, [])
                if before is None and path not in wholes and all(not block.search.strip() for block in mine):
                    after = _ended("\n".join(block.replace for block in mine))
                elif before is None:
                    raise _Wrong(_no_file(path, paths))
                else:
                    after = _replaced(path, body, _without_drafts(mine))
                    after = mark + _rewritten(path, after, wholes.get(path, []))
            elif isinstance(edit, Create):
                before, after = _read(read, path), _ended(edit.text)
                if before is not None and "\r\n" in before:
                    after = after.replace("\r\n", "\n").replace("\n", "\r\n")
                after = _marked(after if before is None else before)[0] + _marked(after)[1]
            else:
                before = _read(read, path)
                if before is None:
                    raise _Wrong(_no_file(path, paths))
                changes[path] = FileChange(path=path, text=None)
                diffs[path] = file_diff(path, before, None, executable(path))
                continue
            if before == after:
                changes.pop(path, None)
                continue
            mode = executable(path) if before is not None else after.startswith("#!")
            own = encoding(path) if before is not None else UTF_8
            _check_text(path, before, after, own)
            changes[path] = FileChange(path=path, text=after, executable=mode, encoding=own)
            diffs[path] = file_diff(path, before, after, mode)
    except _Wrong as wrong:
        return Problem(text=str(wrong))
    if not changes:
        return Problem(text="the edit changes nothing\nREPLACE must differ from what is already in the file.")
    return Patch(changes=by_path(tuple(changes.values())), diff="".join(diffs[path] for path in sorted(changes)))


def apply_onto(
    earlier: Patch,
    edits: Sequence[FileEdit],
    read: Reader,
    *,
    paths: Collection[str] = (),
    executable: Callable[[str], bool] = lambda path: False,
    encoding: Callable[[str], str] = lambda path: UTF_8,
) -> Patch | Problem:
    """As `apply`, but the edits are made on top of `earlier`; the patch contains both."""
    texts = {change.path: change.text for change in earlier.changes}
    encodings = {change.path: change.encoding for change in earlier.changes}

    def own(path: str) -> str:
        return encodings[path] if path in encodings else encoding(path)

    def now(path: str) -> str | None:
        return texts[path] if path in texts else read(path)

    further = apply(edits, now, paths=paths, executable=executable, encoding=own)
    if isinstance(further, Problem):
        return further
    texts |= {change.path: change.text for change in further.changes}
    encodings |= {change.path: change.encoding for change in further.changes}
    changes, diffs = [], []
    for path, text in sorted(texts.items()):
        before = read(path)
        if text != before:
            mode = executable(path) if before is not None else (text or "").startswith("#!")
            kept = text is not None
            changes.append(
                FileChange(path=path, text=text, executable=mode and kept, encoding=own(path) if kept else UTF_8)
            )
            diffs.append(file_diff(path, before, text, mode))
    if not changes:
        return Problem(text="the edit changes nothing\nIt undoes your earlier edit.")
    return Patch(changes=tuple(changes), diff="".join(diffs))


def clean_path(path: str) -> str:
    """The path as the repository has it. Raises `_Wrong` for one that is absolute, leads out, or is git's own."""
    plain = normalised(path)
    if problem := path_problem(plain):
        raise _Wrong(f"the path {plain!r} {problem}\nPaths are relative to the repository's root, without `..`.")
    return plain


def _check_text(path: str, before: str | None, after: str, encoding: str) -> None:
    """Raise `_Wrong` for a text that its file can't hold, or that no longer parses though the file did."""
    if odd := unencodable(after, encoding):
        raise _Wrong(f"{path} can't hold {odd!r}\nThe file's encoding is {encoding}: write the edit without it.")
    broken = syntax_error(path, after)
    if broken and not (before is not None and syntax_error(path, before)):
        raise _Wrong(f"{path} would no longer parse after the edit\n{broken}")


def _located(edit: FileEdit, paths: Collection[str]) -> str:
    """The path of the repository's file that is meant, or of a new one. Raises `_Wrong`.

    An absolute path, as tracebacks print those of installed packages, or one with the `a/` or `b/` of a diff, may end
    with the path of a file that is there.
    """
    plain = normalised(edit.path)
    parts = plain.strip("/").split("/")
    if plain not in paths and (plain.startswith("/") or (parts[0] in ("a", "b") and not isinstance(edit, Create))):
        ends = ("/".join(parts[i:]) for i in range(len(parts)))
        plain = next((end for end in ends if end in paths), plain)
    return clean_path(plain)


def _read(read: Reader, path: str) -> str | None:
    try:
        return read(path)
    except Unreadable as error:
        raise _Wrong(f"{path} {error} and can't be edited") from error


def _marked(text: str | None) -> tuple[str, str]:
    """The byte order mark that the text begins with, or "", and the rest, which is all that a model sees."""
    rest = (text or "").removeprefix("\ufeff")
    return (text or "")[: len(text or "") - len(rest)], rest


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _no_file(path: str, paths: Collection[str]) -> str:
    """`there is no file PATH`, with the paths that may have been meant."""
    name = PurePosixPath(path).name
    same = [p for p in paths if PurePosixPath(p).name == name]
    near = same or difflib.get_close_matches(path, list(paths), n=3, cutoff=0.5)
    hint = f"Did you mean {', '.join(sorted(near)[:5])}? " if near else ""
    return f'there is no file {path}\n{hint}A new file is made with <create path="...">.'


def _without_drafts(blocks: Sequence[Block]) -> list[Block]:
    """Of several blocks that search for the same text, the last: models often draft a block before the final one."""
    return list({(block.search, tuple(search for search, _ in block.others)): block for block in blocks}.values())


# -- one file ----------------------------------------------------------------------------------------------------


def _replaced(path: str, text: str, blocks: Sequence[Block]) -> str:
    """The file's text after all blocks. Raises `_Wrong`."""
    crlf = text.count("\r\n") * 2 > text.count("\n")
    original = text.replace("\r\n", "\n").split("\n")  # the last item is "" where the file ends with a newline
    try:
        lines = _all_at_once(path, original, blocks)
    except _Wrong:
        lines = original  # a block may change what an earlier one wrote
        for number, block in enumerate(blocks, 1):
            start, end, new = _place(path, lines, block, number)
            lines = [*lines[:start], *new, *lines[end:]]
    ending = "\r\n" if crlf else "\n"
    if crlf or "\r\n" not in text:
        return ending.join(lines)
    return _mixed(text, original, lines)


def _rewritten(path: str, text: str, wholes: Sequence[Redefine]) -> str:
    """The file's text with whole definitions in place. Raises `_Wrong`."""
    ending = "\r\n" if text.count("\r\n") * 2 > text.count("\n") else "\n"
    for whole in wholes:
        try:
            new = redefined(text.replace("\r\n", "\n"), whole.text, path.endswith((".py", ".pyi")))
        except NotDefined as error:
            first, _, more = str(error).partition("\n")
            raise _Wrong(f"{first} in {path}\n{more}") from None
        text = new.replace("\n", ending)
    return text


def _mixed(text: str, original: list[str], lines: list[str]) -> str:
    """A file of mixed line endings: untouched lines keep theirs."""
    kept = text.split("\n")
    out: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, original, lines, autojunk=False).get_opcodes():
        out += kept[i1:i2] if tag == "equal" else lines[j1:j2]
    return "\n".join(out)


def _all_at_once(path: str, lines: list[str], blocks: Sequence[Block]) -> list[str]:
    places = sorted(_place(path, lines, block, number) for number, block in enumerate(blocks, 1))
    out: list[str] = []
    at = 0
    for start, end, new in places:
        if start < at:
            raise _Wrong(f"two blocks of the edit of {path} overlap at line {start + 1}\nJoin them into one block.")
        out += [*lines[at:start], *new]
        at = end
    return [*out, *lines[at:]]


def _place(path: str, lines: list[str], block: Block, number: int) -> Place:
    """Where the block applies: first line, line after the last, the new lines. Raises `_Wrong`."""
    for other, instead in reversed(block.others):  # the longest SEARCH that is in the file
        wanted = [line.rstrip() for line in other.split("\n")]
        if len(starts([line.rstrip() for line in lines], wanted)) == 1:
            return _place(path, lines, Block(search=other, replace=instead, line=block.line), number)
    search = block.search.removeprefix("\ufeff").replace("\r\n", "\n").split("\n")
    new = block.replace.removeprefix("\ufeff").replace("\r\n", "\n").split("\n") if block.replace else []
    if not any(line.strip() for line in search):
        if not any(line.strip() for line in lines):
            return 0, len(lines), [*new, ""]
        raise _Wrong(f"SEARCH text is empty in block {number} for {path}\nCopy the lines to replace from the file.")
    for wanted, becomes in (search, new), unnumbered(search, new):
        for find in exactly, without_trailing_space, shifted, without_blank_lines:
            places = find(lines, wanted, becomes)
            if len(places) == 1:
                return places[0]
            if places:
                raise _Wrong(_ambiguous(path, block, number, [start for start, _, _ in places]))
    raise _Wrong(_not_found(path, lines, unnumbered(search, new)[0], block, number))


# -- messages ---------------------------------------------------------------------------------------------------


def _where(block: Block, number: int) -> str:
    return f"block {number}" + (f", line {block.line} of your reply" if block.line else "")


def _ambiguous(path: str, block: Block, number: int, starts: Sequence[int]) -> str:
    numbers = ", ".join(str(start + 1) for start in starts[:10])
    return (
        f"SEARCH text was found {len(starts)} times in {path}\n"
        f"It begins at each of the lines {numbers} ({_where(block, number)}). "
        "Add lines before or after it, so that it matches at one place only."
    )


def _not_found(path: str, lines: list[str], search: list[str], block: Block, number: int) -> str:
    head = f"SEARCH text was not found in {path}"
    start = _closest(lines, search)
    if start is None:
        return f"{head}\nNone of its lines is in the file ({_where(block, number)})."
    end = min(len(lines), start + len(search))
    same = [line.strip() for line in search] == [line.strip() for line in lines[start:end]]
    what = "Only white space or indentation differs. " if same else ""
    numbered = "\n".join(f"{i + 1:5} | {lines[i]}" for i in range(start, min(end, start + 40)))
    return (
        f"{head}\n{what}It must be copied letter by letter, with its indentation ({_where(block, number)}). "
        f"The closest lines are {start + 1} to {end}:\n{numbered}"
    )


def _closest(lines: list[str], search: list[str]) -> int | None:
    """The index at which most lines match the search, else where its longest line has a close match."""
    where: dict[str, list[int]] = {}
    for i, line in enumerate(lines):
        if line.strip():
            where.setdefault(line.strip(), []).append(i)
    votes: dict[int, int] = {}
    for j, line in enumerate(search):
        for i in where.get(line.strip(), ())[:200]:
            if i - j >= 0:
                votes[i - j] = votes.get(i - j, 0) + len(line.strip())
    if votes:
        return max(votes, key=lambda start: (votes[start], -start))
    longest = max(range(len(search)), key=lambda j: len(search[j].strip()))
    close = difflib.get_close_matches(search[longest].strip()[:200], list(where)[:20_000], n=1, cutoff=0.6)
    return max(0, where[close[0]][0] - longest) if close else None
