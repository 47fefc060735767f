"""`/metrics` in Prometheus' format: read from the core's counters on request; a step only updates a histogram."""

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from engine.core import Core

STEP_BUCKETS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10)  # seconds


class EngineMetrics(Collector):
    """Metrics of one core. Counters start at 0 with the process."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._registry = CollectorRegistry()
        self._registry.register(self)
        steps = Histogram(
            "troop_engine_step_seconds", "Time of one step", registry=self._registry, buckets=STEP_BUCKETS
        )
        core.on_step = steps.observe

    def render(self) -> bytes:
        """The text that Prometheus scrapes."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        core, scheduler, counters = self._core, self._core.scheduler, self._core.scheduler.counters
        free, cached = scheduler.allocator.free, scheduler.unused_cached_blocks()
        gauges = {
            "running": ("Running sequences", len(scheduler.running)),
            "waiting": ("Waiting sequences", len(scheduler.waiting)),
            "clients": ("Clients that have something running or waiting", scheduler.waiting.clients),
            "blocks_total": ("Blocks of the cache", scheduler.allocator.count),
            "blocks_free": ("Free blocks", free),
            "blocks_cached": ("Blocks that hold a prefix which no running sequence uses", cached),
            "block_tokens": ("Tokens per block", core.limits.block_size),
            "token_bytes": ("Bytes of a token's keys and values in one process", core.model.shape.token_bytes),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(f"troop_engine_{name}", text, value)
        yield from self._windows()
        saved = core.stats.shared_tokens * core.model.shape.token_bytes
        sums = {
            "tokens_computed": ("Prompt tokens that went through the model", counters.computed_tokens),
            "tokens_cached": ("Prompt tokens served from the cache", counters.cached_tokens),
            "tokens_prompt": (
                "Prompt tokens of admitted sequences, every child of a request counted",
                counters.prompt_tokens,
            ),
            "tokens_generated": ("Tokens sampled", counters.generated_tokens),
            "tokens_drafted": ("Tokens guessed and tried", counters.drafted_tokens),
            "tokens_accepted": ("Tokens guessed right", counters.accepted_tokens),
            "prefix_bytes_saved": ("Bytes of keys and values not read again because rows share a prefix", saved),
            "preemptions": ("Sequences preempted", counters.preemptions),
            "evicted_blocks": ("Cached blocks evicted", counters.evicted_blocks),
            "graph_replays": ("Decode steps that were replayed from a CUDA graph", core.graphs.replays),
            "graph_misses": ("Decode steps that did not fit their CUDA graph", core.graphs.misses),
            "overtaking_steps": ("Steps launched before the tokens of the last were known", core.stats.overtaking),
            "failed_steps": ("Steps that ended with an error", core.stats.failed_steps),
        }
        for name, (text, value) in sums.items():
            yield CounterMetricFamily(f"troop_engine_{name}", text, value)
        finished = CounterMetricFamily(
            "troop_engine_sequences_finished", "Sequences by reason of their end", labels=["reason"]
        )
        for reason, value in sorted(counters.finished.items()):
            finished.add_metric([reason], value)
        yield finished

    def _windows(self) -> Iterator[Metric]:
        """Of layers that see a window alone."""
        gauges = {
            "window_blocks_total": "Blocks of layers that keep a window alone",
            "window_blocks_used": "Blocks of these that running sequences need",
            "window_token_bytes": "Bytes of a token's keys and values in these layers, in one process",
        }
        core, label = self._core, ["window"]
        made = [GaugeMetricFamily(f"troop_engine_{name}", text, labels=label) for name, text in gauges.items()]
        for pool, each in zip(core.scheduler.windows.pools, core.model.shape.window_bytes, strict=True):
            window, chunk = pool.reach.window, pool.reach.chunk
            for family, value in zip(made, (pool.count, pool.count - pool.available, each), strict=True):
                family.add_metric([f"chunk of {chunk}" if chunk else str(window)], value)
        if core.scheduler.windows:
            yield from made
