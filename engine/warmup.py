"""Warm-up: the largest possible steps are computed once before the engine reports that it is ready, so that a lack of
memory shows at start, with a message, and not under load.

Such a step is a full prefill chunk beside as many decoding rows as may run, over the whole cache: each row has its own
scattered blocks, the most expensive case for attention; rows are sampled with all filters and log-probabilities. On
CUDA there is also a step of decoding rows alone, which takes another path. What they write is never read: a row only
reads what it wrote or what matched its prompt.
"""

import logging
import time
from collections.abc import Callable
from typing import NamedTuple

import torch

from engine.core import Core
from engine.errors import LoadError, RankError
from engine.model.cache_shape import CacheSize
from engine.model.memory import Watch, available, size
from engine.model.model import Model
from engine.run.sampling import SORTED, Draw, logprobs, sample
from engine.schedule.limits import Limits
from engine.schedule.sequence import Request, SamplingParams, Sequence
from engine.schedule.step import Chunk, Step
from engine.text.output import ByteDecoder, OutputText
from kernels.sparse_attention.reference import NUMBERS

logger = logging.getLogger(__name__)

LOGIT_BYTES = 4 * 5  # of each logit: in float32, its probability, a copy that is changed, and what is summed up
SORT_BYTES = 40
TILE_BYTES = 4 * 3 * NUMBERS  # of sparse attention: scores, and copies of them, in float32
ALTERNATIVES = 20  # log-probabilities per token, the most that the API allows
HOT = SamplingParams(temperature=1.0, top_p=0.5, min_p=1e-6)


def warm_up(core: Core) -> int:
    """Compute the largest step; return the bytes that it needs beside model and cache.

    Raises:
        LoadError: it failed, most often for lack of memory; the message says which setting to lower.
    """
    begin = time.perf_counter()
    device = core.model.device
    if device.type == "cpu":
        _check_host(core)
    free = available(device)
    rows, chunk = core.limits.max_batch, core.limits.prefill_chunk
    try:
        core.runner.warm_up()
        watch = Watch(device)  # what graphs took is theirs for good, and not a step's
        if device.type == "cuda":
            _run(core, rows, 0)
        _run(core, rows, chunk)
    except RankError as error:  # nothing can be tried again
        raise LoadError(
            f"the largest step cannot be computed: {error}: lower --prefill-chunk or --max-batch"
        ) from error
    except Exception as error:  # whatever a model raises when memory runs out
        raise _explain(core, error) from error
    peak = watch.peak()
    cache = core.model.cache_bytes + core.model.states.nbytes
    if device.type == "cpu" and free is not None and cache + peak > free:
        raise LoadError(
            f"a full cache of {size(cache)} and the largest step's {size(peak)} need more than the {size(free)} of "
            "memory that is free: lower --cache-memory (or --cache-tokens)"
        )
    logger.info("the largest step needs %s, warmed up in %.1f s", size(peak), time.perf_counter() - begin)
    return peak


def first_cache(model: Model, limits: Limits, free: int) -> int:
    """Tokens of the cache with which a GPU's largest step is tried, before its real size is known: one long prompt
    beside a full batch, or what half of the free memory holds once the step itself has its room.

    Args:
        model: loaded.
        limits: of the scheduler.
        free: bytes of the device, the weights taken off.

    Raises:
        LoadError: not even a few blocks fit beside such a step.
    """
    block, shape = limits.block_size, model.shape
    step = largest_step(model, limits)
    room = (free - step) // 2 // shape.token_bytes
    wanted = min(limits.max_batch * (model.context_length + block), 2 * model.context_length + limits.max_batch * block)
    if room < 2 * block:
        raise LoadError(
            f"the {size(free)} of GPU memory that the model leaves have no room for a cache beside the largest step, "
            f"which takes about {size(step)}: lower --max-batch or --prefill-chunk, or set --quantization int8"
        )
    return min(wanted, room)


def largest_step(model: Model, limits: Limits) -> int:
    """About the bytes that the largest step takes beside model and cache: the logits of a full batch with what sampling
    makes of them, a layer's activations of as many rows and a chunk, and tiles of scores where tokens are chosen.
    """
    config, item = model.config, model.dtype.itemsize
    hidden = int(getattr(config, "hidden_size", 0) or 4096)
    inner = int(getattr(config, "intermediate_size", 0) or 4 * hidden)
    rows = limits.max_batch + limits.prefill_chunk
    heads = model.shape.heads * model.shape.head_dim
    logits = limits.max_batch * model.vocabulary * LOGIT_BYTES + SORTED * SORT_BYTES
    tiles = TILE_BYTES if model.rates or any(reach.most for reach in model.reaches) else 0
    return logits + rows * (4 * hidden + 3 * inner + 4 * heads) * item + tiles


def fit_cache(core: Core, share: float, most: int) -> CacheSize:
    """Size the cache of a CUDA core such that model, cache and the largest step fill `share` of the GPU's memory, with
    `most` blocks. The core's present small cache is used to find out.

    Raises:
        LoadError: nothing is left for a cache, or the largest step fails even with a small one.
    """
    device = core.model.device
    peak = warm_up(core)
    small = core.model.cache_bytes
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    return size_that_fits(core, DeviceMemory(free, total, small, peak), share, most)


class DeviceMemory(NamedTuple):
    """What `fit_cache` finds out, in bytes."""

    free: int  # of the device
    total: int
    cache: int  # that the present one takes
    peak: int  # of the largest step, beside model and cache


def size_that_fits(core: Core, memory: DeviceMemory, share: float, most: int) -> CacheSize:
    """For `fit_cache`.

    Raises:
        LoadError: fewer than two fit.
    """
    free, total, cache, peak = memory
    budget = int(total * share) - (total - free) + cache - peak
    found = core.model.shape.fitting(budget, core.needs, most)
    if found.blocks < 2:
        raise LoadError(
            f"{size(total)} of GPU memory at a share of {share:.2f} leave no room for a cache beside the model and the "
            f"largest step's {size(peak)}: raise --gpu-memory-share, or lower --max-batch or --prefill-chunk, or set "
            "--quantization int8"
        )
    return found


def _explain(core: Core, error: Exception) -> LoadError:
    """What was too large, found by halving: the sequences alone, or the chunk beside them."""
    rows, chunk = core.limits.max_batch, core.limits.prefill_chunk
    most = _largest(rows, lambda count: _run(core, count, 0))
    if most == rows:
        what, setting = f"a step with {chunk} prompt tokens beside {rows - 1} sequences", "--prefill-chunk"
        most = _largest(chunk, lambda count: _run(core, rows, count))
    else:
        what, setting = f"a step of {rows} sequences", "--max-batch"
    advice = f"lower {setting} ({most} works)" if most else "not even the smallest can"
    return LoadError(f"{what} cannot be computed: {_reason(error)}: {advice}")


def _largest(most: int, run: Callable[[int], None]) -> int:
    """The largest of `most`, `most / 2`, ... that runs; 0 where none does."""
    while most:
        try:
            run(most)
        except Exception:
            most //= 2
        else:
            break
    return most


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"


@torch.inference_mode()
def _run(core: Core, rows: int, chunk: int) -> None:
    """One step of `rows` sequences; with `chunk`, the first of them computes so many tokens of a prompt."""
    model, block = core.model, core.limits.block_size
    count = core.scheduler.allocator.count
    rows = min(rows, count, core.limits.states)
    longest = min(model.context_length, core.scheduler.longest)
    chunks = []
    first = 0
    if chunk:
        # Half the cache at most, so that the others have some; at its context's end, where it reads most.
        length = min(longest, max(chunk, (count // 2 if rows > 1 else count) * block))
        blocks = min(-(-length // block), count - rows + 1)
        length = min(length, blocks * block)
        new = min(chunk, length)
        chunks.append(_chunk(0, list(range(blocks)), length, new))
        first, rows = blocks, rows - 1
    if rows:
        share = min((count - first) // rows, -(-longest // block))
        for row in range(rows):
            table = list(range(first + row, first + rows * share, rows))  # scattered: nothing can be read in place
            chunks.append(_chunk(row + 1, table, min(longest, len(table) * block), 1))
    chunks.sort(key=lambda chunk: chunk.sequence.table)
    with core.scheduler.windows.everywhere():
        logits = core.logits(Step(chunks, [0] * len(chunks), []))
    chosen = sample(logits, [Draw(HOT, row, 0) for row in range(logits.shape[0])])
    logprobs(logits, chosen, min(ALTERNATIVES, model.vocabulary))
    if model.device.type == "cuda":
        torch.cuda.synchronize(model.device)


def _chunk(index: int, table: list[int], length: int, new: int) -> Chunk:
    tokens = [1] * length
    sequence = Sequence(Request(tokens, HOT), index, tokens, index, OutputText(ByteDecoder([])))
    sequence.table, sequence.computed, sequence.slot = table, length - new, index
    return Chunk(sequence, new)


def _check_host(core: Core) -> None:
    """Memory of a CPU cache is taken page by page as it fills, so that its want would show only under load."""
    free, cache = available(core.model.device), core.model.cache_bytes + core.model.states.nbytes
    if free is not None and cache > free:
        raise LoadError(
            f"a cache of {size(cache)} is more than the {size(free)} of memory that is free: lower --cache-memory (or "
            "--cache-tokens)"
        )
