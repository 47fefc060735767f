"""What an operator does on the machine."""

import sysconfig
import venv
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from bot.cli.main import cli
from bot.records import Act
from bot.repo_config import RepoConfig, parse
from bot.store import Store
from tests.bot.queueing import queue_run


@pytest.fixture
def url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path / 'troop.sqlite3'}"
    monkeypatch.setenv("TROOP_DATABASE_URL", url)
    return url


def troop(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words))


def test_pause_and_resume(url: str) -> None:
    store = Store.open(url)
    queue_run(store)
    assert troop("pause", "--reason", "an upgrade").output == "paused; 0 runs under way, which end as usual\n"
    paused = store.paused()
    assert paused is not None
    assert (paused.reason, bool(paused.by)) == ("an upgrade", True)
    assert troop("resume").output == "resumed; 0 runs waiting\n"
    assert store.paused() is None
    store.close()


def test_resume_says_when_a_setting_still_pauses(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_PAUSED", "1")
    done = troop("resume")
    assert done.exit_code == 1
    assert "TROOP_PAUSED is set" in done.output


def test_spending_by_month_and_repository(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SPENDING_PRICES", "*=1/2")
    monkeypatch.setenv("TROOP_SPENDING_CURRENCY", "EUR")
    monkeypatch.setenv("TROOP_SPENDING_MONTH", "100")
    store = Store.open(url)
    run_id = queue_run(store)
    store.claim_run(run_id, "w", 1000)
    store.spend(run_id, 1, 12.5)
    store.close()
    lines = [" ".join(line.split()) for line in troop("spending").output.splitlines()]
    assert lines[0].endswith(" 12.50 EUR")
    assert "today 12.50 EUR" in lines
    assert "TROOP_SPENDING_MONTH: the cap of 100.00 EUR a month" in lines
    assert "12.50 EUR 1 run octo/repo" in lines


def test_backup_and_restore_by_command(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "nothing to back up" in troop("backup", "x").output
    store = Store.open(url)
    queue_run(store)
    store.close()
    made = troop("backup", "troop.backup")
    assert (made.exit_code, "run 1" in made.output) == (0, True)
    refused = troop("restore", "troop.backup")
    assert refused.exit_code == 1
    assert refused.output.startswith("troop: the database holds 1 run and 1 delivery: stop Troop, and give --force")
    assert troop("restore", "troop.backup", "--force").exit_code == 0
    whole = CliRunner().invoke(cli, ["backup", "-"]).stdout_bytes
    monkeypatch.setenv("TROOP_DATABASE_URL", f"sqlite:///{tmp_path / 'other.sqlite3'}")
    assert CliRunner().invoke(cli, ["restore", "-"], input=whole).exit_code == 0
    other = Store.open(f"sqlite:///{tmp_path / 'other.sqlite3'}")
    assert len(other.runs()) == 1
    other.close()


@pytest.mark.parametrize("month", ["2026", "2026-13", "26-01", "2026-1"])
def test_what_is_no_month(url: str, month: str) -> None:
    done = troop("spending", "--month", month)
    assert done.exit_code == 2
    assert "write it as 2026-01" in done.output


def test_onboard_prints_a_config_for_a_checkout(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SANDBOX_KIND", "docker")  # the option comes before it
    root = tmp_path / "mill"
    (root / "tests").mkdir(parents=True)
    (root / "mill.py").write_text("def one():\n    return 1\n")
    (root / "tests" / "test_mill.py").write_text("from mill import one\n\n\ndef test_one():\n    assert one() == 1\n")
    done = troop("onboard", str(root), "--sandbox", "process")
    assert done.exit_code == 0, done.output
    assert "its own tests: " in done.stderr
    assert "passes on the default branch (1 test, " in done.stderr
    config = parse(done.stdout)
    assert isinstance(config, RepoConfig)
    assert "pytest" in config.test_command
    assert troop("onboard", str(root), "--write", "--sandbox", "process").exit_code == 0
    assert (root / ".troop.toml").read_text() == done.stdout
    assert "is there already" in troop("onboard", str(root), "--write").output


def test_onboard_says_what_a_command_printed_that_did_not_work(url: str, tmp_path: Path) -> None:
    root = tmp_path / "mill"
    root.mkdir()
    (root / "conftest.py").write_text("import no_such_module\n")
    (root / "test_mill.py").write_text("def test_one():\n    pass\n")
    done = troop("onboard", str(root), "--sandbox", "process")
    assert "did not work here" in done.stderr
    assert "what it printed: E   ModuleNotFoundError: No module named 'no_such_module'" in done.stderr, done.stderr


def test_onboard_runs_tests_in_the_checkouts_own_environment(url: str, tmp_path: Path) -> None:
    root = tmp_path / "mill"
    root.mkdir()
    venv.create(root / ".venv", symlinks=True)
    (packages,) = (root / ".venv" / "lib").glob("python3*/site-packages")
    (packages / "pytest.pth").write_text(sysconfig.get_path("purelib") + "\n")
    (packages / "only_there.py").touch()
    (root / "test_mill.py").write_text("import only_there\n\n\ndef test_one():\n    pass\n")
    done = troop("onboard", str(root), "--sandbox", "process")
    assert "passes on the default branch (1 test, " in done.stderr, done.output


def test_feedback_is_shown_and_forgotten(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TROOP_SOLVER_WRONG_AT_MOST", "0.2")
    monkeypatch.setenv("TROOP_SOLVER_CONFIDENCE_SHIFT", "0")
    assert "nothing is known of any repository yet" in troop("eval", "feedback").output
    store = Store.open(url)
    store.judge(queue_run(store), Act.MERGED, "ann", odds=0.0, candidate=1)
    store.close()
    shown = troop("eval", "feedback").output
    assert shown.startswith("octo/repo: 1 merged\n  winners: 1 of 1 right, 0.5 expected by the count\n")
    assert "published from 80% by the count" in shown
    listed = troop("eval", "feedback", "octo/repo").output
    assert "run 1, issue #1: merged by ann, with candidate 1; the winner was right" in listed
    monkeypatch.setenv("TROOP_FEEDBACK", "false")
    assert troop("eval", "feedback").output.startswith("TROOP_FEEDBACK is off")
    assert troop("eval", "feedback", "--forget").exit_code == 2
    assert troop("eval", "feedback", "octo/repo", "--forget").output == "1 judgement of octo/repo deleted\n"
    assert "nothing is known of octo/repo yet" in troop("eval", "feedback", "octo/repo").output
