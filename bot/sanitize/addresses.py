"""Addresses of the operator's network, kept out of what is written on issues."""

import re
from urllib.parse import urlsplit

from bot.settings import Settings

HIDDEN = "(an address in the server's settings)"
_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s\"'<>`,;)\]]+", re.IGNORECASE)
_IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?::\d{1,5})?(?![\w.]*\d)")
_IPV6 = re.compile(r"\[[0-9a-f:.]*:[0-9a-f:.]*\](?::\d{1,5})?", re.IGNORECASE)


def hide_addresses(text: str, settings: Settings) -> str:
    """The text without any URL but GitHub's, without IP addresses, and without the hosts that the settings name."""
    github = {_host(settings.github_web_url), _host(settings.github_url)}

    def shown(match: re.Match[str]) -> str:
        return match[0] if _host(match[0]) in github else HIDDEN

    text = _URL.sub(shown, text)
    for host in sorted(_hosts(settings) - github, key=len, reverse=True):
        text = re.sub(rf"(?<![\w.-]){re.escape(host)}(?::\d{{1,5}})?(?![\w-]|\.\w)", HIDDEN, text, flags=re.IGNORECASE)
    for pattern in (_IPV6, _IPV4):
        text = pattern.sub(HIDDEN, text)
    return text


def _hosts(settings: Settings) -> set[str]:
    """Those of endpoints, database and queue, but for words that mean nothing by themselves."""
    urls = (settings.main.base_url, settings.relevance.base_url, settings.database_url, settings.redis_url)
    return {host for url in urls if (host := _host(url)) and ("." in host or ":" in host)} | {
        f"{host}:{port}" for url in urls if (host := _host(url)) and (port := _port(url))
    }


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".")
    except ValueError:
        return ""


def _port(url: str) -> int | None:
    try:
        return urlsplit(url).port
    except ValueError:
        return None
