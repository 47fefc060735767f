"""Edits that a model asks for, applied to a repository's files as texts: a patch, or what is wrong and where.

Nothing is written: `apply` reads through a callable and returns the files' new texts. SEARCH text must match whole
lines at exactly one place. Where it matches nowhere, the errors that models make in copied lines are ignored
(`bot.patch.matching`), as long as one place matches. A whole definition replaces the one of the same name
(`bot.patch.splice`); a whole file may leave nothing out unsaid (`bot.patch.whole_file`). Line endings, a byte order
mark, a missing final newline and the encoding are kept.
"""

import difflib
import posixpath
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import PurePosixPath

from bot.patch.diff import file_diff
from bot.patch.edits import Block, Create, Delete, FileEdit, Problem, Redefine, Replace, Rewrite
from bot.patch.encoding import UTF_8, unencodable
from bot.patch.paths import normalised, path_problem
from bot.patch.place import Wrong, all_at_once, place_of
from bot.patch.reader import Unreadable
from bot.patch.redefine import NotDefined
from bot.patch.splice import placed
from bot.patch.syntax import syntax_error
from bot.patch.whole_file import left_out
from bot.records import FileChange, Patch, by_path

__all__ = [
    "Block",
    "Create",
    "Delete",
    "FileEdit",
    "Patch",
    "Problem",
    "Reader",
    "Redefine",
    "Replace",
    "Rewrite",
    "apply",
    "apply_onto",
]

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
                    raise Wrong(_no_file(path, paths))
                else:
                    after = _replaced(path, body, _without_drafts(mine))
                    after = mark + _rewritten(path, after, wholes.get(path, []))
            elif isinstance(edit, Create | Rewrite):
                before = _read(read, path)
                after = _anew(path, before, edit.text)
            else:
                before = _read(read, path)
                if before is None:
                    raise Wrong(_no_file(path, paths))
                changes[path] = FileChange(path=path, text=None)
                diffs[path] = file_diff(path, before, None, executable(path), encoding(path))
                continue
            if before == after:
                changes.pop(path, None)
                continue
            mode = executable(path) if before is not None else after.startswith("#!")
            own = encoding(path) if before is not None else UTF_8
            _check_text(path, before, after, own)
            changes[path] = FileChange(path=path, text=after, executable=mode, encoding=own)
            diffs[path] = file_diff(path, before, after, mode, own)
    except Wrong as wrong:
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
            diffs.append(file_diff(path, before, text, mode, encoding(path) if before is not None else UTF_8))
    if not changes:
        return Problem(text="the edit changes nothing\nIt undoes your earlier edit.")
    return Patch(changes=tuple(changes), diff="".join(diffs))


def clean_path(path: str) -> str:
    """The path as the repository has it. Raises `Wrong` for one that is absolute, leads out, or is git's own."""
    plain = normalised(path)
    if problem := path_problem(plain):
        raise Wrong(f"the path {plain!r} {problem}\nPaths are relative to the repository's root, without `..`.")
    return plain


def _check_text(path: str, before: str | None, after: str, encoding: str) -> None:
    """Raise `Wrong` for a text that its file can't hold, or that no longer parses though the file did."""
    if odd := unencodable(after, encoding):
        raise Wrong(f"{path} can't hold {odd!r}\nThe file's encoding is {encoding}: write the edit without it.")
    broken = syntax_error(path, after)
    if broken and not (before is not None and syntax_error(path, before)):
        raise Wrong(f"{path} would no longer parse after the edit\n{broken}")


def _located(edit: FileEdit, paths: Collection[str]) -> str:
    """The path of the repository's file that is meant, or of a new one. Raises `Wrong`.

    An absolute path, as tracebacks print those of installed packages, one with the `a/` or `b/` of a diff, or below a
    folder that is not there may end with the path of a file that is there; a file may be named without its folders.
    """
    plain = normalised(edit.path)
    if plain in paths:
        return clean_path(plain)
    flat = posixpath.normpath(plain)
    if flat in paths:  # its `..` stay within
        return clean_path(flat)
    return clean_path(_meant(plain, edit, paths))


def _meant(plain: str, edit: FileEdit, paths: Collection[str]) -> str:
    """The repository's file that a path which is none of them ends with, or the path as it is."""
    parts = plain.strip("/").split("/")
    absolute = plain.startswith(("/", "~")) or re.match(r"[A-Za-z]:/", plain)
    new = isinstance(edit, Create | Rewrite)
    ends = ["/".join(parts[i:]) for i in range(len(parts))]
    if absolute or (parts[0] in ("a", "b") and not new):
        return next((end for end in ends if end in paths), plain)
    if (
        isinstance(edit, Create | Delete)
        or ".." in parts
        or any(path.startswith(f"{parts[0]}/") for path in paths if len(parts) > 1)
    ):
        return plain
    # The name of the checkout's folder, say. A whole file may be a new one, of a name that another folder has, too.
    longer = next((end for end in ends[1:] if end in paths and ("/" in end or not new)), "")
    same = [path for path in paths if path.endswith(f"/{plain}") or path.casefold() == plain.casefold()]
    return longer or (same[0] if len(same) == 1 and not new else plain)


def _read(read: Reader, path: str) -> str | None:
    try:
        return read(path)
    except Unreadable as error:
        raise Wrong(f"{path} {error} and can't be edited") from error


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
    return list({(b.search, b.at, b.section, tuple(search for search, _ in b.others)): b for b in blocks}.values())


# -- one file ----------------------------------------------------------------------------------------------------


def _replaced(path: str, text: str, blocks: Sequence[Block]) -> str:
    """The file's text after all blocks. Raises `Wrong`."""
    original = text.replace("\r\n", "\n").split("\n")  # the last item is "" where the file ends with a newline
    try:
        lines = all_at_once(path, original, blocks)
    except Wrong:
        lines = original  # a block may change what an earlier one wrote
        for number, block in enumerate(blocks, 1):
            start, end, new = place_of(path, lines, block, number)
            lines = [*lines[:start], *new, *lines[end:]]
    return _with_line_ends(text, original, lines)


def _rewritten(path: str, text: str, wholes: Sequence[Redefine]) -> str:
    """The file's text with whole definitions in place. Raises `Wrong`."""
    original = new = text.replace("\r\n", "\n")
    for whole in wholes:
        try:
            new = placed(path, new, whole.text.replace("\r\n", "\n"), whole.name, whole.line)
        except NotDefined as error:
            first, _, more = str(error).partition("\n")
            raise Wrong(f"{first} in {path}\n{more}") from None
    return _with_line_ends(text, original.split("\n"), new.split("\n")) if new != original else text


def _anew(path: str, before: str | None, text: str) -> str:
    """The whole new text of a file, with the old one's byte order mark and line endings. Raises `Wrong`."""
    after = _ended(text)
    if before is None:
        return after
    if missed := left_out(path, _marked(before)[1], text):
        raise Wrong(f"the new text of {path} {missed}")
    if "\r\n" in before:
        after = after.replace("\r\n", "\n").replace("\n", "\r\n")
    return _marked(before)[0] + _marked(after)[1]


def _with_line_ends(text: str, original: list[str], lines: list[str]) -> str:
    """The lines that `original` became, with the line endings of the file's text."""
    if text.count("\r\n") * 2 > text.count("\n"):
        return "\r\n".join(lines)
    return _mixed(text, original, lines) if "\r\n" in text else "\n".join(lines)


def _mixed(text: str, original: list[str], lines: list[str]) -> str:
    """A file of mixed line endings: untouched lines keep theirs."""
    kept = text.split("\n")
    out: list[str] = []
    for tag, i1, i2, j1, j2 in difflib.SequenceMatcher(None, original, lines, autojunk=False).get_opcodes():
        out += kept[i1:i2] if tag == "equal" else lines[j1:j2]
    return "\n".join(out)
