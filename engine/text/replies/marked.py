"""Reads replies whose thoughts and calls stand between marks."""

from engine.text.replies.formats import ThoughtFormat, ToolFormat
from engine.text.replies.pieces import Content, Piece, ReplyReader, Schemas, Thought


class MarkedReader(ReplyReader):
    """See `ReplyReader`. Blank lines around thoughts and blanks around calls belong to the marks."""

    def __init__(
        self,
        thoughts: ThoughtFormat | None,
        tools: ToolFormat | None,
        schemas: Schemas | None = None,
        thinking: bool = False,
    ) -> None:
        """
        Args:
            thoughts: the form of thoughts; `None`: there are none.
            tools: the form of calls; `None`: there are none.
            schemas: the tools' parameters.
            thinking: whether the prompt opened a thought.
        """
        self._thoughts = thoughts
        self._tools = tools
        self._schemas = schemas or {}
        self._around = thoughts.around if thoughts else ()
        self._dropped = 0  # length of the mark around content that comes
        self._step = self._thought if thoughts and thinking else self._start if thoughts else self._content
        self._fresh = thoughts is not None  # nothing of this part was given out: blanks before it are left out
        self._blanks = ""  # before the open section of calls
        self._close = ""  # what ends it
        self._first = True  # no content was given out at all
        self._tried = 0  # where in an open section of calls an end was looked for

    def _read(self, last: bool) -> list[Piece]:
        found: list[Piece] = []
        while True:
            step = self._step
            found += step(last)
            if self._step == step:
                return found

    def _start(self, last: bool) -> list[Piece]:
        """Before anything: a thought or not."""
        assert self._thoughts is not None
        mark, begun = self._thoughts.open, self._text.lstrip()
        if begun.startswith(mark):
            self._text, self._step = begun[len(mark) :], self._thought
        elif last or not mark.startswith(begun):
            self._fresh, self._step = False, self._content
        return []

    def _thought(self, last: bool) -> list[Piece]:
        assert self._thoughts is not None
        if self._fresh:
            self._text = self._text.lstrip("\n")
        thought, mark, rest = self._text.partition(self._thoughts.close)
        if mark:
            thought, self._text = thought.rstrip("\n"), rest
            self._step, self._fresh = self._content, True
        elif not last:
            thought = thought[: _undecided(thought, (self._thoughts.close,))].rstrip("\n")
            self._text = self._text[len(thought) :]
        else:
            self._text = ""
        if thought and not mark:
            self._fresh = False
        return [Thought(thought)] if thought else []

    def _content(self, last: bool) -> list[Piece]:
        if self._fresh:
            self._text = self._text.lstrip() if self._tools else self._text.lstrip("\n")
        if self._first and self._tools and self._tools.begins and (begun := self._text.lstrip()):
            if begun.startswith(self._tools.begins):
                self._step = self._whole
                return []
            if not last and any(begin.startswith(begun) for begin in self._tools.begins):
                return []
        opens = self._tools.opens if self._tools else ()
        marks = (*opens, *self._around)
        at, opened = min(((at, mark) for mark in marks if (at := self._text.find(mark)) >= 0), default=(-1, ""))
        if opened in self._around:
            content, self._text = self._text[:at], self._text[at:]
            self._step, self._dropped = self._mark_around, len(opened)
        elif self._tools and opened:
            before, self._text = self._text[:at], self._text[at:]
            self._close = self._tools.close_of(opened)
            content = before.rstrip()
            self._blanks = before[len(content) :]
            self._step, self._tried = self._section, 0
        else:
            kept = len(self._text) if last else _undecided(self._text, marks)
            if opens and not last:
                kept = len(self._text[:kept].rstrip())
            content, self._text = self._text[:kept], self._text[kept:]
        return self._said(content)

    def _mark_around(self, last: bool) -> list[Piece]:
        """Before content, behind it, or before a thought."""
        self._text = self._text[self._dropped :]
        self._step = self._start if self._first else self._content
        return []

    def _said(self, content: str) -> list[Piece]:
        if not content:
            return []
        self._fresh = self._first = False
        return [Content(content)]

    def _whole(self, last: bool) -> list[Piece]:
        """A reply that may be calls as a whole."""
        assert self._tools is not None
        assert self._tools.read_whole is not None
        if not last:
            return []
        self._first, self._step = False, self._content
        try:
            calls = self._tools.read_whole(self._text, self._schemas)
        except ValueError:
            return []
        self._text = ""
        return list(calls)

    def _section(self, last: bool) -> list[Piece]:
        """Behind the mark that opens a section of calls. A text in it may contain the mark that closes it."""
        tools = self._tools
        assert tools is not None
        while self._close and (at := self._text.find(self._close, self._tried)) >= 0:
            self._tried = at + len(self._close)
            try:
                calls = tools.read(self._text[: self._tried], self._schemas)
            except ValueError:
                continue
            self._text, self._step = self._text[self._tried :], self._content
            self._fresh, self._first = True, False
            return list(calls)
        self._tried = max(self._tried, len(self._text) - len(self._close))
        if not last:
            return []
        try:
            return [*tools.read(self._text, self._schemas), *self._give_up(len(self._text), say=False)]
        except ValueError:
            end = self._text.find(self._close) + len(self._close) if self._close in self._text else len(self._text)
            return self._give_up(end if self._close else len(self._text))

    def _give_up(self, end: int, say: bool = True) -> list[Piece]:
        """Leave the section; what it has up to `end` is content."""
        broken, self._text, self._step = self._blanks + self._text[:end], self._text[end:], self._content
        self._fresh = False
        return self._said(broken) if say else []


def _undecided(text: str, marks: tuple[str, ...]) -> int:
    """Where a beginning of one of the marks starts at the text's end; else the text's length."""
    for at in range(max(0, len(text) - max(map(len, marks), default=0) + 1), len(text)):
        if any(mark.startswith(text[at:]) for mark in marks):
            return at
    return len(text)
