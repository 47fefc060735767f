"""Who people are and what they may read, asked of GitHub with their own tokens.

A user's token of a GitHub App reaches what both the person and the App may reach.
https://docs.github.com/apps/creating-github-apps/authenticating-with-a-github-app/generating-a-user-access-token-for-a-github-app
"""

import asyncio
import base64
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
from authlib.common.errors import AuthlibBaseError
from authlib.integrations.httpx_client import AsyncOAuth2Client

from bot.errors import ForgeError
from bot.records import Record
from bot.settings import Settings

_TIMEOUT = 15.0  # seconds a request
_PAGE = 100
_MOST_PAGES = 50
_HEADERS = {"Accept": "application/vnd.github+json", "User-Agent": "troop"}


class SignInAgain(ForgeError):
    """GitHub does not take the person's token any more."""


class Person(Record):
    """Somebody who signed in. `seconds`: how long the token works; None where GitHub sets no end."""

    login: str
    token: str
    seconds: float | None


class Access(Record):
    """What a person may do with a repository."""

    read: bool = False
    write: bool = False  # `push`, and the repository is not archived


class SignIn:
    """GitHub's web flow with `state` and PKCE."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @property
    def possible(self) -> bool:
        return bool(self._settings.client_id and self._settings.client_secret.get_secret_value())

    def begin(self, state: str, verifier: str) -> str:
        """Where the browser goes."""
        web = self._settings.github_web_url
        url, _ = self._client().create_authorization_url(
            f"{web}/login/oauth/authorize", state=state, code_verifier=verifier
        )
        return str(url)

    async def finish(self, code: str, verifier: str) -> Person:
        """Who came back with that code. Raises `ForgeError`."""
        settings = self._settings
        try:
            async with self._client() as client:
                token: dict[str, Any] = await client.fetch_token(
                    f"{settings.github_web_url}/login/oauth/access_token",
                    code=code,
                    code_verifier=verifier,
                    headers={"Accept": "application/json"},
                )
        except AuthlibBaseError as error:
            raise ForgeError(f"GitHub refuses the sign-in ({str(error)[:200]}); begin again") from error
        except (httpx.HTTPError, ValueError) as error:
            raise _away(settings, error) from error
        value, lasts = str(token.get("access_token") or ""), token.get("expires_in")
        if not value:
            raise ForgeError("GitHub gave no token; begin again")
        found = await _get(settings, value, "/user")
        if found is None or not isinstance(found.get("login"), str):
            raise ForgeError("GitHub does not say who signed in; begin again")
        return Person(login=found["login"], token=value, seconds=float(lasts) if lasts else None)

    def _client(self) -> AsyncOAuth2Client:
        return AsyncOAuth2Client(
            self._settings.client_id,
            self._settings.client_secret.get_secret_value(),
            token_endpoint_auth_method="client_secret_post",  # noqa: S106 - the name of a method
            redirect_uri=self._settings.pages.callback,
            code_challenge_method="S256",
            timeout=_TIMEOUT,
        )


async def repositories(settings: Settings, token: str) -> frozenset[str]:
    """Those of the App's installations to which the person was given access. Raises `ForgeError`, `SignInAgain`."""
    found: set[str] = set()
    for installation in await _pages(settings, token, "/user/installations", "installations"):
        path = f"/user/installations/{int(installation['id'])}/repositories"
        found.update(str(one["full_name"]) for one in await _pages(settings, token, path, "repositories"))
    return frozenset(found)


async def access(settings: Settings, token: str, repository: str) -> Access:
    """What the person may do there now. Raises `ForgeError`, `SignInAgain`."""
    found = await _get(settings, token, f"/repos/{quote(repository)}")
    if found is None:
        return Access()
    may = found.get("permissions") or {}
    return Access(read=True, write=bool(may.get("push")) and not found.get("archived"))


async def file_of(settings: Settings, token: str, repository: str, path: str) -> str | None:
    """A small file of the default branch; None where it is not there. Raises `ForgeError`, `SignInAgain`."""
    found = await _get(settings, token, f"/repos/{quote(repository)}/contents/{quote(path)}")
    if found is None or found.get("encoding") != "base64":
        return None
    return base64.b64decode(str(found.get("content", ""))).decode("utf-8-sig", "replace").replace("\r\n", "\n")


async def _pages(settings: Settings, token: str, path: str, name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for page in range(1, _MOST_PAGES + 1):
        answer = await _get(settings, token, f"{path}?per_page={_PAGE}&page={page}") or {}
        some = answer.get(name) or []
        found += some
        if len(some) < _PAGE:
            break
    return found


async def _get(settings: Settings, token: str, path: str) -> dict[str, Any] | None:
    """The answer; None for what is not there, or not for this person."""
    headers = _HEADERS | {"Authorization": f"Bearer {token}"}
    try:
        async with httpx.AsyncClient(timeout=_TIMEOUT, headers=headers) as client:  # follows no redirect
            answer = await client.get(f"{settings.github_url}{path}")
            if answer.status_code == 401:
                raise SignInAgain("GitHub does not take your token any more")
            limited = answer.headers.get("x-ratelimit-remaining") == "0" or "retry-after" in answer.headers
            if answer.status_code in (403, 404, 451) and not limited:
                return None
            answer.raise_for_status()
            found = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise _away(settings, error) from error
    return found if isinstance(found, dict) else None


def _away(settings: Settings, error: Exception) -> ForgeError:
    return ForgeError(f"GitHub ({settings.github_web_url}) can't be asked now ({type(error).__name__}); try again")


class Known:
    """What GitHub said of people's access, kept for minutes. Of one event loop."""

    SECONDS = 180.0
    MOST = 10_000  # entries

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self.clock = clock
        self._lists: dict[str, tuple[float, frozenset[str]]] = {}
        self._single: dict[tuple[str, str], tuple[float, Access]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def repositories(self, session: str, token: str) -> frozenset[str]:
        """As the function. One question at a time for each session."""
        async with self._lock(session):
            kept = self._lists.get(session)
            if kept is None or kept[0] < self.clock():
                found = await repositories(self._settings, token)
                kept = self._lists[session] = (self.clock() + self.SECONDS, found)
                self._bound()
            return kept[1]

    async def access(self, session: str, token: str, repository: str, *, fresh: bool = False) -> Access:
        """As the function; `fresh`: asked again, before something is done."""
        async with self._lock(session):
            kept = self._single.get((session, repository))
            if fresh or kept is None or kept[0] < self.clock():
                found = await access(self._settings, token, repository)
                kept = self._single[session, repository] = (self.clock() + self.SECONDS, found)
                self._bound()
            return kept[1]

    def _lock(self, session: str) -> asyncio.Lock:
        return self._locks.setdefault(session, asyncio.Lock())

    def _bound(self) -> None:
        now = self.clock()
        if len(self._lists) + len(self._single) > self.MOST:
            self._lists = {key: kept for key, kept in self._lists.items() if kept[0] > now}
            self._single = {key: kept for key, kept in self._single.items() if kept[0] > now}
        if len(self._lists) + len(self._single) > self.MOST:
            self._lists.clear()
            self._single.clear()
        if len(self._locks) > self.MOST:
            self._locks = {key: lock for key, lock in self._locks.items() if lock.locked()}
