"""One thing that Troop needs, and how it is."""

from typing import Literal

from bot.records import Record

Level = Literal["ok", "optional", "missing"]


class Finding(Record):
    """`missing`: it is needed to solve issues. `optional`: it enables something more, or is worth a look."""

    name: str
    level: Level
    detail: str
    hint: str = ""  # how to get it, or more of it
    fatal: bool = False  # waiting does not mend it, only another configuration: a server refuses to start

    @property
    def words(self) -> str:
        """In one line, with the remedy."""
        return f"{self.name}: {self.detail}" + (f"; {self.hint}" if self.hint else "")

    @classmethod
    def ok(cls, name: str, detail: str, hint: str = "") -> "Finding":
        return cls(name=name, level="ok", detail=detail, hint=hint)

    @classmethod
    def optional(cls, name: str, detail: str, hint: str = "") -> "Finding":
        return cls(name=name, level="optional", detail=detail, hint=hint)

    @classmethod
    def missing(cls, name: str, detail: str, hint: str = "", *, fatal: bool = False) -> "Finding":
        return cls(name=name, level="missing", detail=detail, hint=hint, fatal=fatal)
