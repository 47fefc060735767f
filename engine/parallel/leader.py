"""Rank 0's model of a tensor-parallel engine: every operation runs in the other processes, too."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from engine.errors import LoadError, RankError
from engine.model.dtypes import resolve_dtype
from engine.model.model import Model, StepInput, read_config, resolve_device
from engine.parallel.ranks import Ranks


class LeadingModel(Model):
    """A `Model` over this process's shard. `shape` is that of this process's heads, as is the cache."""

    _ranks: Ranks | None = None

    @classmethod
    def lead(cls, ranks: Ranks, path: str, **options: Any) -> Self:
        """Load the model in all processes.

        Args:
            ranks: whose followers have no model yet, or one that is replaced.
            path, options: of `Model.load`.

        Raises:
            LoadError: it can't be loaded here or in another process.
        """
        try:
            asked, place = options.get("dtype", "auto"), resolve_device(options.get("device", "auto"))
            kind = resolve_dtype(asked, read_config(path), place)  # trials in different processes could end differently
            options = options | {"dtype": str(kind).removeprefix("torch.")}
            ranks.tell("load", path, options)
            with ranks.together():
                model = cls.load(path, **options, split=ranks.size)
            ranks.loaded()
        except RankError as error:
            raise LoadError(str(error)) from error
        except LoadError as error:
            ranks.fail(str(error))  # the others may wait for this one
            raise
        model._ranks = ranks
        return model

    def use_attention(self, name: str) -> None:
        """See `Model`."""
        if self._ranks is not None:  # else it is being loaded, as the others are
            self._ranks.tell("use_attention", name)
        super().use_attention(name)

    def allocate(self, slots: int, states: int = 0, windows: Sequence[int] = (), block_size: int = 1) -> None:
        """See `Model`."""
        self._tell("allocate", slots, states, windows, block_size)
        super().allocate(slots, states, windows, block_size)

    def forward(self, step: StepInput, out: Tensor | None = None) -> Tensor:
        """See `Model`.

        Raises:
            RankError: a process is gone, or this one failed and left the others out of step.
        """
        ranks = self._tell("forward", step)
        with ranks.together():
            return super().forward(step, out)

    def copy(self, source: list[int], target: list[int]) -> None:
        """See `Model`."""
        self._tell("copy", source, target)
        super().copy(source, target)

    def copy_window(self, window: int, source: list[int], target: list[int]) -> None:
        """See `Model`."""
        self._tell("copy_window", window, source, target)
        super().copy_window(window, source, target)

    def copy_states(self, source: list[int], target: list[int]) -> None:
        """See `Model`."""
        self._tell("copy_states", source, target)
        super().copy_states(source, target)

    def scrub(self, slots: list[int], own: Sequence[list[int]] = ()) -> None:
        """See `Model`."""
        self._tell("scrub", slots, own)
        super().scrub(slots, own)

    def close(self) -> None:
        """See `Model`."""
        if self._ranks is not None:
            self._ranks.close()

    def _tell(self, what: str, *arguments: Any) -> Ranks:
        assert self._ranks is not None, "load it with `lead`"
        self._ranks.tell(what, *arguments)
        return self._ranks
