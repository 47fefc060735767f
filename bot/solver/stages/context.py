"""What the main model is shown: files are read for relevance, and the relevant ones are ranked.

A capable model first names, from the list of paths, what deserves to be read (`listing`); then those files are read,
small ones several to a call (`reading`). They are ranked only if they do not all fit the token budget.

With `TROOP_SOLVER_CONTEXT="read all"`, as CodeMonkeys (arXiv 2501.14723, section 3.1): one relevance call a file, three
rankings over the summaries, merged by mean relative rank, files added until the token budget. Beyond it: files too long
for a call or for what is left of the budget are read and shown as excerpts around what the issue names; a lexical
ranking (`bot.retrieval.lexical_rank`) orders and caps what is read, and replaces answers of the model that can't be
used. For a tiny model few files are read, a few functions are shown, and the lexical ranking votes with the model's.
"""

import asyncio
import random
from collections.abc import Mapping, Sequence

from bot.contracts import Model, Progress
from bot.lifecycle import RunState
from bot.llm.conversation import derived_seed, fitted_issue, opening
from bot.llm.replies import RANKING, Ranking, parse_ranking
from bot.records import Checkout, Context, Issue, Message, ModelCall, SourceFile, Summary
from bot.retrieval import lexical_rank
from bot.retrieval.customs import customs
from bot.retrieval.evidence import central
from bot.retrieval.excerpts import Wanted
from bot.retrieval.related_tests import related
from bot.retrieval.source_files import find_sources, find_tests
from bot.solver.models import Models
from bot.solver.profile import ResolvedSolver
from bot.solver.stages.listing import deserving
from bot.solver.stages.reading import Reader, cut_to

_LIKELY = 10  # at most so many files are relevant by the lexical ranking alone
_RANKED = 300  # summaries that one ranking is asked about at most
_RANKED_WITH_WORDS = 6  # the same, where the ranking by words has votes
_SHARE = 0.6  # of the remaining budget that the excerpt of one file may take while others wait
_LEXICAL_VOTES = 3  # of the lexical ranking where it has votes, for each of the model's
# Where few functions are shown, those of the first file, and one of every other file that matches the issue nearly as
# well: a stub of the faulty file, or a file that only imports from it, misleads a tiny model most.
_FUNCTIONS = 4
_DEFINITIONS = 8  # of the first file, where a model writes whole definitions; of others `_FUNCTIONS`
_LEAST_WORTH = 0.15  # of the best definition's worth
# Where the model can look up the rest, a definition is shown only if it is worth that much of the file's best one.
_FILL, _FILL_LATER = 0.04, 0.1  # of the most important file, and of the others
_NEAR = 0.5  # of the best file's score by words; a file below it is shown only if no other is
_TESTS, _TEST_TOKENS = 2, 500  # files of the repository's tests that are shown, and tokens of each, at most
_TESTED = 4  # the most important files, whose tests they are
_FOR_TESTS = 6  # the part of the budget that they may take: a sixth


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
    progress.update(RunState.CONTEXT, 0, 0, f"looking for the issue's words in {len(checkout.files):,} files")
    sources, ranked, weights = await asyncio.to_thread(_by_words, issue, checkout, exclude, solver)
    order = [path for path, _ in ranked]
    best = ranked[0][1] if ranked else 0.0
    likely = {path for path, score in ranked[:_LIKELY] if score > 0.2 * best}

    shown_issue = await fitted_issue(issue, main)
    in_order = [sources[path] for path in order[: solver.settings.relevance_max_files]]
    reader = Reader(await fitted_issue(issue, relevance), relevance, solver, weights, likely)
    if solver.lists_first:
        progress.update(RunState.CONTEXT, 0, 0, f"a list of {len(sources):,} files")
        chosen = await deserving(shown_issue, central(in_order, issue.text), weights, main, solver)
        summaries = await reader.read_together(chosen, progress)
    else:
        summaries = await reader.read_all(in_order, progress)
    # A small model may well miss the very file that the issue names.
    kept = {order[0]} if solver.keeps_best_match and best else set()
    relevant = [s for s in summaries if s.relevant or s.path in kept] or [
        Summary(path=path, relevant=True) for path in order if path in likely
    ]
    asked = await _customs(checkout, [s.path for s in relevant], main, solver)
    empty = opening(solver.profile, "test", issue=shown_issue, files=(), environment=environment, customs=asked)
    budget = await _budget(empty, main, solver)
    if len(relevant) > 1 and not await _fits(
        [sources[s.path] for s in relevant], budget - budget // _FOR_TESTS, main, solver
    ):
        relevant = await _ranked(shown_issue, relevant, order, main, solver)
    progress.update(RunState.CONTEXT, len(summaries), len(summaries), f"{len(relevant)} of {len(summaries)} files")
    near = {path for path, score in ranked if score >= _NEAR * best or not solver.shows_few_functions}
    shown_of = [s for s in relevant if s.path in near] or relevant[:1]  # its own ranking can't demote the one named
    texts = await asyncio.to_thread(find_tests, checkout, exclude) if solver.shows_tests else {}
    tests, test_tokens = await _tests([s.path for s in shown_of], texts, budget // _FOR_TESTS, main, weights)
    weighed = {s.path: _with_names_of(s, weights) if solver.lists_first else weights for s in shown_of}
    files, tokens = await _fill([sources[s.path] for s in shown_of], budget - test_tokens, main, solver, weighed)
    shown = {file.path for file in files}
    return Context(
        files=tuple(files),
        tokens=tokens,
        considered=len(summaries),
        relevant=len(relevant),
        left_out=tuple(s.path for s in relevant if s.path not in shown),
        environment=environment,
        tests=tests,
        customs=asked,
    )


def _by_words(
    issue: Issue, checkout: Checkout, exclude: Sequence[str], solver: ResolvedSolver
) -> tuple[dict[str, SourceFile], list[tuple[str, float]], dict[str, float]]:
    """The sources by path, the paths with their scores by words, best first, and the issue's terms by rarity."""
    sources = {source.path: source for source in find_sources(checkout, issue.text, exclude)}
    terms = lexical_rank.terms(issue.text)
    texts = [source.text for source in sources.values()]
    counts = [lexical_rank.counted(terms, text) for text in texts]
    ranked = lexical_rank.rank(issue.text, list(zip(sources, texts, strict=True)), counts)
    if solver.lists_first:
        terms = lexical_rank.without_own(terms, issue.text, texts)
    return sources, ranked, lexical_rank.rarity(terms, counts)


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
                    temperature=solver.ranking_temperature(number),
                    seed=seed,
                    thinks=False,
                    begins=RANKING if solver.begins_replies else "",
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


async def _customs(
    checkout: Checkout, paths: Sequence[str], model: Model, solver: ResolvedSolver
) -> tuple[SourceFile, ...]:
    """What the repository asks of its contributors, in a sixteenth of the window at most."""
    characters = model.context_window // 4 if solver.shows_customs else 0
    return await asyncio.to_thread(customs, checkout, paths, characters) if characters else ()


async def _budget(empty: Sequence[Message], model: Model, solver: ResolvedSolver) -> int:
    """Tokens of files that fit a prompt, which without any is `empty`."""
    taken = sum([await model.count_tokens(message.content) for message in empty])
    return solver.context_tokens(model.context_window, taken + 64)


async def _tests(
    paths: Sequence[str], texts: Mapping[str, str], budget: int, model: Model, weights: Mapping[str, float]
) -> tuple[tuple[SourceFile, ...], int]:
    """Excerpts of the repository's tests of the files, and their tokens. `texts`: of all its tests by path."""
    telling = max(weights.values(), default=0.0) / 2
    words = [word for word, weight in weights.items() if weight >= telling]
    chosen = (await asyncio.to_thread(related, paths[:_TESTED], texts, words))[:_TESTS]
    shown, taken = [], 0
    for path in chosen:
        limit = min(_TEST_TOKENS, budget // len(chosen))
        file = await cut_to(
            SourceFile(path=path, text=texts[path]), limit, model, Wanted(weights, local=True, by_tree=True)
        )
        if file.text.strip():
            shown.append(file)
            taken += await model.count_tokens(file.text) + await model.count_tokens(path) + 16
    return tuple(shown), taken


async def _fits(sources: Sequence[SourceFile], budget: int, model: Model, solver: ResolvedSolver) -> bool:
    """Whether all of the files can be shown, so that no ranking needs to say which."""
    if not solver.lists_first:
        return False
    sizes = [await model.count_tokens(source.text) + await model.count_tokens(source.path) + 16 for source in sources]
    return sum(min(size, solver.file_tokens(i, len(sizes))) for i, size in enumerate(sizes)) <= budget


def _with_names_of(summary: Summary, weights: Mapping[str, float]) -> Mapping[str, float]:
    """The issue's terms, and the names by which the reading says what matters in the file, each as much as the rarest.

    An issue rarely names the function that the model, having read the file, points at.
    """
    told = lexical_rank.terms(summary.text)
    most = max(weights.values(), default=1.0)
    return {**weights, **{name: most for name, weight in told.items() if weight > 1.0}}


async def _fill(
    sources: Sequence[SourceFile],
    budget: int,
    model: Model,
    solver: ResolvedSolver,
    weights: Mapping[str, Mapping[str, float]],
) -> tuple[list[SourceFile], int]:
    """Files in order until the budget is spent; of a long one an excerpt by the `weights` of its path."""
    few = solver.shows_few_functions
    least = 80 if few else 400  # tokens; an excerpt shorter than this says too little
    files: list[SourceFile] = []
    left = budget
    for i, source in enumerate(sources):
        if left < least and files:
            break
        most = (_FUNCTIONS if i == 0 else 1) if few else 10_000
        if solver.shows_definitions:
            most = _DEFINITIONS if i == 0 else _FUNCTIONS
        share = left if i == len(sources) - 1 or few else int(left * _SHARE)
        whole = min(left, solver.file_tokens(i, len(sources)))  # what is left of a longer one is a command away
        worth = _LEAST_WORTH if few else 0.0
        by_tree = solver.shows_definitions or solver.lists_first
        fill = (_FILL if i == 0 else _FILL_LATER) if solver.lists_first and solver.looks else 0.0
        wanted = Wanted(weights[source.path], most, worth, solver.lists_first, by_tree, fill)
        file = await cut_to(source, whole, model, wanted)
        if file.excerpt and share < whole:
            file = await cut_to(source, share, model, wanted)
        size = await model.count_tokens(file.text)
        if file.text.strip() and size <= left:
            files.append(file)
            left -= size + await model.count_tokens(source.path) + 16
    return files, sum([await model.count_tokens(file.text) for file in files])
