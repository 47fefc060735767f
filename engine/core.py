"""The engine without threads or HTTP: requests in, one step at a time, outputs out. Start reading at `Core.step`."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from engine.cache.prompt_logits import PromptLogits
from engine.cache.snapshots import Snapshots
from engine.cache.windows import WindowPool
from engine.errors import ContextLengthError, OverloadedError, RankError
from engine.model.cache_shape import Needs
from engine.model.model import Model
from engine.run.adjustments import Adjuster
from engine.run.batch import Batch
from engine.run.failures import Failures
from engine.run.invariant import sample_alike
from engine.run.logprobs import note_prompts, report
from engine.run.outputs import Row, Sampled, Writer, allowed, sampled_rows
from engine.run.runner import LEAST, Runner, RunOptions
from engine.run.sampling import sample
from engine.run.steady import Steady
from engine.schedule.limits import Limits
from engine.schedule.resumption import Bounds
from engine.schedule.scheduler import Scheduler
from engine.schedule.sequence import Output, Request, Sequence, State, TokenLogprob
from engine.schedule.step import Step
from engine.speculate.speculator import Speculator
from engine.text.output import OutputText
from engine.text.tokenizer import Tokenizer

logger = logging.getLogger(__name__)

CLIENT_BLOCKS = 4  # equal first blocks of a prompt by which requests without a `user` are one client's
ROW_COST = {"cpu": 0.1, "cuda": 0.01}  # see `StepTimes`; counts only until steps are measured


@dataclass
class StepStats:
    """Sums over all steps since the start; only ever grow."""

    steps: int = 0
    seconds: float = 0.0
    failed_steps: int = 0
    overtaking: int = 0  # steps that were launched before the tokens of the one before were known
    shared_tokens: int = 0  # cached tokens that attention did not have to read again, because a sibling's row did


class Core:
    """One model, one cache, one scheduler. Not thread-safe; `engine.loop` runs it in a thread of its own."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        blocks: int,
        limits: Limits | None = None,
        options: RunOptions | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            model: loaded; its cache is allocated here.
            tokenizer: of the model.
            blocks: size of the cache.
            limits: of the scheduler.
            options: how steps are run.
            clock: seconds, for leases.
        """
        self.model = model
        self.tokenizer = tokenizer
        limits = limits or Limits()
        self.needs = Needs(limits.max_batch, limits.prefill_chunk, limits.block_size, model.context_length)
        windows = model.shape.places(blocks, self.needs, limits.windows)
        self.limits = replace(limits, states=limits.states or 2 * limits.max_batch, windows=windows)
        if model.shape.state_bytes and options is not None and options.batch_invariant:
            self.limits = replace(self.limits, max_draft=0)  # a guess would have to be taken back, token by token
        self.stats = StepStats()
        self.on_step: Callable[[float], None] = lambda seconds: None
        self._options = options or RunOptions()
        self.graphs = self._options.counts
        self._arrivals = 0
        self._prompt_logits = PromptLogits()
        self._adjust = Adjuster(model.end_tokens)
        self._blocks = blocks
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget all requests and the whole cache."""
        self._prompt_logits.clear()
        for name in ("runner", "steady"):  # whose graphs hold memory that the next ones need
            self.__dict__.pop(name, None)
        limits, model, slope = self.limits, self.model, ROW_COST.get(self.model.device.type, 0.1)
        self.speculator = Speculator(limits.max_draft, limits.block_size, slope, limits.lease_seconds, self._clock)
        bounds = Bounds(self._snapshots(), self._pools())
        self.scheduler = Scheduler(
            self._blocks, limits, model.copy, self._knows_logits, self._clock, self.speculator.draft, bounds
        )
        self.runner = Runner(model, self.scheduler, self.max_model_len, self._options)
        writer = self._writer = Writer(self.scheduler, model.end_tokens)
        options, ends = self._options, model.end_tokens
        ahead = self.runner.decode is not None if options.ahead is None else options.ahead
        least = options.steady or (1 if ahead else LEAST)
        if options.batch_invariant or model.shape.state_bytes:
            least = sys.maxsize
        drafts = self.speculator.drafts
        self.steady = Steady(self.scheduler, self.runner, writer, ends, drafts, ahead, least)
        self._failures = Failures(self.scheduler, model, self._prompt_logits)

    def _snapshots(self) -> Snapshots | None:
        """Of a model with recurrent states. They take no more memory than the keys and values between them."""
        shape = self.model.shape
        if not shape.state_bytes:
            return None
        return Snapshots(self.limits.states, self.model.copy_states, shape.state_bytes // shape.token_bytes)

    def _pools(self) -> list[WindowPool]:
        """Of a model with layers that see a window alone."""
        sizes, model = zip(self.model.windows, self.limits.windows, strict=True), self.model
        return [
            WindowPool(reach, self._blocks, count, self.limits.block_size, partial(model.copy_window, number))
            for number, (reach, count) in enumerate(sizes)
        ]

    def resize(self, blocks: int, windows: tuple[int, ...] = ()) -> None:
        """Forget everything, with a cache of another size from now on, see `engine.model.cache_shape.CacheSize`."""
        self._blocks = blocks
        self.limits = replace(self.limits, windows=self.model.shape.places(blocks, self.needs, windows))
        self.reset()

    # -- one step -------------------------------------------------------------------------------------------------

    def step(self) -> list[Output]:
        """Compute one step: schedule, run, sample, and say what is new.

        A step that fails ends the sequences it computed with an error, and leaves the rest as it was.

        Raises:
            RankError: a process of a tensor-parallel engine is gone: no step will ever succeed again.
        """
        planning = time.perf_counter()
        if (outputs := self._steady_step()) is not None:
            self._note(planning)
            return outputs
        step = self.scheduler.schedule()
        if not step.chunks and not step.ready:
            return self._failures.stuck()
        begin = time.perf_counter()
        try:
            outputs = list(self._compute(step))
        except RankError:
            raise
        except Exception as error:  # whatever it is, the engine continues with the others
            self.stats.failed_steps += 1
            logger.exception("a step failed; its requests end with an error")
            return self._failures.step_failed(step, error)
        self.speculator.note(step, time.perf_counter() - planning)
        self._note(begin)
        return outputs

    def _note(self, begin: float) -> None:
        seconds = time.perf_counter() - begin
        self.stats.steps += 1
        self.stats.seconds += seconds
        self.on_step(seconds)

    def _steady_step(self) -> list[Output] | None:
        """A step of sequences that all go on, see `engine.run.steady`; `None` where another kind is due."""
        overtaken = self.steady.overtaken
        try:
            found = self.steady.step()
        except RankError:
            raise
        except Exception as error:
            self.stats.failed_steps += 1
            logger.exception("a step failed; its requests end with an error")
            return self._failures.step_failed(self.steady.as_step(), error)
        finally:
            self.stats.shared_tokens += self.steady.shared_tokens
            self.steady.shared_tokens = 0
            self.stats.overtaking += self.steady.overtaken - overtaken
        return found

    def _compute(self, step: Step) -> Iterator[Output]:
        logits = self._all_logits(step)
        rows = sampled_rows(step)
        self._remember_prompts(rows, logits)
        if not rows:
            logits.sum().item()  # waits for the device: a step's time is measured
            self.scheduler.advance(step.chunks)
            return
        chunks = step.chunks
        sampled, finite = self._sample(rows, logits)
        if not all(finite):
            broken = {row.sequence for row, right in zip(rows, finite, strict=True) if not right}
            yield from self._failures.not_finite([row.chunk for row in rows if row.offset == 0], broken)
            chunks = [chunk for chunk in chunks if chunk.sequence not in broken]
            sampled = sampled.keep([at for at, row in enumerate(rows) if self._goes_on(row.sequence, broken)])
        entries = self._logprobs(sampled)
        self.scheduler.advance(chunks)
        for chunk, tokens, reported in sampled.chunks(entries):
            output = self._writer.take(chunk, tokens, reported)
            if output is not None:
                yield output

    def logits(self, step: Step) -> Tensor:
        """Run the chunks of a step: logits of their sampled rows, `[sampled, vocabulary]` float32. Requested
        log-probabilities of prompts are stored.
        """
        batch = Batch.of(step, self.limits.block_size)
        found, shared_tokens = self.runner.run(batch)
        self.stats.shared_tokens += shared_tokens
        if batch.scored:
            note_prompts(step.chunks, found[-batch.scored :], self._options.batch_invariant)
            found = found[: -batch.scored]
        return found

    def _all_logits(self, step: Step) -> Tensor:
        """`[rows, vocabulary]`, of the rows of `sampled_rows`: from the model, then those of prompts that are known."""
        parts: list[Tensor] = []
        if step.chunks:
            parts.append(self.logits(step))
        if step.ready:
            parts.append(torch.stack([self._prompt_logits[self._key(sequence)] for sequence in step.ready]))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def _sample(self, rows: list[Row], logits: Tensor) -> tuple[Sampled, list[int]]:
        """A token for each row, and whether the row's logits are finite."""
        # All of it is queued on a GPU before the first wait.
        finite = torch.isfinite(logits.amax(dim=-1))
        draw = sample_alike if self._options.batch_invariant else sample
        wanted = allowed(rows, self._adjust(rows, logits))
        chosen = draw(wanted, [row.draw for row in rows])
        tokens, sound = torch.stack((chosen, finite.to(torch.int64))).tolist()
        return Sampled(rows, logits, chosen, tokens), sound

    def _logprobs(self, sampled: Sampled) -> list[TokenLogprob | None]:
        """What is reported of each row's token, if anything."""
        wanted = [row.sequence.request.params.logprobs for row in sampled.rows]
        return report(sampled.logits, sampled.chosen, wanted, self._options.batch_invariant)

    @staticmethod
    def _goes_on(sequence: Sequence, broken: set[Sequence]) -> bool:
        return sequence.state is State.RUNNING and sequence not in broken

    # -- requests -------------------------------------------------------------------------------------------------

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
        if len(self.scheduler.waiting) + request.n > self.limits.max_waiting:
            raise OverloadedError(f"{len(self.scheduler.waiting)} sequences wait already; try again later")
        request.client = request.client or self._client(request)
        for index in range(request.n):
            decoder = self.tokenizer.decoder(request.prompt, request.named_tokens)
            text = OutputText(decoder, request.params.stop, request.params.min_tokens)
            guide = request.guide.fork() if request.guide else None
            request.sequences.append(Sequence(request, index, list(request.prompt), self._arrivals, text, guide))
            self._arrivals += 1
        self.scheduler.submit(request)

    def _client(self, request: Request) -> str:
        """The client of a request that names none: requests with the same first blocks are taken together."""
        chain = request.chain(self.limits.block_size)
        return f"prefix {chain[min(CLIENT_BLOCKS, len(chain)) - 1]}"

    def abort(self, request: Request) -> None:
        """Stop all children of a request; their blocks are freed at once."""
        self.steady.settle()
        for sequence in request.sequences:
            self.scheduler.finish(sequence, "abort")

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

    # -- logits of prompts ----------------------------------------------------------------------------------------

    def _key(self, sequence: Sequence) -> int:
        return sequence.request.chain(self.limits.block_size)[-1]

    def _knows_logits(self, sequence: Sequence) -> bool:
        return (self._key(sequence), sequence.request.prompt) in self._prompt_logits

    def _remember_prompts(self, rows: list[Row], logits: Tensor) -> None:
        """Keep the logits behind prompts that were just completed: siblings need not compute them again."""
        for index, (chunk, _) in enumerate(rows):
            sequence = chunk.sequence
            if not sequence.generated:
                self._prompt_logits.put(self._key(sequence), sequence.request.prompt, logits[index])
