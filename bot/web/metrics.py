"""What Prometheus reads at `/metrics`: numbers only, no name of a repository or a person."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bot.lifecycle import RunState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One registry an app, so that two apps in a process don't add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "troop_deliveries", "Deliveries with a good signature", ["decision"], registry=self.registry
        )
        self.duplicates = Counter(
            "troop_deliveries_duplicate", "Deliveries whose GUID was there before", registry=self.registry
        )
        self.refused = Counter(
            "troop_deliveries_refused", "Requests that are no delivery", ["status"], registry=self.registry
        )
        self.not_queued = Counter(
            "troop_jobs_not_queued", "Jobs left to the sweeper, the queue being out of reach", registry=self.registry
        )
        self.acknowledgement = Histogram(
            "troop_acknowledgement_seconds",
            "From the request's head to the answer",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self.registry,
        )
        self._runs = Gauge("troop_runs", "Runs in the database", ["state"], registry=self.registry)

    def render(self, runs: Mapping[RunState, int]) -> bytes:
        for state, count in runs.items():
            self._runs.labels(state=state.value).set(count)
        return generate_latest(self.registry)
