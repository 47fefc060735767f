"""Git, called safely: no user or system configuration, no hooks, no submodules, no prompts; time and size are limited.

A repository is untrusted: its names end up in argv, its objects on our disk. So every name that reaches git is checked
here (`check_branch`, `check_commit`). Secrets are passed in the environment, never in argv, a URL or a file, and what
git prints is redacted before it becomes a message.
"""

import asyncio
import base64
import contextlib
import errno
import os
import re
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from bot.errors import CheckoutError, ForgeError, GitFailed
from bot.git.waiting import seconds_of
from bot.sanitize import redact
from bot.scratch import scratch_folder

_SAFE = (
    "protocol.allow=never",
    "protocol.https.allow=always",
    "protocol.http.allow=always",
    "core.hooksPath=/dev/null",
    "core.fsmonitor=false",
    "core.attributesFile=/dev/null",
    "core.protectHFS=true",
    "core.protectNTFS=true",
    "core.autocrlf=false",
    "core.quotePath=false",
    "credential.helper=",
    "http.followRedirects=false",  # a redirect would send the token elsewhere
    "submodule.recurse=false",
    "fetch.recurseSubmodules=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "commit.gpgSign=false",
    "init.templateDir=",
    "advice.detachedHead=false",
)
# Passed on from our own environment: where programs are, and how the network is reached.
_PASSED = re.compile(r"PATH|TMPDIR|SSL_CERT_(FILE|DIR)|GIT_SSL_CAINFO|(?i:(https?|no|all)_proxy)")
_POLL = 0.1  # seconds between two looks at a growing folder, at least
_LOOKING = 0.1  # of the time goes into looking: a folder may have very many files
# Stricter than git-check-ref-format(1): nothing that can be mistaken for an option, a path or an expression.
_BRANCH = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.#+-]|/(?![/.-])){0,198}")
_RETRY_AFTER = re.compile(r"<= recv header:? *retry-after: *([ -~]+)", re.IGNORECASE)
_DATE = re.compile(r"<= recv header:? *date: *([ -~]+)", re.IGNORECASE)
# What this machine may lack; git, which runs with LC_ALL=C, ends lines with the system's words for it.
_SHORTAGES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_COMMIT = re.compile(r"[0-9a-f]{40}(?:[0-9a-f]{24})?")


def check_branch(name: str) -> str:
    """The name, if it can be a branch. Raises `ForgeError`."""
    bad_part = any(part.endswith((".", ".lock")) for part in name.split("/"))
    if not _BRANCH.fullmatch(name) or name.endswith("/") or ".." in name or bad_part or name == "HEAD":
        raise ForgeError(f"{name[:100]!r} can't be used as a branch's name; use letters, digits, '-', '.' and '/'")
    return name


def check_commit(name: str) -> str:
    """The name, if it is a full object name. Raises `ForgeError`."""
    if not _COMMIT.fullmatch(name):
        raise ForgeError(f"{name[:100]!r} is not a commit's full name, which has 40 hexadecimal digits")
    return name


@dataclass(frozen=True)
class Remote:
    """Where to fetch from and push to. The token is sent in an HTTP header, configured by environment variables."""

    url: str
    token: str = ""

    def environment(self) -> dict[str, str]:
        """Configuration by environment (git-config, GIT_CONFIG_COUNT), scoped to the one host."""
        if not self.token:
            return {}
        parts = urlsplit(self.url)
        return {
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": f"http.{parts.scheme}://{parts.netloc}/.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: {self.authorization}",
        }

    @property
    def secrets(self) -> tuple[str, ...]:
        return (self.token, self._basic) if self.token else ()

    @property
    def authorization(self) -> str:
        """The value of that header."""
        return f"Basic {self._basic}"

    @property
    def _basic(self) -> str:
        return base64.b64encode(f"x-access-token:{self.token}".encode()).decode()


@dataclass(frozen=True)
class Limits:
    """What a git command may take: `seconds`, and where a `folder` is named, `max_bytes` on disk below it."""

    seconds: float = 120.0
    folder: Path | None = None
    max_bytes: int = 0
    max_output: int = 0  # bytes that it may print; 0: no limit


DEFAULT_LIMITS = Limits()


async def git(
    *arguments: str,
    cwd: Path,
    remote: Remote | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    config: Sequence[str] = (),
    limits: Limits = DEFAULT_LIMITS,
) -> bytes:
    """Git's standard output.

    Raises `GitFailed` where git ends with an error, `CheckoutError` beyond the `limits`; git and its children are dead
    by then. In `arguments`, put options
    before names, and `--` between them where a name is not ours.
    """
    safe = [part for setting in (*_SAFE, *config) for part in ("-c", setting)]
    async with _traced(remote) as trace:
        return await _run([*safe, *arguments], arguments, cwd, trace | dict(env or {}), stdin, remote, limits)


@contextlib.asynccontextmanager
async def _traced(remote: Remote | None) -> AsyncIterator[dict[str, str]]:
    """The environment for a remote. Only git's trace has the headers of answers; git leaves credentials out of it."""
    if remote is None:
        yield {}
        return
    async with scratch_folder() as folder:
        trace = {"GIT_TRACE_CURL": str(folder / "trace"), "GIT_TRACE_CURL_NO_DATA": "1", "GIT_TRACE_REDACT": "1"}
        yield remote.environment() | trace


def asked_to_wait(trace: str) -> float | None:
    """Seconds that the last answer with a `retry-after` in git's trace asks for; None where there is none. Pure."""
    found, dates = _RETRY_AFTER.findall(trace), _DATE.findall(trace)
    return seconds_of(found[-1], dates[-1] if dates else "") if found else None


def shortage(said: str) -> int | None:
    """The `errno` where git says that this machine has run out of something; None where it does not. Pure."""
    for line in said.splitlines():
        for number in _SHORTAGES:
            if line.endswith(os.strerror(number)) and not line.startswith("remote:"):
                return number
    return None


async def _run(
    words: Sequence[str],
    arguments: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    stdin: bytes,
    remote: Remote | None,
    limits: Limits,
) -> bytes:
    process = await _started(words, cwd, _environment() | dict(env))
    ended = asyncio.ensure_future(_communicate(process, stdin, limits.max_output))
    name = next((word for word in arguments if not word.startswith("-")), arguments[0])
    try:
        await _supervise(ended, name, limits)
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await asyncio.gather(ended, return_exceptions=True)
    output, errors = ended.result()
    if process.returncode:
        said = redact(errors.decode(errors="replace").strip()[-2000:], remote.secrets if remote else ())
        if (lacking := shortage(said)) is not None:
            raise OSError(lacking, f"git {name} ended with exit code {process.returncode}: {said}")
        trace = Path(env["GIT_TRACE_CURL"]) if remote else None
        wait = asked_to_wait(trace.read_text(errors="replace")) if trace and trace.exists() else None
        raise GitFailed(f"git {name} ended with exit code {process.returncode}: {said}", said, wait)
    return output


async def _started(words: Sequence[str], cwd: Path, env: Mapping[str, str]) -> asyncio.subprocess.Process:
    """Git, begun. Raises `CheckoutError` where there is none."""
    pipe = asyncio.subprocess.PIPE
    try:
        return await asyncio.create_subprocess_exec(
            "git", *words, cwd=cwd, env=env, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True
        )
    except FileNotFoundError:
        if not await asyncio.to_thread(cwd.exists):
            raise
        raise CheckoutError("git is not there: install it, or add its folder to PATH") from None


async def _communicate(process: asyncio.subprocess.Process, stdin: bytes, max_output: int) -> tuple[bytes, bytes]:
    """Feed and read. Raises `CheckoutError` beyond `max_output` bytes: a small repository may list 10^10 entries."""
    if not max_output:
        return await process.communicate(stdin)
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdin.close()
    errors = asyncio.ensure_future(process.stderr.read())
    output, too_much = bytearray(), False
    while part := await process.stdout.read(1 << 16):
        if len(output) + len(part) > max_output and not too_much:
            too_much = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        if not too_much:
            output += part
    said = await errors
    await process.wait()
    if too_much:
        raise CheckoutError(
            f"the repository has too many files: their list alone takes more than {max_output:,} bytes, "
            "and no setting allows more"
        )
    return bytes(output), said


async def _supervise(ended: "asyncio.Future[tuple[bytes, bytes]]", name: str, limits: Limits) -> None:
    """Wait for the end, or raise `CheckoutError`. A pack tells its size only on disk."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + limits.seconds
    pause = _POLL
    while True:
        left = deadline - loop.time()
        await asyncio.wait([ended], timeout=max(0.0, min(left, pause) if limits.folder else left))
        if limits.folder:
            began = loop.time()
            size = await asyncio.to_thread(folder_size, limits.folder, limits.max_bytes)
            pause = max(_POLL, (loop.time() - began) / _LOOKING)
            if size > limits.max_bytes:
                raise CheckoutError(
                    f"the repository takes more than {limits.max_bytes:,} bytes; "
                    "raise TROOP_CHECKOUT_MAX_BYTES to allow it"
                )
        if ended.done():
            return
        if loop.time() >= deadline:
            raise CheckoutError(
                f"git {name} took more than {limits.seconds:g} s; raise TROOP_CHECKOUT_TIMEOUT to allow it"
            )


def folder_size(folder: Path, enough: int) -> int:
    """Bytes on disk below the folder; counting stops beyond `enough`."""
    total = 0
    stack = [str(folder)]
    while stack and total <= enough:
        with contextlib.suppress(OSError), os.scandir(stack.pop()) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):
                    if entry.is_dir(follow_symlinks=False):
                        stack.append(entry.path)
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
    return total


def _environment() -> dict[str, str]:
    passed = {name: value for name, value in os.environ.items() if _PASSED.fullmatch(name)}
    return passed | {
        "HOME": "/nonexistent",
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_LFS_SKIP_SMUDGE": "1",
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_NO_REPLACE_OBJECTS": "1",
    }
