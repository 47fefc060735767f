"""Calls to GitHub: tokens limited to one repository and one step, paced writes, retries that wait as GitHub asks.

PyGithub makes the requests. An act is retried as a whole and looks up before it creates, so that after a time-out the
second attempt finds what the first one made.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from github import Auth, Github, GithubException
from tenacity import AsyncRetrying, retry_if_exception_type

from bot.errors import Refused, SettingsError
from bot.forge.answers import headers_of, is_rate_limit, may_pass, refusal, unreachable, without_redirects
from bot.forge.app_key import CLOCK_TOLERANCE, app_auth
from bot.forge.pace import Pace
from bot.forge.permissions import lacking, ungranted
from bot.forge.request import ask, path_of
from bot.forge.retrying import Trouble, enough, give_up, wait
from bot.settings import Settings

T = TypeVar("T")
Sleep = Callable[[float], Awaitable[None]]
Permissions = Mapping[str, str]
_LEAST: Permissions = {"metadata": "read"}

MAX_PAGES = 50  # of a list
_RENEW = 300.0  # seconds before it expires that a token is replaced
_TIMEOUT = 30  # seconds a request

log = logging.getLogger(__name__)
logging.getLogger("github").setLevel(logging.WARNING)  # PyGithub logs every retry and every wait


_pace = Pace()


class GitHubApi:
    """Calls for one installation, or with one token. Safe to use from several tasks."""

    def __init__(
        self,
        settings: Settings,
        installation_id: int | None,
        *,
        sleep: Sleep = asyncio.sleep,
        request_seconds: int = _TIMEOUT,
    ) -> None:
        self._settings = settings
        self._installation_id = installation_id
        self.sleep = sleep
        self._request_seconds = request_seconds
        self._ahead = 0.0  # seconds that GitHub's clock is ahead of ours, where it refused us for that
        self._tokens: dict[tuple[str, tuple[tuple[str, str], ...]], tuple[str, float]] = {}
        self._token_locks: dict[tuple[str, tuple[tuple[str, str], ...]], asyncio.Lock] = {}
        self._users: dict[str, int | None] = {}  # numbers by login
        self._moved: dict[str, int | None] = {}  # installations of repositories that are no longer in this one
        self._numbers: dict[str, int] = {}  # of the repositories that tokens are for
        if installation_id is not None and not settings.app_id:
            raise SettingsError("TROOP_APP_ID is not set, but the delivery comes from an App's installation; set it")
        if installation_id is None and not settings.token.get_secret_value():
            raise SettingsError("there is neither an App's installation nor TROOP_TOKEN; set one of them")

    @property
    def is_app(self) -> bool:
        """Whether an App's installation is used, not the operator's token."""
        return self._installation_id is not None

    # -- one act, retried until it succeeds

    async def act(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Carry out the act, again where GitHub asks to wait or fails. `what` is for messages, e.g. `comment`.

        Raises `RateLimited` where GitHub asks to wait longer than `PATIENCE`, `Refused` where it refuses for good,
        `ForgeError` where it stays broken.
        """
        retrying = AsyncRetrying(
            retry=retry_if_exception_type(Trouble),
            wait=wait,
            stop=enough,
            sleep=self.sleep,
            retry_error_callback=give_up,
        )
        return await retrying(self._attempt, what, act)

    async def _attempt(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Carry out the act once. Raises `Trouble` where another attempt may succeed."""
        try:
            return await self._authorised(act)
        except GithubException as error:
            if not may_pass(error):
                raise refusal(what, error) from error
            if is_rate_limit(error):
                raise Trouble(f"GitHub limits the rate ({what})", rate_limit=error) from error
            raise Trouble(
                f"GitHub answered with an error ({what}): status {error.status}; it is tried again later"
            ) from error
        except requests.RequestException as error:
            raise Trouble(f"GitHub did not answer ({what}): {type(error).__name__}; tried again later") from error
        except RuntimeError as error:
            if "redirected" not in str(error):
                raise
            # PyGithub's refusal to take the token to another host or scheme.
            raise Refused(
                f"GitHub's API redirects to another host ({what}), which gets no token; correct TROOP_GITHUB_URL"
            ) from error
        except (ValueError, LookupError, TypeError, AssertionError, ArithmeticError) as error:
            # The answer was cut off, or comes from a proxy.
            raise Trouble(
                f"GitHub's answer can't be read ({what}): {type(error).__name__}; is a proxy answering?"
            ) from error

    async def _authorised(self, act: Callable[[], Awaitable[T]]) -> T:
        """The act, with new tokens where GitHub refuses an installation's: after an hour, or with other permissions."""
        try:
            return await act()
        except GithubException as error:
            if error.status != 401 or self._installation_id is None:
                raise
        self.forget_tokens()
        return await act()

    async def read(self, repository: str, permissions: Permissions, call: Callable[[Github], T]) -> T:
        """One call that changes nothing, in a thread. Raises what PyGithub raises: use it within `act`."""
        token = await self.token(repository, permissions)
        return await asyncio.to_thread(self._with_client, Auth.Token(token), call)

    async def found(
        self, what: str, repository: str, permissions: Permissions, path: str, query: Mapping[str, Any] | None = None
    ) -> Any:
        """An act of its own: the answer; None for what is not there, and for what an older GitHub does not know."""

        def find(client: Github) -> Any:
            return ask(client, "GET", path, unless=404, parameters=dict(query or {}))

        return await self.act(what, lambda: self.read(repository, permissions, find))

    async def write(self, repository: str, permissions: Permissions, call: Callable[[Github], T]) -> T:
        """One call that changes something, paced as GitHub asks.

        When cancelled, it waits for the request to end: a request under way can't be taken back, and must not arrive
        after the next one.
        """
        await self._wait_for_pace()
        under_way = asyncio.ensure_future(self.read(repository, permissions, call))
        try:
            return await asyncio.shield(under_way)
        except asyncio.CancelledError:
            await asyncio.wait([under_way], timeout=self._request_seconds)
            if under_way.done() and not under_way.cancelled():
                under_way.exception()
            raise

    async def _wait_for_pace(self) -> None:
        delay = _pace.reserve(self._settings.github_write_seconds)
        if delay > 0:
            await self.sleep(delay)

    async def pages(self, repository: str, permissions: Permissions, path: str) -> list[dict[str, Any]]:
        """All items of a list, 100 a request. Use it within `act`."""
        items: list[dict[str, Any]] = []
        for page in range(1, MAX_PAGES + 1):

            def one_page(client: Github, page: int = page) -> list[dict[str, Any]]:
                data = ask(client, "GET", path, parameters={"per_page": 100, "page": page})
                if not isinstance(data, list):
                    raise TypeError("a list was asked for")
                return data

            found = await self.read(repository, permissions, one_page)
            items += found
            if len(found) < 100:
                break
        return items

    # -- tokens

    def forget_tokens(self) -> None:
        """Drop all tokens, after GitHub refused one."""
        self._tokens.clear()

    def _forget_tokens_of(self, repository: str) -> None:
        for key in [key for key in self._tokens if key[0] == repository]:
            del self._tokens[key]

    async def token(self, repository: str, permissions: Permissions) -> str:
        """A token limited to that repository and these permissions; the operator's own where there is no App."""
        if self._installation_id is None:
            return self._settings.token.get_secret_value()
        key = (repository, tuple(sorted(permissions.items())))
        async with self._token_locks.setdefault(key, asyncio.Lock()):
            known = self._tokens.get(key)
            if known is None or known[1] - _RENEW < time.time() + self._ahead:
                known = await asyncio.to_thread(self._mint, repository, permissions)
                self._tokens[key] = known
            return known[0]

    async def token_beside(self, repository: str, main: str, permissions: Permissions) -> str:
        """A token for another repository of `main`'s owner, of the installation that has `main` and of no other.

        Raises `Refused` where that does not cover it. Use it within `act`.
        """
        if self._installation_id is None:
            return self._settings.token.get_secret_value()
        installation = self._moved.get(main, self._installation_id)
        try:
            return _kept(await asyncio.to_thread(self._mint_of, installation, repository, permissions))[0]
        except GithubException as error:
            if error.status not in (404, 422):
                raise
            raise Refused(f"{repository} is neither public nor covered by the App's installation") from error

    def _mint_of(self, installation: int | None, repository: str, permissions: Permissions) -> dict[str, Any]:
        """https://docs.github.com/rest/apps/apps#create-an-installation-access-token-for-an-app"""
        narrowed = {"repositories": [repository.split("/")[1]], "permissions": dict(permissions)}
        url = f"/app/installations/{installation}/access_tokens"
        return dict(self._with_app(lambda client: ask(client, "POST", url, input=narrowed)))

    def _mint(self, repository: str, permissions: Permissions) -> tuple[str, float]:
        def mint(installation: int | None) -> dict[str, Any]:
            return self._mint_of(installation, repository, permissions)

        installation = self._moved.get(repository, self._installation_id)
        try:
            answer = mint(installation)
        except GithubException as error:
            if error.status not in (404, 422):
                raise
            found = self._installation_of(repository)
            if found is None:
                raise unreachable(repository) from error
            if missing := lacking(found["permissions"], permissions):
                raise ungranted(repository, missing) from error
            now = int(found["id"])
            if now == installation:  # under another name
                raise
            self._moved[repository] = now
            answer = mint(now)
        return _kept(answer)

    async def name_of(self, repository: str, number: int) -> str:
        """The name that the repository of this number has now; `repository` where GitHub does not say. Use it within
        `act`. The App's token for it is kept for others. Raises `Refused` where another repository has the name."""

        def by_token(client: Github) -> tuple[int, str]:
            found = ask(client, "GET", path_of(repository))
            return int(found["id"]), str(found["full_name"])

        def by_app(installation: int | None) -> str:
            wanted = {"repository_ids": [number], "permissions": dict(_LEAST)}
            url = f"/app/installations/{installation}/access_tokens"
            answer = self._with_app(lambda client: ask(client, "POST", url, input=wanted))
            found = [str(one["full_name"]) for one in answer.get("repositories") or ()]
            if len(found) != 1:
                return repository
            self._moved[found[0]] = installation
            if self._numbers.setdefault(found[0], number) != number:
                self._forget_tokens_of(found[0])
            self._numbers[found[0]] = number
            self._tokens[found[0], tuple(_LEAST.items())] = _kept(answer)
            return found[0]

        def of_app() -> str:
            try:
                return by_app(self._installation_id)
            except GithubException as error:
                found = self._installation_of(repository) if error.status in (404, 422) else None
                if found is None or int(found["id"]) == self._installation_id:
                    raise
                return by_app(int(found["id"]))

        try:
            if self.is_app:
                return await asyncio.to_thread(of_app)
        except GithubException as error:
            if error.status not in (403, 404, 422) or may_pass(error):
                raise
            self._forget_tokens_of(repository)  # which may be of another repository that has the name
        try:
            owner, name = await self.read(repository, _LEAST, by_token)
        except (GithubException, Refused) as error:
            if isinstance(error, GithubException) and (error.status not in (403, 404, 422) or may_pass(error)):
                raise
            return repository  # what is asked for next tells what is wrong
        if owner != number:
            raise Refused(f"the name {repository} belongs to another repository now")
        return name

    async def installation_of(self, repository: str) -> dict[str, Any] | None:
        """The App's installation that has the repository now; None where none has. Use it within `act`."""
        return await asyncio.to_thread(self._installation_of, repository)

    def _installation_of(self, repository: str) -> dict[str, Any] | None:
        """An App that was uninstalled and installed again has another one, and so has a repository that went to another
        owner.

        https://docs.github.com/rest/apps/apps#get-a-repository-installation-for-the-authenticated-app
        """
        path = path_of(repository, "installation")
        found = self._with_app(lambda client: ask(client, "GET", path, unless=404))
        return None if found is None else dict(found)

    async def app_slug(self) -> str:
        """The App's name in addresses; its login is `SLUG[bot]`. Use it within `act`.

        https://docs.github.com/rest/apps/apps#get-the-authenticated-app
        """
        answer = await self.as_app(lambda client: ask(client, "GET", "/app"))
        return str(answer["slug"])

    async def user_id(self, repository: str, login: str) -> int | None:
        """The user's number; None where GitHub does not tell. Use it within `act`.

        https://docs.github.com/rest/users/users#get-a-user
        """
        if login not in self._users:

            def number(client: Github) -> int | None:
                found = ask(client, "GET", f"/users/{quote(login, safe='')}", unless=404)
                return None if found is None else int(found["id"])

            self._users[login] = await self.read(repository, _LEAST, number)
        return self._users[login]

    async def as_app(self, call: Callable[[Github], T], *, writes: bool = False) -> T:
        """One call as the App itself, in a thread. `writes`: paced as GitHub asks. Use it within `act`."""
        if writes:
            await self._wait_for_pace()
        return await asyncio.to_thread(self._with_app, call)

    def _with_app(self, call: Callable[[Github], T]) -> T:
        """Call as the App; once more by GitHub's clock, where it refuses ours."""
        try:
            return self._with_client(self._as_app(), call)
        except GithubException as error:
            if error.status != 401 or not self._set_clock(error):
                raise
            return self._with_client(self._as_app(), call)

    def _as_app(self) -> Auth.AppAuth:
        """The App, signed by GitHub's clock."""
        return app_auth(self._settings, self._ahead)

    def _set_clock(self, error: GithubException) -> bool:
        """Learn from the answer's `Date` how far our clock is off; whether that is news, so that trying again helps."""
        try:
            there = parsedate_to_datetime(headers_of(error)["date"]).timestamp()
        except (LookupError, ValueError, TypeError):
            return False
        ahead = there - time.time()
        if abs(ahead - self._ahead) <= CLOCK_TOLERANCE:
            return False
        self._ahead = ahead
        log.warning("this machine's clock is off by %.0f s, by GitHub's; set it, e.g. with NTP", -ahead)
        return True

    def _with_client(self, auth: Auth.Auth, call: Callable[[Github], T]) -> T:
        # A client of its own for each call: PyGithub's is not safe to use from several threads.
        with self._client(auth) as client:
            return call(client)

    @contextlib.contextmanager
    def _client(self, auth: Auth.Auth) -> Iterator[Github]:
        client = Github(
            auth=auth,
            base_url=self._settings.github_url.rstrip("/"),
            timeout=self._request_seconds,
            user_agent="troop",
            per_page=100,
            retry=None,  # `act` repeats
            seconds_between_requests=None,
            seconds_between_writes=None,
            lazy=True,
        )
        try:
            yield without_redirects(client)
        finally:
            client.close()


def _kept(answer: Mapping[str, Any]) -> tuple[str, float]:
    """A new token, and when it ends in seconds since 1970."""
    end = datetime.fromisoformat(answer["expires_at"])
    return str(answer["token"]), end.timestamp()
