"""What a list of files tells of each: in one line, why it may matter to an issue. Pure."""

import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from bot.patch.definitions import DEFINITION
from bot.records import SourceFile
from bot.retrieval.lexical_rank import is_named

_WORD = re.compile(r"[A-Za-z_$][\w$]{2,}")
_TELLING = 0.15  # of the weight of the most telling term; words below it say nothing of a file
# How a project is built, packaged and styled: read only if the issue names the file.
_PERIPHERAL = re.compile(
    r".*\.(css|scss|sass|less|styl|bat|cmd|mk|lock|tex|sty|cls|bst|svg|png|jpe?g|gif|ico|webp)"
    r"|(gnu)?makefile|(docker|container|vagrant|jenkins|just)file|setup\.cfg|manifest\.in"
)


def evidence(text: str, weights: Mapping[str, float], most: int = 6) -> str:
    """The issue's most telling terms in the text, such as `defines add; has Parser, quote`; "" where none is in it.

    `weights`: the issue's terms by rarity (`lexical_rank.rarity`).
    """
    least = _TELLING * max(weights.values(), default=0.0)
    there = {word for word in _WORD.findall(text) if weights.get(word, 0.0) >= least}
    best = sorted(there, key=lambda word: (-weights[word], word))[:most]
    if not best:
        return ""
    defined = {match[1] for match in DEFINITION.finditer(text) if match[1]}
    parts = [("defines", [word for word in best if word in defined]), ("has", [w for w in best if w not in defined])]
    return "; ".join(f"{verb} {', '.join(words)}" for verb, words in parts if words)


def is_peripheral(path: str) -> bool:
    """Whether the file builds, packages or styles the project, such as a Makefile, `make.bat` or a style sheet."""
    return _PERIPHERAL.fullmatch(PurePosixPath(path).name.lower()) is not None


def central(sources: Sequence[SourceFile], named: str) -> list[SourceFile]:
    """The sources without peripheral ones that the issue (`named`) does not name; all where most are peripheral."""
    kept = [source for source in sources if not is_peripheral(source.path) or is_named(source.path, named)]
    return kept if 2 * len(kept) >= len(sources) else list(sources)
