"""What a model asks for: edits of files, and what is wrong with a reply. Frozen records."""

import re

from bot.records import Record


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
    at: int = 0  # the line of the file that it begins on, which chooses among equal places; 0: unknown
    section: str = ""  # a line of the file above it, which chooses among equal places, too
    loose: bool = False  # whether the first and last lines that stay the same may differ from the file's: a diff's hunk


class Replace(Record):
    """Blocks to replace in an existing file."""

    path: str
    blocks: tuple[Block, ...]


class Redefine(Record):
    """Rewritten functions, methods or classes; each replaces the one of its name (`bot.patch.splice`).

    `name`: of the definition that is replaced; "": the text's own names say. `line`: in which that begins; 0: unknown.
    """

    path: str
    text: str
    name: str = ""
    line: int = 0


class Create(Record):
    """A new file, or the whole new text of an existing one."""

    path: str
    text: str


class Rewrite(Record):
    """The whole new text of a file that is there, or of a new one; nothing of the old text may be left out unsaid."""

    path: str
    text: str


class Delete(Record):
    path: str


FileEdit = Replace | Redefine | Create | Rewrite | Delete
