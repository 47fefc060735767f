"""GitHub's two addresses, the API's and the website's. They belong together: one is derived from the other.

Tokens go to both, to the API in requests and to the website with git. Two that do not belong together would send one
GitHub's token to another host, so they are refused.

https://docs.github.com/enterprise-server/rest/quickstart and .../enterprise-cloud/rest (data residency, ghe.com)
"""

from typing import NamedTuple
from urllib.parse import SplitResult, urlsplit

from bot.settings.credentials import masked_address

API_NAME, WEB_NAME = "TROOP_GITHUB_URL", "TROOP_GITHUB_WEB_URL"
_SERVER_API = "/api/v3"  # below a GitHub Enterprise Server
_CLOUD, _CLOUD_API = "github.com", "api.github.com"
# GitHub Enterprise Cloud with data residency: SUBDOMAIN.ghe.com, and its API api.SUBDOMAIN.ghe.com
_RESIDENCY = ".ghe.com"
_PORTS = {"http": 80, "https": 443}


class Addresses(NamedTuple):
    """Without a slash at the end, host in lower case, the scheme's own port left out."""

    api: str
    web: str


def github_addresses(api: str = "", web: str = "") -> Addresses:
    """Both addresses; an empty one is derived from the other, and both empty are github.com's.

    Raises `ValueError`, whose message names the variable and what to set, where an address can't be GitHub's, or
    where the two do not belong together.
    """
    if not api and not web:
        return Addresses(f"https://{_CLOUD_API}", f"https://{_CLOUD}")
    if not web:
        return _of_api(api)
    found = _of_web(web)
    if api and _of_api(api) != found:
        raise ValueError(
            f"{API_NAME}={api} and {WEB_NAME}={web} do not belong together, and tokens would go to both; the API of "
            f"{found.web} is {found.api}: set {API_NAME} alone"
        )
    return found


def _of_api(text: str) -> Addresses:
    base, path = _plain(text, API_NAME)
    host = base.hostname or ""
    if _is_below(host, _CLOUD):
        if host == _CLOUD_API and base.scheme == "https" and not path and base.port is None:
            return Addresses(f"https://{_CLOUD_API}", f"https://{_CLOUD}")
        raise ValueError(f"{API_NAME}={text} is not the API of GitHub: set https://{_CLOUD_API}")
    if host.endswith(_RESIDENCY):
        name = host.removeprefix("api.")
        if host == name or base.scheme != "https" or path or base.port is not None:
            raise ValueError(f"{API_NAME}={text} is not the API of {name}: set https://api.{name}")
        return Addresses(f"https://{host}", f"https://{name}")
    root = f"{base.scheme}://{base.netloc}"
    if path != _SERVER_API:
        raise ValueError(f"{API_NAME}={text} is not the API of a GitHub Enterprise Server: set {root}{_SERVER_API}")
    return Addresses(f"{root}{_SERVER_API}", root)


def _of_web(text: str) -> Addresses:
    base, path = _plain(text, WEB_NAME)
    host = base.hostname or ""
    if _is_below(host, _CLOUD):
        if host == _CLOUD and base.scheme == "https" and not path and base.port is None:
            return Addresses(f"https://{_CLOUD_API}", f"https://{_CLOUD}")
        raise ValueError(f"{WEB_NAME}={text} is not the website of GitHub: set https://{_CLOUD}")
    if host.endswith(_RESIDENCY):
        if host.startswith("api.") or base.scheme != "https" or path or base.port is not None:
            raise ValueError(f"{WEB_NAME}={text} is not a website of GitHub: set https://{host.removeprefix('api.')}")
        return Addresses(f"https://api.{host}", f"https://{host}")
    root = f"{base.scheme}://{base.netloc}"
    if path:
        raise ValueError(f"{WEB_NAME}={text} is not the address of a website alone: set {root}, or {API_NAME} alone")
    return Addresses(f"{root}{_SERVER_API}", root)


def _plain(text: str, name: str) -> tuple[SplitResult, str]:
    """The address taken apart, and its path without a slash at the end. Raises `ValueError`."""
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ValueError(f"{name} is not a web address, such as https://HOST{_SERVER_API}") from None
    if "@" in text:  # not repeated: it may hold a password
        raise ValueError(f"{name} holds a name or a password, which can't be used there: set it without")
    if parts.scheme not in _PORTS or not parts.hostname or parts.hostname.endswith("."):
        raise ValueError(f"{name}={masked_address(text)} is not a web address, such as https://HOST{_SERVER_API}")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise ValueError(f"{name} must be a plain address, without what begins with ? or #")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return SplitResult(parts.scheme, netloc, "", "", ""), parts.path.rstrip("/")


def _is_below(host: str, domain: str) -> bool:
    return host == domain or host.endswith(f".{domain}")
