"""Reads files for relevance: each in a call of its own, or small ones several to a call."""

import asyncio
from collections.abc import Mapping, Sequence

from bot.contracts import Model, Progress
from bot.errors import EndpointError
from bot.lifecycle import RunState
from bot.llm.conversation import derived_seed, opening
from bot.llm.readings import parse_readings
from bot.llm.replies import Relevance, parse_relevance
from bot.patch.apply import Problem
from bot.records import Issue, Message, ModelCall, Reply, SourceFile, Summary
from bot.retrieval.excerpts import Wanted, excerpt
from bot.solver.profile import ResolvedSolver
from bot.tasks import together

_SUMMARY = 800  # characters of a summary that are kept
_TOGETHER = 12_000  # tokens of the files that are read in one call ...
_AT_ONCE = 8  # ... and how many at most: the verdicts on more are careless


class Reader:
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
        self._answers = 0
        self._done = 0

    async def read_all(self, sources: Sequence[SourceFile], progress: Progress) -> list[Summary]:
        """One summary for each file that was read, in a call of its own."""
        limit = await self._room()

        async def one(source: SourceFile) -> Summary | None:
            summary = await self._read(source, limit)
            self._advance(progress, [source], len(sources))
            return summary

        found = await together(one(source) for source in sources)
        return self._unless_all_failed([summary for summary in found if summary is not None])

    async def read_together(self, sources: Sequence[SourceFile], progress: Progress) -> list[Summary]:
        """One summary for each of the files, in their order; small ones share a call."""
        limit = await self._room()
        files = [await cut_to(source, limit, self._model, Wanted(self._weights, local=True)) for source in sources]
        groups = await self._grouped(files, min(_TOGETHER, max(limit, self._model.context_window // 4)))

        async def one(number: int, group: Sequence[SourceFile]) -> list[Summary]:
            summaries = await self._read_group(f"relevance/group/{number}", group)
            self._advance(progress, group, len(sources))
            return summaries

        found = await together(one(number, group) for number, group in enumerate(groups, start=1))
        return self._unless_all_failed([summary for group in found for summary in group])

    async def _room(self) -> int:
        """Tokens that a file may have in a call."""
        settings = self._solver.settings
        empty = opening(self._solver.profile, "relevance", issue=self._issue, file=SourceFile(path="", text=""))
        taken = sum([await self._model.count_tokens(message.content) for message in empty]) + 128
        room = self._model.context_window - settings.relevance_output_tokens - taken
        if room <= 0:  # a window that small answers briefly
            room = self._model.context_window // 2 - taken
        return max(32, min(settings.relevance_max_file_tokens, room))

    def _advance(self, progress: Progress, read: Sequence[SourceFile], total: int) -> None:
        self._done += len(read)
        progress.update(RunState.CONTEXT, self._done, total, read[-1].path)

    def _unless_all_failed(self, summaries: list[Summary]) -> list[Summary]:
        if self._failures and not self._answers:
            raise EndpointError(
                f"the model {self._model.name} answered none of {len(self._failures)} calls "
                f"({self._failures[-1][:300]}): look at the endpoint's log; `troop doctor` asks it a question"
            )
        return summaries

    async def _grouped(self, files: Sequence[SourceFile], limit: int) -> list[list[SourceFile]]:
        """The files in their order, as many to a group as fit `limit` tokens."""
        groups: list[list[SourceFile]] = []
        taken = 0
        for file in files:
            size = await self._model.count_tokens(file.text) + 16
            if groups and taken + size <= limit and len(groups[-1]) < _AT_ONCE:
                groups[-1].append(file)
                taken += size
            else:
                groups.append([file])
                taken = size
        return groups

    async def _read_group(self, key: str, files: Sequence[SourceFile]) -> list[Summary]:
        if len(files) == 1:
            return [await self._judge(files[0], files[0])]
        reply = await self._send(key, opening(self._solver.profile, "readings", issue=self._issue, files=files))
        if reply.overflowed:  # the count was an estimate
            return [await self._judge(file, file) for file in files]
        known = [file.path for file in files]
        verdicts = parse_readings(reply, known)
        if isinstance(verdicts, Problem) and reply.cut_off:
            messages = opening(self._solver.profile, "readings", issue=self._issue, files=files)
            reply = await self._send(f"{key}/longer", messages, factor=4)
            verdicts = parse_readings(reply, known)
        self._count(reply)
        if reply.failed or isinstance(verdicts, Problem):
            return [Summary(path=path, relevant=path in self._likely) for path in known]
        read = {verdict.path: verdict.model_copy(update={"text": verdict.text[:_SUMMARY]}) for verdict in verdicts}
        # Of a reply that was cut off, the files that it did not come to are as likely as before.
        unsaid = {path: Summary(path=path, relevant=reply.cut_off and path in self._likely) for path in known}
        return [read.get(path, unsaid[path]) for path in known]

    async def _read(self, source: SourceFile, limit: int) -> Summary | None:
        """The model's verdict on one file; None where the file is too long and the issue names nothing in it."""
        file = await cut_to(source, limit, self._model, Wanted(self._weights))
        if file.excerpt and source.path not in self._likely and not self._mentions(source):
            return None
        return await self._judge(source, file, limit)

    async def _judge(self, source: SourceFile, file: SourceFile, limit: int = 0) -> Summary:
        """The verdict on what is shown of the source."""
        reply = await self._ask(f"relevance/{source.path}", file)
        if reply.overflowed:
            half = limit // 2 or await self._model.count_tokens(file.text) // 2
            file = await cut_to(source, half, self._model, Wanted(self._weights))
            reply = await self._ask(f"relevance/{source.path}/shorter", file)
        verdict = parse_relevance(reply)
        if not isinstance(verdict, Relevance) and reply.cut_off:  # a model that thinks aloud needs more room
            reply = await self._ask(f"relevance/{source.path}/longer", file, factor=4)
            verdict = parse_relevance(reply)
        self._count(reply)
        if isinstance(verdict, Relevance) and not reply.failed:
            return Summary(path=source.path, relevant=verdict.relevant, text=verdict.summary[:_SUMMARY])
        return Summary(path=source.path, relevant=source.path in self._likely)

    def _count(self, reply: Reply) -> None:
        if reply.failed:
            self._failures.append(reply.text)
        else:
            self._answers += 1

    def _mentions(self, source: SourceFile) -> bool:
        strong = max(self._weights.values(), default=0.0) / 2
        return any(weight >= strong and term in source.text for term, weight in self._weights.items())

    async def _ask(self, key: str, file: SourceFile, factor: int = 1) -> Reply:
        return await self._send(key, opening(self._solver.profile, "relevance", issue=self._issue, file=file), factor)

    async def _send(self, key: str, messages: tuple[Message, ...], factor: int = 1) -> Reply:
        settings = self._solver.settings
        return await self._model.reply(
            ModelCall(
                key=key,
                messages=messages,
                max_tokens=min(settings.relevance_output_tokens * factor, max(32, self._model.context_window // 2)),
                temperature=settings.relevance_temperature,
                seed=derived_seed(settings.seed, key),
                thinks=False,
            )
        )


async def cut_to(source: SourceFile, limit: int, model: Model, wanted: Wanted) -> SourceFile:
    """The file, or its best excerpt of at most `limit` tokens; text "" where nothing fits."""
    if not source.text or (
        wanted.most >= 10_000 and len(source.text.encode()) <= limit
    ):  # no token is shorter than a byte
        return source
    size = await model.count_tokens(source.text)
    if wanted.most >= 10_000 and size <= limit:
        return source
    rate = max(size, 1) / len(source.text)  # tokens a character
    text, cut = source.text, False
    for slack in (0.95, 0.75, 0.5, 0.3):  # an excerpt may be denser than its file
        allowed = int(limit * slack / rate) if size > limit else len(source.text)
        text, cut = await asyncio.to_thread(excerpt, source.text, wanted, allowed, source.path)
        if not cut or await model.count_tokens(text) <= limit:
            break
    else:
        text = ""
    return SourceFile(path=source.path, text=text, excerpt=cut)
