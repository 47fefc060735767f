"""The engine without threads or HTTP: requests in, one step at a time, outputs out."""

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from engine.cache.prompt_logits import PromptLogits
from engine.errors import ContextLengthError, OverloadedError, RankError, RequestError, StepError
from engine.model.model import Model
from engine.run.graphs import Capture
from engine.run.invariant import sample_alike
from engine.run.logprobs import note_prompts, report
from engine.run.runner import Runner
from engine.run.sampling import Draw, sample
from engine.schedule.scheduler import Limits, Scheduler
from engine.schedule.sequence import FinishReason, Output, Request, Sequence, State, TokenLogprob
from engine.schedule.step import Step, Work
from engine.speculate.speculator import Speculator
from engine.text.grammar import Guided, masked
from engine.text.output import OutputText
from engine.text.tokenizer import Tokenizer
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import CutCost

logger = logging.getLogger(__name__)

CLIENT_BLOCKS = 4  # equal first blocks of a prompt by which requests without a `user` are one client's
ROW_COST = {"cpu": 0.1, "cuda": 0.01}  # see `StepTimes`; counts only until steps are measured


@dataclass
class StepStats:
    """Sums over all steps since the start; only ever grow."""

    steps: int = 0
    seconds: float = 0.0
    failed_steps: int = 0
    shared_tokens: int = 0  # cached tokens that attention did not have to read again, because a sibling's row did


class Row(NamedTuple):
    """One row of logits: what follows a sequence's last token and the first `offset` tokens of its draft."""

    work: Work
    offset: int

    @property
    def sequence(self) -> Sequence:
        """Whose."""
        return self.work.sequence

    @property
    def draw(self) -> Draw:
        """How its token is sampled: no otherwise than without drafts."""
        sequence = self.work.sequence
        return Draw(sequence.request.params, sequence.seed, sequence.generated + self.offset)


class Core:
    """One model, one cache, one scheduler. Not thread-safe; `engine.loop` runs it in a thread of its own."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        blocks: int,
        limits: Limits | None = None,
        cost: CutRule | None = None,
        max_waiting: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
        batch_invariant: bool = False,
        capture: Capture | None = None,
    ) -> None:
        """
        Args:
            model: loaded; its cache is allocated here.
            tokenizer: of the model.
            blocks: size of the cache.
            limits: of the scheduler.
            cost: which shared nodes attention reads on their own.
            max_waiting: sequences that may wait.
            clock: seconds, for leases.
            batch_invariant: see `engine.run.invariant`.
            capture: how decode steps become graphs (`engine.run.graphs`); `None`: every step is launched anew.
        """
        self.model = model
        self.end_tokens = model.end_tokens  # that end a text
        self.tokenizer = tokenizer
        self.limits = limits or Limits()
        self._cost = cost or CutCost()
        self.stats = StepStats()
        self.on_step: Callable[[float], None] = lambda seconds: None
        self._invariant = batch_invariant
        self._max_waiting = max_waiting
        self._arrivals = 0
        self._prompt_logits = PromptLogits()
        self._blocks = blocks
        self._clock = clock
        self._capture = capture
        self.reset()

    def reset(self) -> None:
        """Forget all requests and the whole cache."""
        self._prompt_logits.clear()
        limits, slope = self.limits, ROW_COST.get(self.model.device.type, 0.1)
        self.speculator = Speculator(limits.max_draft, limits.block_size, slope, limits.lease_seconds, self._clock)
        self.scheduler = Scheduler(
            self._blocks, limits, self.model.copy, self._knows_logits, self._clock, self.speculator.draft
        )
        self.runner = Runner(
            self.model, self.scheduler.allocator, limits, self.max_model_len, self._cost, self._capture, self._invariant
        )

    def resize(self, blocks: int) -> None:
        """Forget everything, with a cache of another size from now on."""
        self._blocks = blocks
        self.reset()

    @property
    def max_model_len(self) -> int:
        """Longest prompt and output together, in tokens, that can be served."""
        return min(self.model.context_length, self.scheduler.longest)

    @property
    def busy(self) -> bool:
        """Whether there is anything to compute."""
        return bool(len(self.scheduler.waiting)) or bool(len(self.scheduler.running))

    def check(self, request: Request) -> None:
        """Refuse what can never be served. Safe to call from any thread.

        Raises:
            ContextLengthError: prompt and output do not fit.
        """
        length, limit = len(request.prompt), self.max_model_len
        if length + request.params.max_tokens > limit:
            raise ContextLengthError(
                f"this model's maximum context length is {limit} tokens, but {length + request.params.max_tokens} were "
                f"asked for ({length} in the prompt, {request.params.max_tokens} for the completion)",
                "prompt",
            )

    def submit(self, request: Request) -> None:
        """Queue a request that passed `check`.

        Raises:
            OverloadedError: too many wait.
        """
        if len(self.scheduler.waiting) + request.n > self._max_waiting:
            raise OverloadedError(f"{len(self.scheduler.waiting)} sequences wait already; try again later")
        request.client = request.client or self._client(request)
        for index in range(request.n):
            text = OutputText(self.tokenizer.decoder(request.prompt), request.params.stop)
            guide = request.guide.fork() if request.guide else None
            request.sequences.append(Sequence(request, index, list(request.prompt), self._arrivals, text, guide))
            self._arrivals += 1
        self.scheduler.submit(request)

    def _client(self, request: Request) -> str:
        """Whom a request that names no client is from: requests with the same first blocks are taken together."""
        chain = request.chain(self.limits.block_size)
        return f"prefix {chain[min(CLIENT_BLOCKS, len(chain)) - 1]}"

    def abort(self, request: Request) -> None:
        """Stop all children of a request; what they held is free at once."""
        for sequence in request.sequences:
            self.scheduler.finish(sequence, "abort")

    def step(self) -> list[Output]:
        """Compute one step.

        A step that fails ends the sequences it computed with an error, and leaves the rest as it was.

        Raises:
            RankError: a process of a tensor-parallel engine is gone: no step will ever succeed again.
        """
        planning = time.perf_counter()
        step = self.scheduler.schedule()
        if not step.works and not step.ready:
            return self._fail_stuck()
        begin = time.perf_counter()
        try:
            outputs = list(self._compute(step))
        except RankError:
            raise
        except Exception as error:  # whatever it is, the engine goes on with the others
            self.stats.failed_steps += 1
            logger.exception("a step failed; its requests end with an error")
            return self._fail(step, error)
        end = time.perf_counter()
        self.speculator.note(step, end - planning)
        seconds = end - begin
        self.stats.steps += 1
        self.stats.seconds += seconds
        self.on_step(seconds)
        return outputs

    def run(self, requests: Iterable[Request]) -> list[Output]:
        """Submit requests and step until nothing is left to do: for tests and benchmarks.

        Raises:
            ServingError: a request was refused or failed.
        """
        for request in requests:
            self.check(request)
            self.submit(request)
        outputs: list[Output] = []
        while self.busy:
            for output in self.step():
                if output.error is not None:
                    raise output.error
                outputs.append(output)
        return outputs

    # -- one step -------------------------------------------------------------------------------------------------

    def logits(self, step: Step) -> Tensor:
        """Compute the works of a step: logits of their sampled rows, `[sampled, vocabulary]` float32. Log-probabilities
        of prompts, where they are wanted, are noted.
        """
        scored = sum(work.scored for work in step.works)
        found = self._forward(step)
        if scored:
            note_prompts(step.works, found[-scored:], self._invariant)
            found = found[:-scored]
        return found

    def _forward(self, step: Step) -> Tensor:
        logits, shared_tokens = self.runner.run(step)
        self.stats.shared_tokens += shared_tokens
        return logits

    def _compute(self, step: Step) -> Iterator[Output]:
        parts: list[Tensor] = []
        if step.works:
            parts.append(self.logits(step))
        if step.ready:
            parts.append(torch.stack([self._prompt_logits[self._key(sequence)] for sequence in step.ready]))
        logits = torch.cat(parts) if len(parts) > 1 else parts[0]
        sampling = [work for work in step.works if work.samples] + [Work(sequence, 0) for sequence in step.ready]
        rows = [Row(work, offset) for work in sampling for offset in range(1 + len(work.draft))]
        for index, row in enumerate(rows):
            if not row.sequence.generated:
                self._remember(row.sequence, logits[index])
        works = step.works
        if not rows:
            logits.sum().item()  # waits for it: what a step takes is measured
            self.scheduler.advance(works)
            return
        # All of it is under way on a GPU before anything is waited for.
        finite = torch.isfinite(logits.amax(dim=-1))
        draws = [row.draw for row in rows]
        chosen = (sample_alike if self._invariant else sample)(self._allowed(rows, logits), draws)
        tokens, sound = torch.stack((chosen, finite.to(torch.int64))).tolist()
        if not all(sound):
            broken = {row.sequence for row, right in zip(rows, sound, strict=True) if not right}
            yield from self._fail_broken(self._without_drafts(sampling, broken))
            works = [work for work in works if work.sequence not in broken]
            kept = [
                i for i, row in enumerate(rows) if row.sequence.state is State.RUNNING and row.sequence not in broken
            ]
            logits, chosen = logits[kept], chosen[kept]
            rows, tokens = [rows[index] for index in kept], [tokens[index] for index in kept]
        entries = self._logprobs(rows, logits, chosen)
        self.scheduler.advance(works)
        begin = 0
        while begin < len(rows):
            end = begin + 1 + len(rows[begin].work.draft)
            output = self._take(rows[begin].work, tokens[begin:end], entries[begin:end])
            begin = end
            if output is not None:
                yield output

    @staticmethod
    def _allowed(rows: list[Row], logits: Tensor) -> Tensor:
        """The logits, with minus infinity for what sequences' grammars do not allow."""
        guided = [
            Guided(row.sequence.guide, index, row.work.draft)
            for index, row in enumerate(rows)
            if row.sequence.guide is not None and row.offset == 0
        ]
        return masked(logits, guided) if guided else logits

    def _take(self, work: Work, tokens: list[int], entries: list[TokenLogprob | None]) -> Output | None:
        """Add sampled tokens to their sequence for as long as they are those of its draft, and one behind; an output
        where there is something to tell.
        """
        sequence, _, draft = work
        reason: FinishReason | None = None
        for offset, (token, entry) in enumerate(zip(tokens, entries, strict=True)):
            if entry is not None:
                sequence.logprobs.append(entry)
            reason = self._push(sequence, token)
            hit = offset < len(draft) and token == draft[offset]
            if hit:
                self.scheduler.accept(sequence)
            if reason is not None or not hit:
                break
        if sequence.guide is not None and sequence.guide.problem:
            return self._give_up(sequence.request, sequence.guide.problem)
        if reason is not None:
            self.scheduler.finish(sequence, reason)
        elif not sequence.request.stream:
            return None
        text = sequence.text.take(last=reason is not None)
        if not text and reason is None and not sequence.logprobs:
            return None
        reported, sequence.logprobs = tuple(sequence.logprobs), []
        return Output(sequence.request, sequence.index, text, reported, reason)

    def _push(self, sequence: Sequence, token: int) -> FinishReason | None:
        """Add a token to its sequence; whether and why it is the last."""
        params = sequence.request.params
        sequence.tokens.append(token)
        self.scheduler.counters.generated_tokens += 1
        if sequence.guide is not None:
            sequence.guide.take(token)
        ended = token in params.stop_token_ids or (token in self.end_tokens and not params.ignore_eos)
        if (not ended and sequence.text.push(token)) or ended or (sequence.guide is not None and sequence.guide.ended):
            return "stop"
        return "length" if sequence.remaining <= 0 else None

    def _logprobs(self, rows: list[Row], logits: Tensor, chosen: Tensor) -> list[TokenLogprob | None]:
        """What is to be reported of each row's token, if anything."""
        return report(logits, chosen, [row.sequence.request.params.logprobs for row in rows], self._invariant)

    # -- failures -------------------------------------------------------------------------------------------------

    def _fail(self, step: Step, error: Exception) -> list[Output]:
        """End every request that a failed step computed. Nothing of that step is cached."""
        outputs = []
        sequences = [*(work.sequence for work in step.works), *step.ready]
        for request in dict.fromkeys(sequence.request for sequence in sequences):
            for sequence in request.sequences:
                self.scheduler.finish(sequence, "error")
            failure = StepError(f"the engine failed while computing this request: {type(error).__name__}: {error}")
            failure.__cause__ = error
            outputs.append(Output(request, 0, error=failure))
        return outputs

    def _give_up(self, request: Request, problem: str) -> Output:
        """End a request whose grammar can't be followed any further."""
        for sequence in request.sequences:
            self.scheduler.finish(sequence, "error")
        return Output(request, 0, error=RequestError(f"the grammar can't be followed any further: {problem}"))

    def _fail_stuck(self) -> list[Output]:
        """Nothing runs and the first in the queue cannot start: it will never fit (`check` should have refused it)."""
        if not self.scheduler.waiting or len(self.scheduler.running):
            return []
        request = next(self.scheduler.waiting.order()).request
        for sequence in request.sequences:
            self.scheduler.finish(sequence, "error")
        return [Output(request, 0, error=StepError("the cache has no room for this request"))]

    def _without_drafts(self, works: list[Work], broken: set[Sequence]) -> list[Sequence]:
        """Of sequences whose logits are not finite, those that had no draft. The others compute the step again, and are
        drafted no more: a token that was never said must not end a request.
        """
        size = self.limits.block_size
        drafted = [work for work in works if work.draft and work.sequence in broken]
        for sequence, new, draft in drafted:
            sequence.draftable = False
            places = range(sequence.computed, sequence.computed + new + len(draft))
            self.model.scrub([sequence.table[at // size] * size + at % size for at in places])
        return [work.sequence for work in works if not work.draft and work.sequence in broken]

    def _fail_broken(self, sequences: list[Sequence]) -> Iterator[Output]:
        """End requests whose logits are not finite, and zero what they stored: masked slots must hold finite
        numbers.
        """
        if not sequences:
            return
        size = self.limits.block_size
        blocks = {block for sequence in sequences for block in sequence.table}
        for request in dict.fromkeys(sequence.request for sequence in sequences):
            for sequence in request.sequences:
                self.scheduler.finish(sequence, "error")
            self._prompt_logits.forget(self._key(request.sequences[0]))
            yield Output(request, 0, error=StepError("the model's output for this request is not a number"))
        blocks.update(self.scheduler.tree.clear())  # which of it is sound is not known
        unused = [block for block in blocks if not self.scheduler.allocator.refs[block]]
        self.model.scrub([block * size + offset for block in unused for offset in range(size)])

    # -- logits of prompts ----------------------------------------------------------------------------------------

    def _key(self, sequence: Sequence) -> int:
        return sequence.request.chain(self.limits.block_size)[-1]

    def _knows_logits(self, sequence: Sequence) -> bool:
        return (self._key(sequence), sequence.request.prompt) in self._prompt_logits

    def _remember(self, sequence: Sequence, logits: Tensor) -> None:
        self._prompt_logits.put(self._key(sequence), sequence.request.prompt, logits)
