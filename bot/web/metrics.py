"""The metrics at `/metrics` for Prometheus: numbers only, without names of repositories or people."""

from collections.abc import Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from bot.lifecycle import RunState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Has its own registry, so that two apps in one process count apart."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.deliveries = Counter(
            "troop_deliveries", "Deliveries with a good signature", ["decision"], registry=self.registry
        )
        self.duplicates = Counter(
            "troop_deliveries_duplicate", "Deliveries whose GUID was recorded before", registry=self.registry
        )
        self.refused = Counter(
            "troop_deliveries_refused", "Requests that are not a valid delivery", ["status"], registry=self.registry
        )
        self.not_queued = Counter(
            "troop_jobs_not_queued",
            "Jobs left to the sweeper while the queue was away",
            registry=self.registry,
        )
        self.acknowledgement = Histogram(
            "troop_acknowledgement_seconds",
            "From the request's headers to the answer",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
            registry=self.registry,
        )
        self._runs = Gauge("troop_runs", "Runs in the database", ["state"], registry=self.registry)
        self._spent = Gauge(
            "troop_spent", "Cost of this day's and this month's runs so far", ["window"], registry=self.registry
        )
        self._paused = Gauge("troop_paused", "1 while no run is started", registry=self.registry)

    def render(self, runs: Mapping[RunState, int], spent: Mapping[str, float], *, paused: bool) -> bytes:
        """`spent`: by `day` and `month`, in the currency of the settings."""
        for state, count in runs.items():
            self._runs.labels(state=state.value).set(count)
        for window, cost in spent.items():
            self._spent.labels(window=window).set(cost)
        self._paused.set(paused)
        return generate_latest(self.registry)
