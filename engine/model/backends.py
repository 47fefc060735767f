"""Backends of attention over the cache: torch, our kernel in C (for CPUs with AVX-512 BF16) or our Triton kernel. Each
prepares a step's items once and then attends with them in every layer.
"""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from engine.errors import LoadError
from engine.model.cache_scales import CAPABILITY
from kernels.kv_store.reference import Scales
from kernels.sparse_attention.reference import Texts
from kernels.tree_attention import reference
from kernels.tree_attention.buffers import WorkBuffers, shared_memory
from kernels.tree_attention.calibrate import GRID, measure
from kernels.tree_attention.cost import MeasuredCost, fit
from kernels.tree_attention.heads import Heads
from kernels.tree_attention.items import Item
from kernels.tree_attention.native import NativeWork, supports
from kernels.tree_attention.plan import LONGEST_HEAD, Tiling, fits
from kernels.tree_attention.reach import Floors
from kernels.tree_attention.worklist import WorkList

Work = WorkList | NativeWork | WorkBuffers


class SparseWork(NamedTuple):
    """A step's work in layers where tokens are chosen. Texts that are no longer than what is chosen are plain work, on
    rows of their own.
    """

    most: int  # tokens that are chosen
    rows: Tensor  # [plain rows] int64, of the batch
    plain: Work | None  # of these; `None`: there are none
    texts: tuple[Texts, ...]  # with more tokens


GPU_SEQUENCES = (512,)  # beyond those for a CPU: a GPU's tensor cores need that many to be busy


class StepItems(NamedTuple):
    """What the layers of one reach attend to in a step."""

    items: Sequence[Item]  # parents before children, where there are such
    rows: int  # of the batch
    block_size: int  # tokens
    floors: Floors | None = None  # [rows], the first position that each row sees; `None`: all see everything
    zones: bool = True  # whether the cache puts tails where `Backend.use_zones` says


class Score(NamedTuple):
    """What a layer makes of the products of queries and keys, see `kernels.tree_attention.reference`."""

    scale: float
    cap: float | None = None
    sinks: Tensor | None = None  # [heads]

    def of_scaled(self, scales: Scales) -> "Score":
        """The same of keys that were divided by a scale."""
        return self._replace(scale=self.scale * scales.key)


CPU = torch.device("cpu")


class Backend(Protocol):
    """One implementation of tree attention for one model on one device."""

    name: str
    heads: Heads
    tiling: Tiling | None  # of the Triton kernel; `None`: its default
    in_place: bool  # runs of neighbouring blocks are read faster than scattered ones, see `kernels.tree_attention.cut`

    def prepare(self, step: StepItems, device: torch.device) -> Work:
        """A step's items in the form that `attend` takes, on the device. Raises as `WorkList.of`."""
        ...

    def use_zones(self, zone: int, cache_blocks: int) -> None:
        """Set where the cache puts the tails of different sequences, see `WorkList.of`. Call it before `prepare`."""
        ...

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score) -> Tensor:
        """`[rows, heads, head_dim]` and caches `[kv_heads, slots, head_dim]`, which are the same one where keys and
        values share numbers -> `[rows, heads, value]`.
        """
        ...

    def attend_all(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score
    ) -> tuple[Tensor, Tensor]:
        """The same, and the log-sum-exp of the scores, sinks counted, `[rows, heads]` float32."""
        ...


class TorchBackend:
    """Plain torch, any device: made for the CPU."""

    name = "torch"
    in_place = True
    tiling: Tiling | None = None

    def __init__(self, heads: Heads) -> None:
        self.heads = heads
        self._zone = self._cache_blocks = 0

    def use_zones(self, zone: int, cache_blocks: int) -> None:
        """See `Backend`: tails that begin a zone apart are read in place, as a strip."""
        self._zone, self._cache_blocks = zone, cache_blocks

    def prepare(self, step: StepItems, device: torch.device) -> Work:
        """See `Backend`."""
        zone = self._zone if step.zones else 0
        return WorkList.of(step.items, step.rows, step.block_size, device, zone, self._cache_blocks, step.floors)

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score) -> Tensor:
        """See `Backend`."""
        assert isinstance(work, WorkList)
        found = reference.tree_attention_output(query, key_cache, value_cache, work, *score)
        return found[..., : self.heads.value]

    def attend_all(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score
    ) -> tuple[Tensor, Tensor]:
        """See `Backend`."""
        assert isinstance(work, WorkList)
        found, lse = reference.tree_attention(query, key_cache, value_cache, work, *score)
        return found[..., : self.heads.value], lse


class NativeBackend:
    """C for CPUs with AVX-512 BF16, in bfloat16: a step's whole list in one call a layer."""

    name = "native"
    in_place = True
    tiling: Tiling | None = None

    def __init__(self, heads: Heads) -> None:
        self.heads = heads

    def prepare(self, step: StepItems, device: torch.device) -> Work:
        """See `Backend`."""
        plain = WorkList.of(step.items, step.rows, step.block_size, device, floors=step.floors)
        return NativeWork.of(plain, self.heads)

    def use_zones(self, zone: int, cache_blocks: int) -> None:
        """See `Backend`: it reads block by block, wherever the blocks are."""

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score) -> Tensor:
        """See `Backend`."""
        assert isinstance(work, NativeWork)
        return work.attend(query, key_cache, value_cache, *score)[..., : self.heads.value]

    def attend_all(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score
    ) -> tuple[Tensor, Tensor]:
        """See `Backend`. In torch, for the kernel keeps its sums."""
        assert isinstance(work, NativeWork)
        found, lse = reference.tree_attention(query, key_cache, value_cache, work.plain, *score)
        return found[..., : self.heads.value], lse


class TritonBackend:
    """The Triton kernel: on a GPU, or in Triton's interpreter for tests."""

    name = "triton"
    in_place = False

    def __init__(self, heads: Heads, device: torch.device = CPU) -> None:
        from kernels.tree_attention import triton  # not there on every machine

        self.heads = heads
        self.tiling: Tiling | None = None
        self._device = device
        self._attend = triton.tree_attention

    @property
    def tilings(self) -> list[Tiling]:
        """Sizes of tiles among which a calibration chooses."""
        return Tiling.candidates(self.heads, shared_memory(self._device))

    def prepare(self, step: StepItems, device: torch.device) -> Work:
        """See `Backend`."""
        return WorkBuffers.of(step.items, step.rows, self.heads, step.block_size, device, self.tiling, step.floors)

    def use_zones(self, zone: int, cache_blocks: int) -> None:
        """See `Backend`: it reads block by block, wherever the blocks are."""

    def attend(self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score) -> Tensor:
        """See `Backend`."""
        return self.attend_all(query, key_cache, value_cache, work, score)[0]

    def attend_all(
        self, query: Tensor, key_cache: Tensor, value_cache: Tensor, work: Work, score: Score
    ) -> tuple[Tensor, Tensor]:
        """See `Backend`."""
        assert not isinstance(work, NativeWork)
        if self.heads.shared:
            value_cache = key_cache[..., : self.heads.shared]
        return self._attend(query, key_cache, value_cache, work, *score)


def use_tiles(backend: Backend, queries: int) -> None:
    """Compute shared nodes in tiles of `queries` queries, which a calibration found best."""
    if isinstance(backend, TritonBackend):
        backend.tiling = next((size for size in backend.tilings if size.large == queries), None)


def choose(name: str, device: torch.device, heads: Heads, dtype: torch.dtype = torch.float32) -> Backend:
    """The backend for an operator's choice.

    Args:
        name: `auto`, `torch` or `triton`; `auto` is Triton on a GPU, C on a CPU with AVX-512 BF16 in bfloat16,
            torch elsewhere.
        device: of the model.
        heads: of its attention, as this process computes it.
        dtype: of its keys and values.

    Raises:
        LoadError: it can't be had here.
    """
    if name == "auto" and device.type == "cpu" and dtype == torch.bfloat16 and supports(heads):
        return NativeBackend(heads)
    if name == "torch" or (name == "auto" and device.type != "cuda"):
        return TorchBackend(heads)
    if importlib.util.find_spec("triton") is None:
        raise LoadError("attention on a GPU needs a package: pip install triton, or choose --attention-backend torch")
    if device.type != "cuda" and not _interpreted():
        raise LoadError(f"triton attention needs a GPU, the model is on {device}: choose --attention-backend torch")
    if device.type == "cuda" and dtype.itemsize == 1 and torch.cuda.get_device_capability(device) < CAPABILITY:
        raise LoadError(
            f"triton converts 8-bit numbers on GPUs of compute capability {'.'.join(map(str, CAPABILITY))} or more "
            "(Ada, Hopper): leave --cache-dtype out, or choose --attention-backend torch"
        )
    if not fits(heads):
        raise LoadError(
            f"heads of {heads.dim} numbers are more than the {LONGEST_HEAD} that triton attention is made for: "
            "choose --attention-backend torch"
        )
    try:
        return TritonBackend(heads, device)
    except ImportError as error:
        raise LoadError(f"triton can't be used ({error}): choose --attention-backend torch") from error


def _interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def calibrate(
    backend: Backend,
    dtype: torch.dtype,
    device: torch.device,
    block_size: int,
    cache: torch.dtype | None = None,
) -> MeasuredCost:
    """Measure what attention costs, see `kernels.tree_attention.cost`, with the tiles that are fastest here. Takes
    seconds. `use_tiles` sets them. `cache` is the dtype of keys and values, where it is another.
    """
    heads = backend.heads

    def prepare(items: Sequence[Item], rows: int) -> Callable[[Tensor, Tensor, Tensor], object]:
        work = backend.prepare(StepItems(items, rows, block_size), device)
        score = Score(heads.dim**-0.5)
        return lambda query, keys, values: backend.attend(query, keys, values, work, score)

    # Torch has no tiles: the cost of one row of queries serves as well.
    sizes = [heads.group]
    more: dict[str, Any] = {"cache": cache}
    if device.type == "cuda":
        sequences = (*GRID.sequences, *GPU_SEQUENCES)
        graphs = backend.name == "triton"
        more["grid"] = replace(GRID, sequences=sequences, recorded=graphs, in_place=backend.in_place)
    if isinstance(backend, TritonBackend):
        sizes = [tiling.large for tiling in backend.tilings]
    found = []
    with torch.inference_mode():
        for queries in sizes:
            use_tiles(backend, queries)
            samples = measure(prepare, heads, dtype, device, block_size, **more)
            most = max(sample.sequences * sample.tokens for sample in samples)
            slowest = sum(s.seconds for s in samples if s.shared and s.sequences * s.tokens == most)
            found.append((slowest, fit(samples, heads.group, queries)))
    return replace(min(found, key=lambda each: each[0])[1], together=backend.name != "triton")
