"""The engine's process: loads a model and serves it until a signal comes."""

import logging
import os
import sys
from dataclasses import replace
from typing import Any

import torch
from transformers.utils.logging import disable_progress_bar

from engine import logs
from engine.choices import WeightNumbers
from engine.core import Core
from engine.errors import LoadError, RankError, ending, one_line
from engine.loop import EngineLoop
from engine.model.backends import calibrate, use_tiles
from engine.model.cache_shape import CacheSize, Needs
from engine.model.memory import available, size
from engine.model.model import Model, read_config
from engine.model.shards import check_split
from engine.parallel.leader import LeadingModel
from engine.parallel.ranks import Ranks
from engine.run.calibration import default_file, device_name, measured_cost, shape_name
from engine.run.graphs import record
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.server.api import create_app
from engine.server.machine import Server, available_cores, follow_stdin, listen, model_name
from engine.server.service import Serving
from engine.settings import CPU_CACHE, Settings
from engine.text.tokenizer import Tokenizer
from engine.warmup import first_cache, fit_cache, warm_up
from engine.weights.checkpoint import resolve
from kernels.tree_attention.cost import CutRule
from kernels.tree_attention.cut import CutCost

_log = logging.getLogger(__name__)


def serve(settings: Settings) -> int:
    """Serve until a signal ends it. Returns the exit status: 0 after a signal, 1 if the model cannot be served."""
    logs.begin(settings.log_level)
    if not sys.stderr.isatty():
        disable_progress_bar()  # not in a log
    if settings.follow_stdin:
        follow_stdin()
    threads = settings.threads or max(1, available_cores() // settings.tensor_parallel)
    torch.set_num_threads(threads)
    listener = listen(settings.host, settings.port)
    ranks: Ranks | None = None
    try:
        # Before there are other processes: they load the same folder.
        folder = resolve(settings.model, settings.model_cache, settings.max_model_len)
        name = settings.served_model_name or model_name(settings.model)
        settings = settings.model_copy(update={"model": str(folder)})
        ranks = start_ranks(settings, threads)
        loop = EngineLoop(build_core(settings, ranks), threads)
        app = create_app(loop, name, settings.api_key, _serving(settings))
    except (LoadError, RankError) as error:
        listener.close()
        if ranks is not None:
            ranks.close()
        print(ending(error), file=sys.stderr)
        return 1
    server = Server(app, listener, timeout_graceful_shutdown=5)

    def end(error: RankError) -> None:
        loop.fail(error)
        server.should_exit = True

    if ranks is not None:
        ranks.on_failure(end)
    server.run(sockets=[listener])
    if ranks is None or ranks.error is None:
        return 0
    if loop.stuck:  # in a sum on the GPU that never completes: the interpreter could not end its threads either
        logging.shutdown()
        os._exit(1)
    return 1


def _serving(settings: Settings) -> Serving:
    from_model = settings.generation_config == "auto"
    return Serving(settings.tool_parser, settings.reasoning_parser, from_model, settings.cors_origins)


def start_ranks(settings: Settings, threads: int) -> Ranks | None:
    """The other processes of a tensor-parallel engine; `None` where one process is all.

    Raises:
        LoadError: this model can't be split so, or they do not come up.
    """
    if settings.tensor_parallel == 1:
        return None
    if settings.batch_invariant:
        raise LoadError("--batch-invariant computes in one process: leave --tensor-parallel out")
    if settings.weights == "native":
        raise LoadError("several processes dequantise their parts: leave --weights native or --tensor-parallel out")
    check_split(read_config(settings.model), settings.tensor_parallel, settings.quantization)
    cuda = settings.device == "cuda" or (settings.device == "auto" and torch.cuda.is_available())
    return Ranks(settings.tensor_parallel, "cuda" if cuda else "cpu", threads)


def build_core(settings: Settings, ranks: Ranks | None = None) -> Core:
    """Load the model, size the cache, and check that the largest steps can be computed.

    Args:
        settings: of this process.
        ranks: the other processes, if the model is split over several.

    Raises:
        LoadError: the model cannot be served, the cache is too small, or memory is short.
    """
    how: dict[str, Any] = {"dtype": settings.dtype, "device": settings.device, "longest": settings.max_model_len}
    how |= {"cache": settings.cache_dtype, "weights": WeightNumbers(settings.quantization, settings.weights)}
    model = Model.load(settings.model, **how) if ranks is None else LeadingModel.lead(ranks, settings.model, **how)
    model.use_attention(settings.attention_backend)
    cost = cost_rule(settings, model)
    tokenizer = Tokenizer.load(settings.model)
    states = state_slots(settings, model)
    limits = Limits(
        settings.block_size,
        settings.max_batch,
        settings.prefill_chunk,
        settings.lease_seconds,
        settings.max_draft if settings.speculation == "auto" else 0,
        settings.max_waiting,
        states,
    )
    by_share = model.device.type == "cuda" and settings.cache_tokens is None and settings.cache_memory is None
    pool = states * model.shape.state_bytes
    memory, block = settings.cache_memory or CPU_CACHE, settings.block_size
    most = settings.max_batch * (model.context_length + block) // block  # more can never be used at once
    if by_share:
        cache = CacheSize(first_cache(model, limits, max(0, (available(model.device) or 0) - pool)) // block)
    elif settings.cache_tokens:
        cache = CacheSize(settings.cache_tokens // block)
    else:
        needs = Needs(limits.max_batch, limits.prefill_chunk, block, model.context_length)
        cache = model.shape.fitting(memory - pool, needs, most)
    if cache.blocks < 2:
        raise LoadError(f"a cache of {cache.blocks * block} tokens holds fewer than two blocks of {block}")
    limits = replace(limits, windows=cache.windows)
    try:
        # A tensor-parallel step sends commands to other processes, which no graph can record.
        graphs = settings.cuda_graphs and ranks is None and model.device.type == "cuda"
        capture = record if graphs and model.backend.name == "triton" else None
        core = Core(model, tokenizer, cache.blocks, limits, RunOptions(cost, capture, settings.batch_invariant))
        if by_share:
            core.resize(*fit_cache(core, settings.gpu_memory_share, most))
    except (MemoryError, RuntimeError) as error:
        raise LoadError(f"the cache cannot be allocated ({one_line(error)}): {_smaller(settings)}") from error
    warm_up(core)
    count, kind = core.scheduler.allocator.count * settings.block_size, str(model.cache_dtype).removeprefix("torch.")
    _log.info("the KV cache holds %d tokens in %s, %s in this process", count, kind, size(model.cache_bytes))
    for places, (reach, layers) in zip(core.limits.windows, model.shape.windows, strict=True):
        _log.info("%d layers of it see %d tokens back and keep %d", layers, reach.span, places * block)
    return core


def _smaller(settings: Settings) -> str:
    """How to ask for a smaller cache than these settings do."""
    if settings.cache_tokens is not None:
        return "lower --cache-tokens"
    if settings.cache_memory is not None:
        return "lower --cache-memory"
    if settings.device == "cpu" or (settings.device == "auto" and not torch.cuda.is_available()):
        return "set --cache-memory to less than its default of 2GiB"
    return "lower --gpu-memory-share, --max-batch or --prefill-chunk, or set --quantization int8"


def state_slots(settings: Settings, model: Model) -> int:
    """How many recurrent states to keep: two for each sequence that may run, in at most half of the memory for caches.

    Raises:
        LoadError: that is not room for two.
    """
    each = model.shape.state_bytes
    if not each:
        return 0
    memory = settings.cache_memory or CPU_CACHE
    if model.device.type == "cuda" and settings.cache_memory is None:
        memory = int((available(model.device) or 0) * settings.gpu_memory_share)
    found = min(2 * settings.max_batch, memory // 2 // each)
    if found < 2:
        raise LoadError(
            f"half of {size(memory)} holds fewer than two recurrent states of {size(each)}: raise --cache-memory"
        )
    return found


def cost_rule(settings: Settings, model: Model) -> CutRule:
    """The rule that says which shared nodes attention reads on their own: from the settings, else measured on a GPU
    (elsewhere only on request), else the default for CPUs.
    """
    if settings.item_tokens is not None:
        return CutCost(settings.item_tokens)
    if model.device.type != "cuda" and not settings.calibrate:
        return CutCost()
    backend, block = model.backend, settings.block_size
    found = measured_cost(
        default_file(),
        device_name(model.device),
        shape_name(backend.name, backend.heads, model.cache_dtype, block),
        lambda: calibrate(backend, model.dtype, model.device, block, model.cache_dtype),
        again=settings.calibrate,
    )
    use_tiles(backend, found.queries)
    return found
