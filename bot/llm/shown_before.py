"""Lines that a conversation shows already need not be shown again. Pure.

A model that was shown a function asks for the lines around it, and for the file from its beginning later: most of what
that prints is in the conversation, and every call sends it again.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

_LEAST_LINES, _LEAST_CHARACTERS = 8, 300  # of a run that is worth leaving out
_KEPT_BEFORE, _KEPT_AFTER = 2, 1  # lines of such a run that are shown, so that its place is plain
_PLACES = 40  # where one line is looked for at most: lines such as `return None` stand everywhere
_NUMBERED = re.compile(r"^\s*\d+(?:[:\t-]|  )|^\s*\d+$")  # before a line, as grep -n, cat -n and nl print it
_LEAST_LINE = 4  # characters of a line at which a run may begin
LEFT_OUT = "[... {} lines that are shown above already ...]"


class Shown:
    """What a conversation shows."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._lines = [line.rstrip() for text in texts for line in (*text.split("\n"), "\0")]
        self._places: dict[str, list[int]] = defaultdict(list)
        for place, line in enumerate(self._lines):
            if len(line.strip()) >= _LEAST_LINE and len(self._places[line]) < _PLACES:
                self._places[line].append(place)

    def without(self, text: str) -> str:
        """The text, with a remark for the middle of each long run of lines that is shown already."""
        lines = text.split("\n")
        plain = _unnumbered(lines)
        out: list[str] = []
        at = 0
        while at < len(lines):
            length = self._run(plain, at)
            middle = lines[at + _KEPT_BEFORE : at + length - _KEPT_AFTER]
            if length >= _LEAST_LINES and sum(map(len, middle)) >= _LEAST_CHARACTERS:
                out += lines[at : at + _KEPT_BEFORE]
                out.append(LEFT_OUT.format(len(middle)))
                out += lines[at + length - _KEPT_AFTER : at + length]
                at += length
            else:
                out.append(lines[at])
                at += 1
        return "\n".join(out)

    def _run(self, plain: Sequence[str], at: int) -> int:
        """How many lines from there on are shown one after the other, up to the last that is not blank."""
        longest = 0
        for place in self._places.get(plain[at], ()):
            length = 0
            while (
                at + length < len(plain)
                and place + length < len(self._lines)
                and plain[at + length] == self._lines[place + length]
            ):
                length += 1
            longest = max(longest, length)
        while longest and not plain[at + longest - 1].strip():
            longest -= 1
        return longest


def _unnumbered(lines: Sequence[str]) -> list[str]:
    """The lines without their numbers, if most have one."""
    numbered = [_NUMBERED.match(line) for line in lines]
    if 2 * sum(match is not None for match in numbered) < len(lines):
        return [line.rstrip() for line in lines]
    return [(line[match.end() :] if match else line).rstrip() for line, match in zip(lines, numbered, strict=True)]
