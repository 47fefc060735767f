"""The doctor: what is missing is named with a hint, and nothing is changed by looking."""

from pathlib import Path

import pytest

from bot.cli import doctor
from bot.llm.published_models import CATALOGUE, HUMANEVAL


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
    assert "TROOP_APP_ID" in found["GitHub"].hint
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


def test_published_models_are_information_and_never_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings()["published models"]
    assert found.level == "ok"
    assert "none in" in found.detail
    assert all(one.name in found.hint for one in CATALOGUE)
    assert "make models" in found.hint
    folder = tmp_path / "models"
    folder.mkdir()
    monkeypatch.setenv("TROOP_MODELS_DIR", str(folder))
    HUMANEVAL.path(folder).write_bytes(b"cut short")
    assert HUMANEVAL.name in findings()["published models"].hint
    for one in CATALOGUE:
        with one.path(folder).open("wb") as file:
            file.truncate(one.size)
    whole = findings()["published models"]
    assert HUMANEVAL.name in whole.detail
    assert not whole.hint


def test_the_model_of_the_own_engine_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_ENGINE_MODEL", "smollm2-135m")
    found = findings()["model endpoint"]
    assert found.level == "missing"
    assert "troop models smollm2-135m" in found.detail
    monkeypatch.setenv("TROOP_ENGINE_MODEL", str(tmp_path))
    assert findings()["model endpoint"].level == "ok"


def test_how_the_image_of_a_checkout_would_be_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Cargo.toml").write_text('[package]\nname = "x"\n')
    (tmp_path / "main.rs").write_text("")
    told = "\n".join(doctor.describe_build(tmp_path))
    assert told.startswith("build     Rust (Cargo.toml), from python:3.11-slim\n")
    assert "dependencies: cargo fetch\n" in told
    assert 'begin in .troop.toml from: setup = "cargo fetch"' in told
    assert told.endswith("\ntests     cargo test --offline --no-fail-fast")
    (tmp_path / ".troop.toml").write_text("[sandbox]\nsetup = 3\n")
    assert ".troop.toml, line 2" in next(doctor.describe_build(tmp_path))


def test_where_no_command_is_known_for_the_tests_the_doctor_asks_for_one(tmp_path: Path) -> None:
    (tmp_path / "meson.build").write_text("test('low', low)\n")
    *_, last = doctor.describe_build(tmp_path)
    assert last == 'tests     no command is known for them: name one in .troop.toml, [test] command = "..."'
