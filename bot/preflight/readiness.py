"""All checks of a server at once, and their findings kept for a while, so that asking often costs nothing."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence

from bot.errors import SettingsError
from bot.preflight.finding import Finding
from bot.preflight.github import github
from bot.preflight.machine import machine
from bot.preflight.sandbox import docker
from bot.preflight.services import database, endpoint, queue
from bot.settings import Settings, misspelt

LIMIT = 20.0  # seconds for one check
FRESH = 5.0  # seconds that findings are kept
FRESH_GITHUB = 60.0  # ... those of GitHub, which limits the rate

log = logging.getLogger(__name__)
Check = Callable[[], Awaitable[Sequence[Finding]]]


async def variables() -> list[Finding]:
    """Variables that nobody reads."""
    found = [
        Finding.missing("settings", words, "docs/settings.md lists every variable", fatal=True) for words in misspelt()
    ]
    return found or [Finding.ok("settings", "read from the environment, .env and files")]


def checks(settings: Settings, *, works: bool) -> dict[str, Check]:
    """What a server is asked. One that does not work has no Docker, and may have no key and no model."""
    found: dict[str, Check] = {
        "settings": variables,
        "machine": lambda: machine(settings, works=works),
        "database": lambda: database(settings),
        "redis": lambda: queue(settings),
    }
    file = settings.private_key_file
    has_key = bool(settings.private_key.get_secret_value() or (file is not None and file.exists()))
    if works or has_key or settings.token.get_secret_value():
        found["GitHub"] = lambda: github(settings)
    if works:
        found["docker"] = lambda: docker(settings.sandbox)
        found["model endpoint"] = lambda: endpoint(settings)
    return found


async def examine(settings: Settings, *, works: bool) -> tuple[Finding, ...]:
    """All findings, in order."""
    found = await asyncio.gather(*(_within(name, check) for name, check in checks(settings, works=works).items()))
    return tuple(finding for group in found for finding in group)


def start_refused(findings: Sequence[Finding]) -> None:
    """Log what is wrong. Raises `SettingsError` where only another configuration mends it.

    An outage is no reason to refuse: deliveries are taken meanwhile, and runs wait.
    """
    fatal = [finding for finding in findings if finding.fatal]
    if fatal:
        raise SettingsError("; ".join(finding.words for finding in fatal))
    for finding in findings:
        if finding.level == "missing":
            log.error("not ready: %s", finding.words)
        elif finding.level == "optional":
            log.warning("%s", finding.words)


async def _within(name: str, check: Check) -> Sequence[Finding]:
    try:
        async with asyncio.timeout(LIMIT):
            return await check()
    except TimeoutError:
        return [Finding.missing(name, f"no answer within {LIMIT:.0f} s")]
    except Exception as error:  # a check that fails is a finding, too
        log.exception("the check of %s failed", name)
        return [Finding.missing(name, f"the check failed: {type(error).__name__}: {error}")]


class Readiness:
    """The findings of a running server. Those who ask at the same time share one answer. Call it in one event loop."""

    def __init__(self, all_checks: dict[str, Check], *, clock: Callable[[], float] = time.monotonic) -> None:
        self._checks = all_checks
        self._clock = clock
        self._known: dict[str, tuple[float, Sequence[Finding]]] = {}
        self._lock = asyncio.Lock()

    async def findings(self) -> tuple[Finding, ...]:
        """As fresh as `FRESH`."""
        async with self._lock:
            now = self._clock()
            stale = [name for name in self._checks if not self._is_fresh(name, now)]
            found = await asyncio.gather(*(_within(name, self._checks[name]) for name in stale))
            self._known |= {name: (now, group) for name, group in zip(stale, found, strict=True)}
            return tuple(finding for name in self._checks for finding in self._known[name][1])

    def _is_fresh(self, name: str, now: float) -> bool:
        if name not in self._known:
            return False
        return now - self._known[name][0] < (FRESH_GITHUB if name == "GitHub" else FRESH)
