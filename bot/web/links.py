"""Which addresses a page may link to."""

from urllib.parse import urlsplit

from bot.settings import Settings


def link(url: str | None, settings: Settings) -> str | None:
    """The URL if a page may link to it: http or https, on GitHub's own host."""
    if url is None or urlsplit(url).scheme not in ("http", "https"):
        return None
    return url if urlsplit(url).netloc == urlsplit(settings.github_web_url).netloc else None
