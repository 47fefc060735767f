"""deploy/metrics: the board and the alerts show what is exported, and are found where they are mounted."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from bot.lifecycle import RunState
from bot.web.metrics import Metrics
from engine.core import Core
from engine.server.metrics import EngineMetrics
from tests.engine.conftest import make_core, make_weights, tokenizer, weights
from tests.test_deploy import SERVICES, mounts

__all__ = ["make_core", "tokenizer", "weights"]

FOLDER = Path(__file__).parent.parent / "deploy" / "metrics"
BOARD: dict[str, Any] = json.loads((FOLDER / "grafana" / "boards" / "troop.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((FOLDER / "prometheus" / "rules.yml").read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
EXPRESSIONS += [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]


def of_web() -> str:
    metrics = Metrics()
    metrics.deliveries.labels(decision="StartRun").inc()
    metrics.refused.labels(status="401").inc()
    return metrics.render(dict.fromkeys(RunState, 1), {"day": 1.0, "month": 2.0}, paused=False).decode()


def samples(text: str) -> dict[str, set[str]]:
    """Labels by the name of each sample."""
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_metric_of_the_board_and_the_alerts_is_exported(make_core: Callable[..., Core]) -> None:
    text = EngineMetrics(make_core(other=make_weights("Mistral", sliding_window=13))).render().decode()
    exported = samples(of_web()) | samples(text) | {"up": {"job"}}
    exported["troop_engine_sequences_finished_total"] = {"reason"}  # has a sample once one has ended
    assert "troop_engine_sequences_finished" in text
    used = {name for expression in EXPRESSIONS for name in re.findall(r"\b(?:troop_\w+|up)\b", expression)}
    assert used <= set(exported), f"nobody exports {sorted(used - set(exported))}"
    for expression in EXPRESSIONS:
        for name, matchers in re.findall(r"\b(troop_\w+|up)\{([^}]*)\}", expression):
            assert set(re.findall(r"(\w+)=", matchers)) <= exported[name], expression
        for grouped in re.findall(r"by \((\w+)\)", expression):
            [name] = set(re.findall(r"\btroop_\w+", expression))
            assert grouped in exported[name], expression


def test_states_and_windows_of_the_board_are_ours() -> None:
    for expression in EXPRESSIONS:
        for states in re.findall(r'state=~?"([^"]*)"', expression):
            assert set(states.split("|")) <= {state.value for state in RunState}, expression
        for window in re.findall(r'window="([^"]*)"', expression):
            assert window in ("day", "month")


def test_panels_have_ids_of_their_own_and_do_not_overlap() -> None:
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(ids) == len(set(ids))
    taken: set[tuple[int, int]] = set()
    for panel in BOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert max(x for x, _ in cells) < 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("service", ["prometheus", "grafana"])
def test_what_is_configured_is_where_it_is_mounted(service: str) -> None:
    source = FOLDER.parent / mounts(service)["/etc/troop"].removesuffix(":ro")
    texts = [json.dumps(SERVICES[service]), *(path.read_text() for path in source.rglob("*.yml"))]
    named = {path for text in texts for path in re.findall(r"/etc/troop(/[\w./-]+)", text)}
    assert named
    for path in named:
        assert (source / path.removeprefix("/")).exists(), path


def test_prometheus_scrapes_the_services_where_they_listen() -> None:
    jobs = yaml.safe_load((FOLDER / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    targets = {job["job_name"]: job["static_configs"][0]["targets"] for job in jobs}
    assert targets == {"troop": ["web:8000"], "engine": ["engine:8100"]}
    assert SERVICES["web"]["command"][-1] == "8000"
    assert "--port 8100" in SERVICES["engine-cpu"]["command"]
    uid = yaml.safe_load((FOLDER / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"][0][
        "uid"
    ]
    assert {target["datasource"]["uid"] for panel in PANELS for target in panel["targets"]} == {uid}
