"""Parses what a model says of a list of paths, and of several files at once. Pure.

<read> a path a line </read>
<relevant path="pkg/a.py">summary</relevant>   <irrelevant path="pkg/b.py"/>
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from bot.llm.elements import finished
from bot.patch.apply import Problem
from bot.patch.paths import normalised
from bot.records import Reply, Summary
from bot.sanitize.delimiters import path_as_meant

_PATH = r"""\s++(?:(?:path|file|filename|name)\s*+=\s*+)?+["'`]?([^"'`<>\n]*+)["'`]?\s*+"""
_VERDICT = re.compile(
    rf"<irrelevant{_PATH}/?>|<relevant{_PATH}>(.*?)(?:</relevant\s*>|(?=<(?:ir)?relevant\b)|\Z)", re.DOTALL
)


def named_paths(lines: Iterable[str], known: Sequence[str]) -> tuple[str, ...]:
    """The known paths that the lines name, in order, each once: at most one a line, also by an unambiguous name."""
    full = set(known)
    names: dict[str, list[str]] = {}
    for path in known:
        names.setdefault(PurePosixPath(path).name, []).append(path)
    paths: dict[str, None] = {}
    for line in lines:
        cleaned = re.sub(r"^\s*(?:[-*+]|\d+[.):])?\s*", "", line).strip().strip("`\"'*")
        words = [cleaned, *(word.strip("`\"'*,:;()") for word in cleaned.split())]
        for word in words:
            bare = normalised(path_as_meant(word))
            same_name = names.get(PurePosixPath(bare).name, []) if "/" not in bare else []
            meant = bare if bare in full else same_name[0] if len(same_name) == 1 else None
            if meant:
                paths.setdefault(meant)
                break
    return tuple(paths)


def parse_listing(reply: Reply, known: Sequence[str]) -> tuple[str, ...] | Problem:
    """The known paths that the last `<read>` (else the whole reply) names, in its order."""
    text = _text(reply)
    inner = re.findall(r"<read\s*>(.*?)(?:</read\s*>|(?=<read\s*>)|\Z)", text, re.DOTALL)
    paths = named_paths((inner[-1] if inner else text).split("\n"), known)
    return paths or Problem(text="the reply names no path of the list")


def parse_readings(reply: Reply, known: Sequence[str]) -> tuple[Summary, ...] | Problem:
    """The verdicts on the known files, the last on each. One without a path is about all of them."""
    text = _text(reply)
    found: dict[str, Summary] = {}
    for match in _VERDICT.finditer(text):
        for path in named_paths([(match[1] or match[2] or "").strip().removesuffix("/")], known):
            words = " ".join((match[3] or "").split())
            found[path] = Summary(path=path, relevant=match[1] is None, text=words)
    if found:
        return tuple(found.values())
    bare = re.findall(r"<(irrelevant)\s*/?>|<relevant\s*>(.*?)(?:</relevant\s*>|\Z)", text, re.DOTALL)
    if not bare:
        return Problem(text="no <relevant> or <irrelevant/> found")
    irrelevant, words = bare[-1]
    return tuple(Summary(path=path, relevant=not irrelevant, text=" ".join(words.split())) for path in known)


def _text(reply: Reply) -> str:
    return finished(reply.text.replace("\r\n", "\n").replace("\r", "\n"), reply.cut_off)
