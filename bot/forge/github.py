"""GitHub as a `Forge`: repository host and issue tracker over one connection."""

from collections.abc import Sequence

from bot.forge.api import GitHubApi
from bot.forge.issue_tracker import GitHubTracker
from bot.forge.repository_host import GitHubHost
from bot.git.commit import Author
from bot.settings import Settings


class GitHubForge(GitHubHost, GitHubTracker):
    """One installation (or the operator's token). Idempotent; see `bot.contracts.Forge`."""

    def __init__(
        self,
        settings: Settings,
        installation_id: int | None,
        api: GitHubApi | None = None,
        *,
        secrets: Sequence[str] | None = None,
    ) -> None:
        """`secrets`: what nothing that is written may hold; None: all that the settings hold."""
        api = api or GitHubApi(settings, installation_id)
        login = settings.own_login(as_app=installation_id is not None)
        secrets = settings.secrets() if secrets is None else secrets
        GitHubHost.__init__(self, settings, api, author_of(settings, login), secrets)
        GitHubTracker.__init__(self, api, login, secrets)


def author_of(settings: Settings, login: str) -> Author:
    """Whom commits are by: the App's bot user, as GitHub shows it, or the token's user."""
    name = login or settings.app_slug
    prefix = f"{settings.app_id}+" if name.endswith("[bot]") else ""
    return Author(name=name, email=f"{prefix}{name}@users.noreply.github.com")
