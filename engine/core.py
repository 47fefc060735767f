"""The engine without threads or HTTP: requests in, one step at a time, outputs out."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from engine.batch import build
from engine.errors import ContextLengthError, OverloadedError, StepError
from engine.model import Model
from engine.sampling import Draw, logprobs, sample
from engine.scheduler import Limits, Scheduler, Step
from engine.sequence import FinishReason, Output, Request, Sequence, State, TokenLogprob
from engine.text import OutputText
from engine.tokenizer import Tokenizer
from kernels.tree_attention.cut import CutCost

logger = logging.getLogger(__name__)

CLIENT_BLOCKS = 4  # equal first blocks of a prompt by which requests without a `user` are one client's
STORED_LOGITS = 32 << 20  # bytes of logits kept for prompts that may come again


@dataclass
class StepStats:
    """Sums over all steps since the start; only ever grow."""

    steps: int = 0
    seconds: float = 0.0
    failed_steps: int = 0
    shared_tokens: int = 0  # cached tokens that attention did not have to read again, because a sibling's row did


class Core:
    """One model, one cache, one scheduler. Not thread-safe; `engine.loop` runs it in a thread of its own."""

    def __init__(
        self,
        model: Model,
        tokenizer: Tokenizer,
        blocks: int,
        limits: Limits | None = None,
        cost: CutCost | None = None,
        max_waiting: int = 20_000,
        clock: Callable[[], float] = time.monotonic,
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
        """
        self.model = model
        self.tokenizer = tokenizer
        self.limits = limits or Limits()
        self.cost = cost or CutCost()
        self.stats = StepStats()
        self.on_step: Callable[[float], None] = lambda seconds: None
        self._max_waiting = max_waiting
        self._arrivals = 0
        self._prompt_logits: OrderedDict[int, tuple[list[int], Tensor]] = OrderedDict()
        self._blocks = blocks
        self._clock = clock
        self.reset()

    def reset(self) -> None:
        """Forget all requests and the whole cache."""
        self._prompt_logits.clear()
        self.model.allocate(self._blocks * self.limits.block_size)
        self.scheduler = Scheduler(self._blocks, self.limits, self.model.copy, self._knows_logits, self._clock)

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
            request.sequences.append(Sequence(request, index, list(request.prompt), self._arrivals, text))
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
        """
        step = self.scheduler.schedule()
        if not step.works and not step.ready:
            return self._fail_stuck()
        begin = time.perf_counter()
        try:
            outputs = list(self._compute(step))
        except Exception as error:  # whatever it is, the engine goes on with the others
            self.stats.failed_steps += 1
            logger.exception("a step failed; its requests end with an error")
            return self._fail(step, error)
        seconds = time.perf_counter() - begin
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

    def _compute(self, step: Step) -> Iterator[Output]:
        rows = [work.sequence for work in step.works if work.samples]
        parts: list[Tensor] = []
        if step.works:
            allocator = self.scheduler.allocator
            size, device = self.limits.block_size, self.model.device
            packed, shared_tokens = build(step, size, self.cost, device, allocator.zone, allocator.count)
            parts.append(self.model.forward(packed))
            self.stats.shared_tokens += shared_tokens
        if step.ready:
            parts.append(torch.stack([self._prompt_logits[self._key(sequence)][1] for sequence in step.ready]))
        logits = torch.cat(parts) if len(parts) > 1 else parts[0]
        for row, sequence in enumerate(rows):
            if not sequence.generated:
                self._remember(sequence, logits[row])
        rows += step.ready
        if not rows:
            self.scheduler.advance(step.works)
            return
        top = logits.amax(dim=-1)
        if not bool(torch.isfinite(top).all()):
            yield from self._fail_broken([rows[row] for row in (~torch.isfinite(top)).nonzero()[:, 0].tolist()])
            sound = [row for row, sequence in enumerate(rows) if sequence.state is State.RUNNING]
            logits, rows = logits[sound], [rows[row] for row in sound]
            if not rows:
                return
        chosen = sample(logits, [Draw(s.request.params, s.seed, s.generated) for s in rows])
        self._note_logprobs(rows, logits, chosen)
        self.scheduler.advance(step.works)
        for sequence, token in zip(rows, chosen.tolist(), strict=True):
            output = self._take(sequence, token)
            if output is not None:
                yield output

    def _take(self, sequence: Sequence, token: int) -> Output | None:
        """Add a sampled token to its sequence; an output where there is something to tell."""
        request, params = sequence.request, sequence.request.params
        sequence.tokens.append(token)
        self.scheduler.counters.generated_tokens += 1
        reason: FinishReason | None = None
        ended = token in params.stop_token_ids or (token in self.end_tokens and not params.ignore_eos)
        if (not ended and sequence.text.push(token)) or ended:
            reason = "stop"
        elif sequence.remaining <= 0:
            reason = "length"
        if reason is not None:
            self.scheduler.finish(sequence, reason)
        elif not request.stream:
            return None
        text = sequence.text.take(last=reason is not None)
        if not text and reason is None and not sequence.logprobs:
            return None
        entries, sequence.logprobs = tuple(sequence.logprobs), []
        return Output(request, sequence.index, text, entries, reason)

    @property
    def end_tokens(self) -> frozenset[int]:
        """Tokens that end a text."""
        return self.model.end_tokens

    def _note_logprobs(self, rows: list[Sequence], logits: Tensor, chosen: Tensor) -> None:
        wanted = [row for row, sequence in enumerate(rows) if sequence.request.params.logprobs is not None]
        if not wanted:
            return
        index = torch.tensor(wanted, device=logits.device)
        most = max(rows[row].request.params.logprobs or 0 for row in wanted)
        found, values, ids = logprobs(logits[index], chosen[index], most)
        columns = zip(wanted, chosen[index].tolist(), found.tolist(), values.tolist(), ids.tolist(), strict=True)
        for row, token, value, top_values, top_ids in columns:
            count = rows[row].request.params.logprobs or 0
            top = tuple(zip(top_ids[:count], top_values[:count], strict=True))
            rows[row].logprobs.append(TokenLogprob(token, value, top))

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

    def _fail_stuck(self) -> list[Output]:
        """Nothing runs and the first in the queue cannot start: it will never fit (`check` should have refused it)."""
        if not self.scheduler.waiting or len(self.scheduler.running):
            return []
        request = next(self.scheduler.waiting.order()).request
        for sequence in request.sequences:
            self.scheduler.finish(sequence, "error")
        return [Output(request, 0, error=StepError("the cache has no room for this request"))]

    def _fail_broken(self, sequences: list[Sequence]) -> Iterator[Output]:
        """End requests whose logits are not finite, and zero what they stored: masked slots must hold finite
        numbers.
        """
        size = self.limits.block_size
        blocks = {block for sequence in sequences for block in sequence.table}
        for request in dict.fromkeys(sequence.request for sequence in sequences):
            for sequence in request.sequences:
                self.scheduler.finish(sequence, "error")
            self._prompt_logits.pop(self._key(request.sequences[0]), None)
            yield Output(request, 0, error=StepError("the model's output for this request is not a number"))
        blocks.update(self.scheduler.tree.clear())  # which of it is sound is not known
        unused = [block for block in blocks if not self.scheduler.allocator.refs[block]]
        self.model.scrub([block * size + offset for block in unused for offset in range(size)])

    # -- logits of prompts ----------------------------------------------------------------------------------------

    def _key(self, sequence: Sequence) -> int:
        return sequence.request.chain(self.limits.block_size)[-1]

    def _knows_logits(self, sequence: Sequence) -> bool:
        known = self._prompt_logits.get(self._key(sequence))
        return known is not None and known[0] == sequence.request.prompt

    def _remember(self, sequence: Sequence, logits: Tensor) -> None:
        """Keep the logits after a prompt: siblings and equal requests then compute nothing of it."""
        self._prompt_logits[self._key(sequence)] = (sequence.request.prompt, logits.clone())
        self._prompt_logits.move_to_end(self._key(sequence))
        limit = max(2, STORED_LOGITS // (logits.numel() * logits.element_size()))
        while len(self._prompt_logits) > limit:
            self._prompt_logits.popitem(last=False)
