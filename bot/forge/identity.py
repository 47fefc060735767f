"""Who we are on GitHub: `GET /app` with the App's key, or `GET /user` with the operator's token. Blocks."""

import time
from email.utils import parsedate_to_datetime
from typing import Any

import requests

from bot.errors import ForgeError, SettingsError
from bot.forge.app_key import CLOCK_TOLERANCE, app_auth, app_key, fingerprint
from bot.forge.permissions import CHECK_PERMISSIONS, PERMISSIONS, lacking
from bot.records import Record
from bot.settings import Settings

EVENTS = (
    *("issues", "issue_comment", "pull_request_review", "pull_request_review_comment", "pull_request"),
    *("check_suite", "status"),
)
# Apps that are older lack these, and work without: what is lost by each.
LATER_EVENTS = {
    "pull_request_review": "reviews of its pull requests start no revision",
    "pull_request_review_comment": "reviews of its pull requests start no revision",
    "pull_request": "nothing is learned from what becomes of them",
    "check_suite": "failed checks start no revision",
    "status": "failed checks start no revision",
}


class AppIdentity(Record):
    """The App as GitHub knows it."""

    id: int
    slug: str
    url: str
    permissions: dict[str, str]
    events: tuple[str, ...]
    installations: int | None  # None where GitHub does not tell
    clock_off: float = 0.0  # seconds by which our clock is ahead of GitHub's, where GitHub refused us for that

    @property
    def missing_permissions(self) -> tuple[str, ...]:
        """`contents: write` for each that Troop needs and the App lacks."""
        return lacking(self.permissions, PERMISSIONS)

    @property
    def missing_for_checks(self) -> tuple[str, ...]:
        """As `missing_permissions`, of those that only our check run and the revision after failed checks need."""
        return lacking(self.permissions, CHECK_PERMISSIONS)

    @property
    def missing_events(self) -> tuple[str, ...]:
        return tuple(event for event in EVENTS if event not in self.events)


def app_identity(settings: Settings, seconds: float = 10.0) -> AppIdentity:
    """The App of `TROOP_APP_ID` and its key. Where GitHub refuses our clock, it is asked again by its own.

    Raises `SettingsError` for a key, an id or an address that GitHub will not take, and `ForgeError` where it does not
    answer, which may pass. https://docs.github.com/rest/apps/apps#get-the-authenticated-app
    """
    pem = app_key(settings)
    off = 0.0
    answer = _ask(settings, "/app", f"Bearer {app_auth(settings).create_jwt()}", seconds)
    if answer.status_code == 401 and abs(_skew(answer)) > CLOCK_TOLERANCE:
        off = _skew(answer)
        answer = _ask(settings, "/app", f"Bearer {app_auth(settings, -off).create_jwt()}", seconds)
    found = _json(answer)
    if answer.status_code == 401:
        raise SettingsError(_refused(settings, answer, pem, str(found.get("message", ""))))
    if answer.status_code == 404 and "message" in found:
        raise SettingsError(
            f"TROOP_APP_ID: {settings.github_url} knows no App {settings.app_id} (it says: {found['message']}); take "
            "the App ID from the App's settings on GitHub"
        )
    _check(settings, answer, found, ("id", "slug"))
    if found["id"] != settings.app_id:
        raise SettingsError(f"TROOP_APP_ID is {settings.app_id}, but the key is of App {found['id']} ({found['slug']})")
    count = found.get("installations_count")
    return AppIdentity(
        id=settings.app_id,
        slug=str(found["slug"]),
        url=str(found.get("html_url") or f"{settings.github_web_url}/apps/{found['slug']}"),
        permissions={str(name): str(level) for name, level in (found.get("permissions") or {}).items()},
        events=tuple(map(str, found.get("events") or ())),
        installations=count if isinstance(count, int) else None,
        clock_off=off,
    )


def with_slug(settings: Settings, seconds: float = 10.0) -> Settings:
    """The settings with the App's slug as GitHub tells it, so that mentions of it are known; as they are where it can't
    be asked."""
    if not settings.app_id:
        return settings
    try:
        return settings.model_copy(update={"app_slug": app_identity(settings, seconds).slug})
    except (ForgeError, SettingsError):  # the start has said what is wrong
        return settings


class Hook(Record):
    """The App's webhook as GitHub has it."""

    url: str
    last_status: int | None  # of the newest delivery: 0 where nobody answered; None where there is none


def app_hook(settings: Settings, seconds: float = 10.0, clock_off: float = 0.0) -> Hook | None:
    """The webhook; None where GitHub does not tell. Raises `SettingsError` as `app_identity`, which tells `clock_off`.

    https://docs.github.com/rest/apps/webhooks
    """
    jwt = f"Bearer {app_auth(settings, -clock_off).create_jwt()}"
    try:
        config = _ask(settings, "/app/hook/config", jwt, seconds)
        deliveries = _ask(settings, "/app/hook/deliveries?per_page=1", jwt, seconds)
        if config.status_code != 200 or deliveries.status_code != 200:
            return None
        newest = deliveries.json()[:1]
        return Hook(
            url=str(config.json().get("url") or ""), last_status=int(newest[0]["status_code"]) if newest else None
        )
    except (ForgeError, ValueError, KeyError, TypeError, AttributeError):
        return None


def token_login(settings: Settings, seconds: float = 10.0) -> str:
    """The login of `TROOP_TOKEN`'s user. Raises as `app_identity`."""
    answer = _ask(settings, "/user", f"Bearer {settings.token.get_secret_value()}", seconds)
    found = _json(answer)
    if answer.status_code == 401:
        raise SettingsError(
            f"TROOP_TOKEN: {settings.github_url} does not accept the token; it may have expired or be another GitHub's"
        )
    _check(settings, answer, found, ("login",))
    return str(found["login"])


def _ask(settings: Settings, path: str, authorization: str, seconds: float) -> requests.Response:
    headers = {"Authorization": authorization, "Accept": "application/vnd.github+json", "User-Agent": "troop"}
    try:
        # A redirect would take the credentials elsewhere.
        return requests.get(f"{settings.github_url}{path}", headers=headers, timeout=seconds, allow_redirects=False)
    except requests.exceptions.SSLError as error:
        if "CERTIFICATE" not in str(error).upper():  # no handshake at all
            raise ForgeError(
                f"{settings.github_url} does not speak TLS as this machine does; check TROOP_GITHUB_URL: does it begin "
                "with http://, or has it another port?"
            ) from error
        raise ForgeError(
            f"{settings.github_url} shows a certificate that this machine does not trust; REQUESTS_CA_BUNDLE names a "
            "file with the authority's"
        ) from error
    except requests.Timeout as error:
        raise ForgeError(f"{settings.github_url} did not answer within {seconds:.0f} s") from error
    except requests.RequestException as error:
        raise ForgeError(
            f"{settings.github_url} can't be reached ({_innermost(error)}); check the network, the proxy and "
            "TROOP_GITHUB_URL"
        ) from error


def _check(settings: Settings, answer: requests.Response, found: dict[str, Any], wanted: tuple[str, ...]) -> None:
    """Raise where the answer is not GitHub's yes."""
    url = settings.github_url
    if 300 <= answer.status_code < 400:
        raise SettingsError(
            f"TROOP_GITHUB_URL: {url} redirects elsewhere, where no credentials go; correct the address"
        )
    if answer.status_code >= 500 or answer.status_code in (403, 408, 429):
        said = str(found.get("message", ""))[:200]
        raise ForgeError(f"{url} answered {answer.status_code}{f' ({said})' if said else ''}; it may pass")
    if answer.status_code != 200 or not all(name in found for name in wanted):
        raise SettingsError(
            f"TROOP_GITHUB_URL: what answers at {url} is not GitHub's API (status {answer.status_code}); is it the "
            "right address, or does a proxy answer?"
        )


def _refused(settings: Settings, answer: requests.Response, pem: str, said: str) -> str:
    return (
        f"TROOP_APP_ID and the key do not belong together: GitHub refuses App {settings.app_id} with the key "
        f"{fingerprint(pem)} (it says: {said[:200]}); compare both with the App's settings, and make a new key there "
        "if this one is not listed"
    )


def _skew(answer: requests.Response) -> float:
    """Seconds by which our clock is ahead of the server's; 0 where it does not tell."""
    try:
        theirs = parsedate_to_datetime(answer.headers["Date"])
    except (KeyError, ValueError, TypeError):
        return 0.0
    return time.time() - theirs.timestamp() if theirs.tzinfo else 0.0


def _json(answer: requests.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _innermost(error: BaseException) -> str:
    """The last cause in words, without the object's address that urllib3 prints."""
    text = str(error)
    for mark in ("Caused by ", ": "):
        text = text.rpartition(mark)[2] or text
    return text.strip("')\" ")[:200]
