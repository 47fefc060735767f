"""Runs a step on the model: decode steps as graphs where they are recorded, all others launch by launch."""

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor

from engine.errors import GraphError, LoadError
from engine.model.model import Model
from engine.run import invariant
from engine.run.batch import Batch, to_device
from engine.run.graphs import Capture, DecodeSteps, GraphCounts
from engine.schedule.scheduler import Scheduler
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import CutCost

LEAST = 32  # rows for which arrays are worth their making

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """How steps are run."""

    cost: CutRule = field(default_factory=CutCost)  # which shared nodes attention reads on their own
    capture: Capture | None = None  # how decode steps become graphs (Triton attention only); None: they do not
    batch_invariant: bool = False  # see `engine.run.invariant`; there are no graphs then
    ahead: bool | None = None  # whether steps overtake, see `engine.run.steady`; None: those in graphs do
    counts: GraphCounts = field(default_factory=GraphCounts)
    # Rows from which on steps without anything new are arrays; None: any where steps overtake, else `LEAST`.
    steady: int | None = None


class Runner:
    """One model with a freshly allocated cache; make a new one for another cache."""

    def __init__(self, model: Model, scheduler: Scheduler, longest: int, options: RunOptions) -> None:
        """
        Args:
            model: its cache is allocated here: the scheduler's blocks, and a slot per row of padding.
            scheduler: of the steps.
            longest: most tokens of a sequence.
            options: how steps are run.
        """
        capture = None if options.batch_invariant or model.rates else options.capture
        self.cost = options.cost
        self._invariant = options.batch_invariant
        if self._invariant:
            if any(reach.most for reach in model.reaches):
                raise LoadError(
                    "--batch-invariant is not kept by layers that choose tokens by an index: leave it out, or limit "
                    f"the context to the {max(reach.most for reach in model.reaches)} that they choose "
                    "(--max-model-len)"
                )
            if model.rates:
                raise LoadError("--batch-invariant is not kept by layers with compressed entries: leave it out")
            model.compute_alike()
        self._model = model
        allocator, limits, pools = scheduler.allocator, scheduler.limits, scheduler.windows.pools
        self.places = [pool.where for pool in pools]
        slots, *own = (count * limits.block_size for count in (allocator.count, *(pool.count for pool in pools)))
        spare = limits.max_batch if capture else 0  # padding of recorded steps has slots of its own
        windows = [count + spare for count in own]
        model.allocate(slots + spare, limits.states + bool(capture), windows, limits.block_size)
        model.backend.use_zones(allocator.zone, allocator.count)
        self.decode: DecodeSteps | None = None
        if capture is not None:
            sizes = (limits.block_size, limits.max_batch, longest, (slots, *own))
            self.decode = DecodeSteps(model, *sizes, capture, options.counts)

    @property
    def by_items(self) -> bool:
        """Whether a batch needs no spans beside its items."""
        return self.decode is not None and not any(reach.most for reach in self._model.reaches)

    @torch.inference_mode()
    def warm_up(self) -> None:
        """Record all graphs now rather than when they are first needed."""
        if self.decode is not None:
            try:
                self.decode.warm_up()
            except GraphError as error:
                self._without_graphs(error)

    def _without_graphs(self, error: GraphError) -> None:
        logger.warning("decode steps are launched kernel by kernel: %s", error)
        self.decode = None

    @torch.inference_mode()
    def run(self, batch: Batch) -> tuple[Tensor, int]:
        """Compute a batch; the keys and values of its rows are in the cache afterwards.

        Returns:
            Logits of the wanted rows, `[wanted, vocabulary]` float32, which the next step may overwrite; and how many
            cached tokens attention did not have to read again thanks to shared nodes.
        """
        if self.decode is not None:
            try:
                found = self.decode.run(batch, self.cost, self.places)
            except GraphError as error:
                self._without_graphs(error)
                found = None
            if found is not None:
                return found
        if self._invariant:
            return invariant.forward(self._model, batch, self.places), 0
        step, shared_tokens = to_device(batch, self.cost, self._model, self.places)
        return self._model.forward(step), shared_tokens
