"""`/metrics` of all replicas, each sample with the replica's name, and what the address itself counts."""

import asyncio
from collections.abc import Iterator
from typing import Protocol

import aiohttp
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from engine.cluster.replicas import Backend, Replicas
from engine.cluster.routing import Router

ANSWER_SECONDS = 5.0


class Counted(Protocol):
    """What the address counts."""

    replicas: Replicas
    router: Router
    served: dict[str, int]
    retried: int


async def render(counted: Counted, session: aiohttp.ClientSession) -> bytes:
    """The text that Prometheus scrapes. A replica that does not answer is left out."""
    backends = list(counted.replicas.up.values())
    texts = await asyncio.gather(*(_text(backend, session) for backend in backends))
    found = {backend.replica: text for backend, text in zip(backends, texts, strict=True)}
    registry = CollectorRegistry()
    registry.register(_Merged([*_own(counted), *merged(found)]))
    return generate_latest(registry)


def merged(texts: dict[str, str]) -> list[Metric]:
    """The metrics of several replicas as one list, by the replicas' names."""
    families: dict[str, Metric] = {}
    for replica, text in texts.items():
        for family in text_string_to_metric_families(text):
            whole = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                whole.samples.append(sample._replace(labels={**sample.labels, "replica": replica}))
    return list(families.values())


def _own(counted: Counted) -> Iterator[Metric]:
    replicas = counted.replicas
    up = {name: float(name in replicas.up) for name in replicas.names}
    yield _by_replica(GaugeMetricFamily("troop_cluster_up", "Whether a replica serves", labels=["replica"]), up)
    rows = GaugeMetricFamily("troop_cluster_rows", "Sequences asked of a replica at the moment", labels=["replica"])
    yield _by_replica(rows, counted.router.rows)
    starts = CounterMetricFamily("troop_cluster_starts", "Times that a replica came up", labels=["replica"])
    yield _by_replica(starts, replicas.starts)
    served = CounterMetricFamily("troop_cluster_requests", "Requests answered by a replica", labels=["replica"])
    yield _by_replica(served, counted.served)
    yield CounterMetricFamily("troop_cluster_spilled", "Requests that went past their owner", counted.router.spilled)
    yield CounterMetricFamily("troop_cluster_retried", "Requests computed again after a loss", counted.retried)


def _by_replica(
    family: GaugeMetricFamily | CounterMetricFamily, values: dict[str, int] | dict[str, float]
) -> GaugeMetricFamily | CounterMetricFamily:
    for name, value in values.items():
        family.add_metric([name], value)
    return family


async def _text(backend: Backend, session: aiohttp.ClientSession) -> str:
    try:
        limit = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with session.get(f"{backend.url}/metrics", timeout=limit) as answer:
            answer.raise_for_status()
            return await answer.text()
    except (aiohttp.ClientError, OSError):
        return ""


class _Merged(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        """Called by the registry."""
        yield from self._families
