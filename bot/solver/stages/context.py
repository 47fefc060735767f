"""What the main model is shown: the relevance model reads every source file, and the relevant ones are ranked.

As CodeMonkeys (arXiv 2501.14723, section 3.1): one relevance call a file, three rankings over the summaries, merged by
mean relative rank, files added until the token budget. Beyond it: files too long for a call or for what is left of the
budget are read and shown as excerpts around what the issue names; a lexical ranking (`bot.retrieval.lexical_rank`)
orders and caps what is read, and replaces answers of the model that can't be used. For a tiny model few files are read,
a few functions are shown, and the lexical ranking votes with the model's.
"""

import asyncio
import random
from collections.abc import Awaitable, Mapping, Sequence

from bot.contracts import Model, Progress
from bot.errors import EndpointError
from bot.lifecycle import RunState
from bot.llm.conversation import derived_seed, fitted_issue, opening
from bot.llm.replies import Ranking, Relevance, parse_ranking, parse_relevance
from bot.records import Checkout, Context, Issue, ModelCall, Reply, SourceFile, Summary
from bot.retrieval import lexical_rank
from bot.retrieval.excerpts import excerpt
from bot.retrieval.source_files import find_sources
from bot.solver.models import Models
from bot.solver.profile import ResolvedSolver

_LIKELY = 10  # at most so many files are relevant by the lexical ranking alone
_RANKED = 300  # summaries that one ranking is asked about at most
_RANKED_WITH_WORDS = 6  # the same, where the ranking by words has votes
_SUMMARY = 800  # characters of a summary that are kept
_SHARE = 0.6  # of the remaining budget that the excerpt of one file may take while others wait
_LEXICAL_VOTES = 3  # of the lexical ranking where it has votes, for each of the model's
# Where few functions are shown, those of the first file, and one of every other file that matches the issue nearly as
# well: a stub of the faulty file, or a file that only imports from it, misleads a tiny model most.
_FUNCTIONS = 4
_LEAST_WORTH = 0.15  # of the best definition's worth
_NEAR = 0.5  # of the best file's score by words; a file below it is shown only if no other is


async def build_context(
    issue: Issue,
    checkout: Checkout,
    models: Models,
    solver: ResolvedSolver,
    progress: Progress,
    *,
    exclude: Sequence[str] = (),
    environment: str = "",
) -> Context:
    """Read, rank and choose. `exclude`: glob patterns of the repository's config. `environment`: what tests find.

    Raises `EndpointError` where an endpoint can't be used, or the relevance model answered no call at all.
    """
    main, relevance = models.main, models.relevance
    sources = {s.path: s for s in await asyncio.to_thread(find_sources, checkout, issue.text, exclude)}
    ranked = await asyncio.to_thread(lexical_rank.rank, issue, [(s.path, s.text) for s in sources.values()])
    order = [path for path, _ in ranked]
    best = ranked[0][1] if ranked else 0.0
    likely = {path for path, score in ranked[:_LIKELY] if score > 0.2 * best}
    weights = lexical_rank.rarity(lexical_rank.terms(issue), (s.text for s in sources.values()))

    reader = _Reader(await fitted_issue(issue, relevance), relevance, solver, weights, likely)
    summaries = await reader.read_all(
        [sources[path] for path in order[: solver.settings.relevance_max_files]], progress
    )
    # A small model may well miss the very file that the issue names.
    kept = {order[0]} if solver.keeps_best_match and best else set()
    relevant = [s for s in summaries if s.relevant or s.path in kept]
    if not relevant:
        relevant = [Summary(path=path, relevant=True) for path in order if path in likely]
    shown_issue = await fitted_issue(issue, main)
    if len(relevant) > 1:
        relevant = await _ranked(shown_issue, relevant, order, main, solver)
    progress.update(RunState.CONTEXT, len(summaries), len(summaries), f"{len(relevant)} of {len(summaries)} files")
    empty = opening(solver.profile, "test", issue=shown_issue, files=(), environment=environment)
    taken = sum([await main.count_tokens(message.content) for message in empty])
    budget = solver.context_tokens(main.context_window, taken + 64)
    shown_of = relevant
    if solver.shows_few_functions:
        near = {path for path, score in ranked if score >= _NEAR * best}
        shown_of = [s for s in relevant if s.path in near] or relevant[:1]  # its own ranking can't demote the one named
    files, tokens = await _fill([sources[s.path] for s in shown_of], budget, main, solver, weights)
    shown = {file.path for file in files}
    return Context(
        files=tuple(files),
        tokens=tokens,
        considered=len(summaries),
        relevant=len(relevant),
        left_out=tuple(s.path for s in relevant if s.path not in shown),
        environment=environment,
    )


async def _all(calls: Sequence[Awaitable[Summary | None]]) -> list[Summary | None]:
    """All results in order; the first failure cancels the rest and is raised as it is."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Reader:
    """Asks the relevance model about files."""

    def __init__(
        self, issue: Issue, model: Model, solver: ResolvedSolver, weights: Mapping[str, float], likely: set[str]
    ) -> None:
        self._issue = issue
        self._model = model
        self._solver = solver
        self._weights = weights
        self._likely = likely
        self._failures: list[str] = []
        self._done = 0

    async def read_all(self, sources: Sequence[SourceFile], progress: Progress) -> list[Summary]:
        """One summary for each file that was read."""
        settings = self._solver.settings
        empty = opening(self._solver.profile, "relevance", issue=self._issue, file=SourceFile(path="", text=""))
        taken = sum([await self._model.count_tokens(message.content) for message in empty]) + 128
        room = self._model.context_window - settings.relevance_output_tokens - taken
        if room <= 0:  # a window that small answers briefly
            room = self._model.context_window // 2 - taken
        limit = max(32, min(settings.relevance_max_file_tokens, room))

        async def one(source: SourceFile) -> Summary | None:
            summary = await self._read(source, limit)
            self._done += 1
            progress.update(RunState.CONTEXT, self._done, len(sources), source.path)
            return summary

        found = await _all([one(source) for source in sources])
        summaries = [summary for summary in found if summary is not None]
        if self._failures and len(self._failures) == len(summaries):
            raise EndpointError(
                f"the model {self._model.name} answered none of {len(summaries)} calls ({self._failures[-1][:300]}): "
                "look at the endpoint's log; `troop doctor` asks it a question"
            )
        return summaries

    async def _read(self, source: SourceFile, limit: int) -> Summary | None:
        """The model's verdict on one file; None where the file is too long and the issue names nothing in it."""
        file = await cut_to(source, limit, self._model, self._weights)
        if file.excerpt and source.path not in self._likely and not self._mentions(source):
            return None
        reply = await self._ask(f"relevance/{source.path}", file)
        if reply.overflowed:
            file = await cut_to(source, limit // 2, self._model, self._weights)
            reply = await self._ask(f"relevance/{source.path}/shorter", file)
        verdict = parse_relevance(reply)
        if not isinstance(verdict, Relevance) and reply.cut_off:  # a model that thinks aloud needs more room
            reply = await self._ask(f"relevance/{source.path}/longer", file, factor=4)
            verdict = parse_relevance(reply)
        if reply.failed:
            self._failures.append(reply.text)
        if isinstance(verdict, Relevance) and not reply.failed:
            return Summary(path=source.path, relevant=verdict.relevant, text=verdict.summary[:_SUMMARY])
        return Summary(path=source.path, relevant=source.path in self._likely)

    def _mentions(self, source: SourceFile) -> bool:
        strong = max(self._weights.values(), default=0.0) / 2
        return any(weight >= strong and term in source.text for term, weight in self._weights.items())

    async def _ask(self, key: str, file: SourceFile, factor: int = 1) -> Reply:
        settings = self._solver.settings
        return await self._model.reply(
            ModelCall(
                key=key,
                messages=opening(self._solver.profile, "relevance", issue=self._issue, file=file),
                max_tokens=min(settings.relevance_output_tokens * factor, max(32, self._model.context_window // 2)),
                temperature=settings.relevance_temperature,
                seed=derived_seed(settings.seed, key),
            )
        )


async def cut_to(
    source: SourceFile,
    limit: int,
    model: Model,
    weights: Mapping[str, float],
    *,
    most: int = 10_000,
    least: float = 0.0,
) -> SourceFile:
    """The file, or its best excerpt of at most `limit` tokens; text "" where nothing fits. The rest as of `excerpt`."""
    if most >= 10_000 and len(source.text.encode()) <= limit:  # no token is shorter than a byte
        return source
    size = await model.count_tokens(source.text)
    if most >= 10_000 and size <= limit:
        return source
    rate = max(size, 1) / len(source.text)  # tokens a character
    text, cut = source.text, False
    for slack in (0.95, 0.75, 0.5, 0.3):  # an excerpt may be denser than its file
        allowed = int(limit * slack / rate) if size > limit else len(source.text)
        text, cut = await asyncio.to_thread(excerpt, source.text, weights, allowed, most=most, least=least)
        if not cut or await model.count_tokens(text) <= limit:
            break
    else:
        text = ""
    return SourceFile(path=source.path, text=text, excerpt=cut)


# -- ranking ---------------------------------------------------------------------------------------------------------


async def _ranked(
    issue: Issue, summaries: Sequence[Summary], order: Sequence[str], model: Model, solver: ResolvedSolver
) -> list[Summary]:
    """The summaries, most important first, by several rankings of the model."""
    settings = solver.settings
    place = {path: i for i, path in enumerate(order)}
    by_words = sorted(summaries, key=lambda s: place[s.path])
    asked = by_words[: _RANKED_WITH_WORDS if solver.ranks_with_words else _RANKED]
    known = [s.path for s in asked]

    async def one(number: int) -> list[str] | None:
        key = f"ranking/{number}"
        seed = derived_seed(settings.seed, key)
        shuffled = random.Random(seed).sample(asked, len(asked))
        messages = opening(solver.profile, "ranking", issue=issue, summaries=shuffled)
        tokens = settings.relevance_output_tokens
        for suffix, factor in (("", 1), ("/longer", 4)):
            reply = await model.reply(
                ModelCall(
                    key=key + suffix,
                    messages=messages,
                    max_tokens=min(tokens * factor, max(32, model.context_window // 2)),
                    temperature=settings.relevance_temperature,
                    seed=seed,
                )
            )
            read = parse_ranking(reply, known) if not reply.failed else None
            if isinstance(read, Ranking):
                return list(read.paths)
            if not reply.cut_off:
                break
        return None

    rankings = [r for r in await asyncio.gather(*(one(n) for n in range(1, settings.rankings + 1))) if r]
    if solver.ranks_with_words or not rankings:  # a tiny model's ranking says less than the words
        rankings += [[s.path for s in by_words]] * max(1, _LEXICAL_VOTES * len(rankings))
    rank = merged(rankings, [s.path for s in by_words])
    return sorted(by_words, key=lambda s: rank[s.path])


def merged(rankings: Sequence[Sequence[str]], paths: Sequence[str]) -> dict[str, float]:
    """The mean relative rank of each path, in [0, 1]; one that a ranking leaves out comes last in it. Pure."""
    relative = [{path: i / len(ranking) for i, path in enumerate(ranking)} for ranking in rankings]
    return {path: sum(ranks.get(path, 1.0) for ranks in relative) / len(relative) for path in paths}


# -- the budget ------------------------------------------------------------------------------------------------------


async def _fill(
    sources: Sequence[SourceFile], budget: int, model: Model, solver: ResolvedSolver, weights: Mapping[str, float]
) -> tuple[list[SourceFile], int]:
    """Files in order until the budget is spent; what is too long is shown as an excerpt."""
    few = solver.shows_few_functions
    least = 80 if few else 400  # tokens; an excerpt shorter than this says too little
    files: list[SourceFile] = []
    left = budget
    for i, source in enumerate(sources):
        if left < least and files:
            break
        most = (_FUNCTIONS if i == 0 else 1) if few else 10_000
        share = left if i == len(sources) - 1 or few else int(left * _SHARE)
        worth = _LEAST_WORTH if few else 0.0
        file = await cut_to(source, left, model, weights, most=most, least=worth)
        if file.excerpt and share < left:
            file = await cut_to(source, share, model, weights, most=most, least=worth)
        size = await model.count_tokens(file.text)
        if file.text.strip() and size <= left:
            files.append(file)
            left -= size + await model.count_tokens(source.path) + 16
    return files, sum([await model.count_tokens(file.text) for file in files])
