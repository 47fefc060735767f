"""Requests that cannot be computed: each ends with an error, and the others go on."""

from collections.abc import Iterator

from engine.cache.prompt_logits import PromptLogits
from engine.errors import StepError
from engine.model.model import Model
from engine.schedule.scheduler import Scheduler
from engine.schedule.sequence import Output, Sequence
from engine.schedule.step import Chunk, Step


class Failures:
    """Ends requests of one scheduler."""

    def __init__(self, scheduler: Scheduler, model: Model, prompt_logits: PromptLogits) -> None:
        """
        Args:
            scheduler: of the requests.
            model: whose cache is cleaned.
            prompt_logits: from which the logits of failed prompts are removed.
        """
        self._scheduler = scheduler
        self._model = model
        self._prompt_logits = prompt_logits
        self._block_size = scheduler.limits.block_size

    def step_failed(self, step: Step, error: Exception) -> list[Output]:
        """End every request that a failed step computed. Nothing of that step is cached."""
        outputs = []
        sequences = [*(chunk.sequence for chunk in step.chunks), *step.ready]
        for request in dict.fromkeys(sequence.request for sequence in sequences):
            for sequence in request.sequences:
                self._scheduler.finish(sequence, "error")
            failure = StepError(f"the engine failed while computing this request: {type(error).__name__}: {error}")
            failure.__cause__ = error
            outputs.append(Output(request, 0, error=failure))
        return outputs

    def stuck(self) -> list[Output]:
        """End the first request in the queue if nothing runs: it can never start (`Core.check` should have refused
        it).
        """
        if not self._scheduler.waiting or len(self._scheduler.running):
            return []
        request = next(self._scheduler.waiting.order()).request
        for sequence in request.sequences:
            self._scheduler.finish(sequence, "error")
        return [Output(request, 0, error=StepError("the cache has no room for this request"))]

    def not_finite(self, chunks: list[Chunk], broken: set[Sequence]) -> Iterator[Output]:
        """End requests whose logits are not finite, and zero what they stored: masked slots must hold finite numbers.

        Sequences that had a draft compute the step again and are drafted no more: a guessed token must not end a
        request.

        Args:
            chunks: that were sampled.
            broken: sequences with logits that are not finite.
        """
        size = self._block_size
        sequences = []
        for chunk in chunks:
            if chunk.sequence in broken:
                if chunk.draft:
                    self._stop_drafting(chunk)
                else:
                    sequences.append(chunk.sequence)
        if not sequences:
            return
        blocks = {block for sequence in sequences for block in sequence.table}
        for request in dict.fromkeys(sequence.request for sequence in sequences):
            for sequence in request.sequences:
                self._scheduler.finish(sequence, "error")
            self._prompt_logits.forget(request.chain(size)[-1])
            yield Output(request, 0, error=StepError("the model's output for this request is not a number"))
        blocks.update(self._scheduler.tree.clear())  # any of it may be affected
        unused = [block for block in blocks if not self._scheduler.allocator.refs[block]]
        slots = [block * size + offset for block in unused for offset in range(size)]
        self._model.scrub(slots, [pool.slots(pool.free_places()) for pool in self._scheduler.windows.pools])

    def _stop_drafting(self, chunk: Chunk) -> None:
        sequence, new, draft = chunk
        sequence.draftable = False
        size, places = self._block_size, range(sequence.computed, sequence.computed + new + len(draft))
        pools = self._scheduler.windows.pools
        slots = [sequence.table[at // size] * size + at % size for at in places]
        own = [[int(pool.where[slot // size]) * size + slot % size for slot in slots] for pool in pools]
        self._model.scrub(slots, own)
        if self._scheduler.states.keeps:  # its state has advanced
            self._scheduler.restart(sequence)
