"""Which files deserve to be read: the main model is asked once, about the list of their paths.

Reading every file is what a run with a capable model spent most on. A line a file (its path, its length and the words
of the issue in it) lets such a model name the dozen that matter. What matches the issue best by words is read as well,
whatever the model says.
"""

import asyncio
import re
from collections import Counter
from collections.abc import Mapping, Sequence

from bot.contracts import Model
from bot.llm.conversation import derived_seed, opening
from bot.llm.readings import parse_listing
from bot.patch.apply import Problem
from bot.records import Issue, ModelCall, Record, SourceFile
from bot.retrieval.evidence import evidence
from bot.solver.profile import ResolvedSolver

_NAMED = 12  # files that the model may name
_LIKELY = 4  # best by words; they are read even if it does not name them
_WORD = re.compile(r"[A-Za-z_$][\w$]{2,}")
_LIST_TOKENS = 12_000  # of the list; a longer one is cut to the files that match the issue best


class Entry(Record):
    """One line of the list."""

    path: str
    lines: str
    evidence: str


async def deserving(
    issue: Issue, ranked: Sequence[SourceFile], weights: Mapping[str, float], model: Model, solver: ResolvedSolver
) -> list[SourceFile]:
    """The files to read, most important first; all of them where they are few.

    `ranked`: the sources, best match by words first. An answer that can't be used leaves the best matches.
    """
    if len(ranked) <= _NAMED:
        return list(ranked)
    entries = await asyncio.to_thread(_entries, ranked, weights)
    room = min(_LIST_TOKENS, model.context_window // 3)
    for key, limit in (("listing/1", room), ("listing/1/shorter", room // 2)):
        kept = await _fitting(entries, limit, model)
        shown = sorted(kept, key=lambda entry: entry.path)
        reply = await model.reply(
            ModelCall(
                key=key,
                messages=opening(
                    solver.profile,
                    "listing",
                    issue=issue,
                    entries=shown,
                    left_out=len(entries) - len(shown),
                    most=_NAMED,
                ),
                max_tokens=solver.reply_tokens(model.context_window),
                temperature=solver.settings.relevance_temperature,
                seed=derived_seed(solver.settings.seed, key),
            )
        )
        if not reply.overflowed:  # the count was an estimate
            break
    named = parse_listing(reply, [entry.path for entry in entries]) if not reply.failed else ()
    if isinstance(named, Problem) or not named:
        return list(ranked[:_NAMED])
    chosen = [*named[:_NAMED], *(source.path for source in ranked[:_LIKELY])]
    by_path = {source.path: source for source in ranked}
    return [by_path[path] for path in dict.fromkeys(chosen)]


def _entries(sources: Sequence[SourceFile], weights: Mapping[str, float]) -> list[Entry]:
    """A line a file. What most files have, such as the package's name, tells none from another."""
    words = Counter(word for s in sources for word in weights.keys() & set(_WORD.findall(s.text)))
    weights = {word: weight for word, weight in weights.items() if words[word] <= len(sources) // 2}
    return [Entry(path=s.path, lines=_lines(s.text), evidence=evidence(s.text, weights)) for s in sources]


async def _fitting(entries: Sequence[Entry], limit: int, model: Model) -> list[Entry]:
    """As many of the first entries as fit `limit` tokens, at least one."""
    size = await model.count_tokens("\n".join(f"{e.path} ({e.lines}) {e.evidence}" for e in entries))
    if size <= limit:
        return list(entries)
    rate = size / max(1, sum(_width(entry) for entry in entries))  # tokens a character
    taken, kept = 0.0, 0
    for entry in entries:
        taken += 1.1 * rate * _width(entry)  # paths are not all alike
        if taken > limit and kept:
            break
        kept += 1
    return list(entries[:kept])


def _width(entry: Entry) -> int:
    return len(entry.path) + len(entry.lines) + len(entry.evidence) + 5


def _lines(text: str) -> str:
    count = text.count("\n") + (not text.endswith("\n"))
    return f"{count:,} {'line' if count == 1 else 'lines'}"
