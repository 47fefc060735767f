"""The results file: a head, which says what solved the bugs, and a line for each bug that is done."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bot.atomic import SHARED, write_text


@dataclass(frozen=True)
class Head:
    """What solved the bugs, so that a report needs no model."""

    asked: str  # as `--model` named it
    model: str
    how: str  # with which numbers it was asked, in words


@dataclass
class Results:
    """The bugs of one run that are done, in memory and in their file."""

    path: Path
    head: Head
    records: list[dict[str, Any]]

    def add(self, record: dict[str, Any]) -> None:
        """Keep one more, also where the process is killed."""
        with self.path.open("a") as file:
            file.write(json.dumps(record) + "\n")
        self.records.append(record)


def read(path: Path) -> tuple[Head | None, dict[str, dict[str, Any]]]:
    """The head, None in files of earlier versions, and the finished bugs by id. A line cut off by a kill is left out.

    Raises `OSError` where the file can't be read.
    """
    head, found = None, {}
    for text in path.read_text().splitlines():
        try:
            record = json.loads(text)
        except ValueError:
            continue
        if "id" in record:
            found[record["id"]] = record
        else:
            head = Head(**record)
    return head, found


def begun(path: Path, head: Head, bugs: Iterable[str]) -> Results:
    """The results of these bugs, by id, that the file has; it is made, or written anew without what a kill cut off."""
    done = read(path)[1] if path.exists() else {}
    write_text(path, "".join(json.dumps(line) + "\n" for line in (asdict(head), *done.values())), SHARED)
    return Results(path, head, [done[bug] for bug in bugs if bug in done])


def finished(paths: Iterable[Path], asked: str, bugs: Sequence[str]) -> Results | None:
    """The first of the files in which the asked model has solved all of these bugs; None where there is none."""
    for path in sorted(paths):
        head, done = read(path)
        if head is not None and head.asked == asked and done.keys() >= set(bugs):
            return Results(path, head, [done[bug] for bug in bugs])
    return None
