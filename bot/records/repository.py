"""A repository's files, and a change of them."""

import hashlib
from collections.abc import Sequence

from bot.records.record import Record


class SourceFile(Record):
    """A text file of the checkout, or an excerpt of one (`excerpt`: parts were left out to fit the budget)."""

    path: str  # POSIX, relative to the root
    text: str
    excerpt: bool = False


class Summary(Record):
    """What the relevance model said of one file."""

    path: str
    relevant: bool
    text: str = ""


class Context(Record):
    """What the main model is shown of the repository, in the order it is shown."""

    files: tuple[SourceFile, ...]
    tokens: int  # of the files' text, counted with the model's tokenizer
    considered: int = 0  # files that the relevance model read
    relevant: int = 0  # files that it kept
    left_out: tuple[str, ...] = ()  # relevant files that did not fit the budget
    environment: str = ""  # what the sandbox has, in words
    tests: tuple[SourceFile, ...] = ()  # the repository's own, of the files that are shown
    customs: tuple[SourceFile, ...] = ()  # what it asks of its contributors


class Bounds(Record):
    """What a checkout may take."""

    seconds: float
    max_bytes: int  # on disk


class Submodule(Record):
    """Another repository's commit within a repository."""

    path: str  # POSIX, relative to the root of the whole tree
    commit: str  # full name
    within: str  # owner/name of the repository that has it; "" for a local checkout
    address: str  # as `.gitmodules` has it, hostile; "" where it has none


class StoredFile(Record):
    """A file that Git LFS keeps."""

    path: str  # POSIX, relative to the root
    oid: str  # SHA-256 of its content, hexadecimal
    size: int  # bytes


class Checkout(Record):
    """A repository on our disk. `root` holds its files and nothing else: git's own folder lies beside it."""

    root: str  # absolute path of the files
    workspace: str  # folder that holds `root` and git's folder; what `RepositoryHost.push` takes
    commit: str  # full name of the commit that was checked out
    branch: str = ""  # that the commit was the newest of; "": the default branch
    # A branch or pull request that the commit is of, beside the default branch: whose images are its own.
    apart: str = ""
    repository: str = ""  # owner/name, or where the local checkout is; images built for it serve no other
    files: tuple[str, ...]  # regular files, POSIX, relative to the root, sorted
    left_out: tuple[str, ...] = ()  # in words: links that lead out, submodules that were not fetched
    pointers: tuple[str, ...] = ()  # files that are Git LFS pointers: their content is elsewhere
    stored: tuple[str, ...] = ()  # files that Git LFS keeps, with their content
    modules: tuple[str, ...] = ()  # folders of submodules, sorted; their files are not among `files`
    empty: tuple[str, ...] = ()  # folders of submodules that were not fetched, also within others

    def elsewhere(self, path: str) -> str:
        """Why no commit of this repository can change the file, in words that follow its path; "" where one can."""
        for module in self.modules:
            if path == module or path.startswith(f"{module}/"):
                return f"is in the submodule {module}, which is another repository"
        return "is kept in Git LFS" if path in self.pointers or path in self.stored else ""


class FileChange(Record):
    """One file as a candidate leaves it: its whole new text, or `None` where it is deleted."""

    path: str  # POSIX, relative to the root
    text: str | None
    executable: bool = False
    encoding: str = "utf-8"  # of the file, as `codecs` names it

    @property
    def content(self) -> bytes | None:
        """The file's bytes."""
        return None if self.text is None else self.text.encode(self.encoding, "surrogateescape")


class Patch(Record):
    """A change of the repository: the files' final state, and its unified diff for people."""

    changes: tuple[FileChange, ...]  # sorted by path
    diff: str  # `git diff` form, applies with `git apply`

    @property
    def id(self) -> str:
        """Content hash over the changes: equal patches are one candidate."""
        return hashlib.sha256("\0".join(f"{c.path}\0{c.text}" for c in self.changes).encode()).hexdigest()[:16]

    @property
    def size(self) -> int:
        """Characters added or removed, the measure by which ties go to the shorter patch."""
        body = (line for line in self.diff.splitlines() if not line.startswith(("+++", "---")))
        return sum(len(line) - 1 for line in body if line.startswith(("+", "-")))

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(change.path for change in self.changes)


def by_path(changes: Sequence[FileChange]) -> tuple[FileChange, ...]:
    """The changes in the order that `Patch` wants them."""
    return tuple(sorted(changes, key=lambda change: change.path))
