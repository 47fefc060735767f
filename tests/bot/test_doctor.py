"""The doctor: what is missing is named with its mend, and nothing is changed by looking."""

from pathlib import Path

import pytest

from bot import doctor


def findings() -> dict[str, doctor.Finding]:
    return {finding.name: finding for finding in doctor.examine()}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_bare_machine_can_do_the_main_job(tmp_path: Path) -> None:
    found = findings()
    for name in ("python", "git", "torch", "settings", "database", "redis", "model endpoint"):
        assert found[name].level == "ok", found[name]
    assert found["GitHub"].level == "optional"
    assert "TROOP_APP_ID" in found["GitHub"].mend
    assert list(tmp_path.iterdir()) == []


def test_names_the_setting_that_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_PORT", "eighty")
    assert "TROOP_PORT" in findings()["settings"].detail


def test_an_endpoint_and_a_queue_that_do_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_MAIN_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("TROOP_REDIS_URL", "redis://127.0.0.1:9/0")
    found = findings()
    assert found["model endpoint"].level == found["redis"].level == "missing"
    lines: list[str] = []
    assert doctor.report(lines.append) == 1
    assert any("TROOP_REDIS_URL" in line for line in lines)
