"""The App by GitHub's manifest flow: what it asks for, its secrets for a code, and whether its webhook arrives. Blocks.

https://docs.github.com/apps/sharing-github-apps/registering-a-github-app-from-a-manifest
"""

import re
import time
from typing import Any
from urllib.parse import quote, urlsplit

import requests
from github import Auth
from pydantic import SecretStr

from bot.errors import ForgeError
from bot.forge.identity import EVENTS
from bot.forge.permissions import CHECK_PERMISSIONS, PERMISSIONS
from bot.records import Record
from bot.settings import Settings

NAME_LIMIT = 34  # characters of an App's name
_TIMEOUT = 30  # seconds a request
_CODE = re.compile(r"[A-Za-z0-9_-]{1,200}")
_ORGANIZATION = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,38})")


class NewApp(Record):
    """What GitHub tells once, when the App is made. The secrets are never printed."""

    id: int
    slug: str
    url: str
    private_key: SecretStr
    webhook_secret: SecretStr
    client_id: str
    client_secret: SecretStr


def manifest(settings: Settings, redirect_url: str) -> dict[str, Any]:
    """What the App is: exactly the permissions and events that Troop uses."""
    host = urlsplit(settings.public_url).hostname or "server"
    return {
        "name": f"Troop on {host}"[:NAME_LIMIT].rstrip(".- "),
        "description": "Turns a labelled issue into a pull request by sampling many fixes and letting tests vote.",
        "url": settings.public_url,
        "hook_attributes": {"url": f"{settings.public_url}/webhook", "active": True},
        "redirect_url": redirect_url,
        "callback_urls": [settings.pages.callback],
        "public": False,
        "default_permissions": PERMISSIONS | CHECK_PERMISSIONS,
        "default_events": list(EVENTS),
    }


def creation_url(settings: Settings, organization: str, state: str) -> str:
    """Where the manifest is posted. Raises `ForgeError` for what can't be an organization."""
    if organization and not _ORGANIZATION.fullmatch(organization):
        raise ForgeError(
            f"{organization[:100]!r} is not the name of an organization; leave it empty for your own account"
        )
    of = f"/organizations/{organization}" if organization else ""
    return f"{settings.github_web_url}{of}/settings/apps/new?state={quote(state)}"


def convert(settings: Settings, code: str) -> NewApp:
    """The App for GitHub's code, which works once and for an hour. Raises `ForgeError`."""
    if not _CODE.fullmatch(code):
        raise ForgeError("GitHub's code is missing or garbled; begin again")
    url = f"{settings.github_url}/app-manifests/{code}/conversions"
    try:
        answer = requests.post(url, headers=_HEADERS, timeout=_TIMEOUT, allow_redirects=False)
        found = answer.json()
    except (requests.RequestException, ValueError) as error:
        raise ForgeError(f"{settings.github_url} can't be reached ({type(error).__name__}); try again") from error
    if answer.status_code == 404:
        raise ForgeError("GitHub does not know the code any more: it works once, and for an hour; begin again")
    if answer.status_code != 201:
        raise ForgeError(f"GitHub answered {answer.status_code}; begin again")
    try:
        return NewApp(
            id=found["id"],
            slug=found["slug"],
            url=found["html_url"],
            private_key=found["pem"],
            webhook_secret=found["webhook_secret"],
            client_id=found["client_id"],
            client_secret=found["client_secret"],
        )
    except (KeyError, TypeError, ValueError):
        raise ForgeError("GitHub's answer lacks what makes an App; begin again") from None


def ping_again(settings: Settings, app: NewApp, *, patience: float = 15.0, pause: float = 0.5) -> str:
    """Ask GitHub to deliver the App's first ping again, now that the secret is known; "" once it arrived.

    Otherwise what went wrong. https://docs.github.com/rest/apps/webhooks
    """
    token = Auth.AppAuth(app.id, app.private_key.get_secret_value()).create_jwt()
    headers = _HEADERS | {"Authorization": f"Bearer {token}"}
    deliveries = f"{settings.github_url}/app/hook/deliveries"
    until = time.monotonic() + patience
    asked, status = "", 0
    try:
        while time.monotonic() < until:
            answer = requests.get(deliveries, headers=headers, timeout=_TIMEOUT, allow_redirects=False)
            answer.raise_for_status()
            pings = [one for one in answer.json() if one["event"] == "ping"]
            if asked and (again := [one for one in pings if one["redelivery"] and one["status_code"]]):
                status = again[0]["status_code"]
                return "" if 200 <= status < 300 else _failed(settings, status)
            if pings and not asked:
                asked = str(pings[0]["id"])
                attempt = f"{deliveries}/{asked}/attempts"
                requests.post(attempt, headers=headers, timeout=_TIMEOUT, allow_redirects=False).raise_for_status()
            time.sleep(pause)
    except (requests.RequestException, ValueError, KeyError, TypeError, IndexError) as error:
        return f"GitHub could not be asked ({type(error).__name__})"
    return _failed(settings, status) if asked else "GitHub has sent no ping yet"


def _failed(settings: Settings, status: int) -> str:
    how = f"got the answer {status}" if status else "got no answer"
    return f"GitHub {how} at {settings.public_url}/webhook; does TROOP_PUBLIC_URL lead here from where GitHub is?"


_HEADERS = {"Accept": "application/vnd.github+json", "User-Agent": "troop"}
