"""What holds for every test: no network but loopback, and in CI no skip for a missing service."""

import contextlib
import functools
import ipaddress
import os
import re
import signal
import socket
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lean_python import JOBS_PYTHON, use_lean_python
from tests.patience import PATIENCE

# No test may depend on how fast the machine is: not on how long an example takes or takes to make ... Where a GPU is
# tested (`tests.gpu`) there may be neither of these packages.
with contextlib.suppress(ImportError):
    import hypothesis

    hypothesis.settings.register_profile(
        "troop", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
    )
    hypothesis.settings.load_profile("troop")

# ... and not on httpx's own 5 s, which hold wherever a test or what it tests names no other time-out.
with contextlib.suppress(ImportError):
    import httpx

    for _limit in ("connect", "read", "write", "pool"):
        setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, _limit, PATIENCE)

# A shell's background and `nohup` have signals ignored, also by what tests start: those of signals would wait for ever.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)  # not for what they start

_real_connect = socket.socket.connect
_skipped_services: list[str] = []
_ENGINE = "Docker Engine"
_NEEDS_ENGINE = re.compile(r"\b(?:docker_address|sandbox_image|toolchain_image)\b")  # of `tests/services_docker.py`


def _guarded_connect(self: socket.socket, address: Any) -> None:
    if self.family in (socket.AF_INET, socket.AF_INET6):
        host = address[0]
        if host != "localhost" and not ipaddress.ip_address(host).is_loopback:
            raise AssertionError(f"a test reached for {address}: no network but loopback")
    _real_connect(self, address)


@pytest.fixture(scope="session", autouse=True)
def _pytest_in_sandboxes(request: pytest.FixtureRequest) -> Iterator[None]:
    """Sandboxes of tests run the machine's `python3`, which on a bare machine has no pytest; a GPU needs no sandbox."""
    if all("gpu" in item.keywords for item in request.session.items):
        yield
        return
    with pytest.MonkeyPatch.context() as patched:
        asks = ["python3", "-c", "import pytest"]
        if JOBS_PYTHON or subprocess.run(asks, capture_output=True, check=False).returncode:
            use_lean_python(patched)
        yield


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", _guarded_connect)
    for name in [name for name in os.environ if name.startswith("TROOP_")]:
        monkeypatch.delenv(name)  # the operator's settings are no part of a test
    monkeypatch.setenv("TROOP_SOLVER_EXAMINE", "false")  # tests of the examination turn it on, others count their calls


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where processes share the tests (`make test`), the Docker Engine's begin first: their row is the longest."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _row_of(item.nodeid) != _ENGINE)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Processes share the tests by files, for the sake of fixtures; those of the one Docker Engine stay in one."""
    if config.getvalue("dist") != "loadscope":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByRows(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return _row_of(nodeid)

    return ByRows(config, log)


def _row_of(nodeid: str) -> str:
    """The row of tests that one process runs in their order: a file's, or the Engine's."""
    return _row_of_file(nodeid.split("::")[0])


@functools.cache
def _row_of_file(path: str) -> str:
    text = (Path(__file__).parent.parent / path).read_text()
    return _ENGINE if _NEEDS_ENGINE.search(text) else path


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    if report.skipped and os.environ.get("CI") == "true" and "service" in report.keywords:
        _skipped_services.append(report.nodeid)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    if _skipped_services and exitstatus == 0:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: Any) -> None:
    skipped = [report for report in terminalreporter.stats.get("skipped", []) if "service" in report.keywords]
    lacking = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    for reason, count in lacking.most_common():
        terminalreporter.write_line(f"{count} tests skipped: {reason}")
    if lacking:
        terminalreporter.write_line("`.ci/run` (Debian, as root) installs and starts what they need, and tests all")
    for nodeid in _skipped_services:
        terminalreporter.write_line(f"FAILED {nodeid}: skipped in CI for a missing service", red=True)
