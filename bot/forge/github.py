"""GitHub as a `Forge`: repository host and issue tracker over one connection."""

from collections.abc import Sequence

from bot.forge.api import GitHubApi
from bot.forge.branch_rules import GitHubBranchRules
from bot.forge.check_runs import GitHubCheckRuns
from bot.forge.checks import GitHubChecks
from bot.forge.issue_tracker import GitHubTracker
from bot.forge.publishable import GitHubPublishable
from bot.forge.repository_host import GitHubHost
from bot.forge.reviews import GitHubReviews
from bot.git.commit import Author
from bot.settings import Settings


class GitHubForge(
    GitHubHost,
    GitHubTracker,
    GitHubReviews,
    GitHubBranchRules,
    GitHubPublishable,
    GitHubChecks,
    GitHubCheckRuns,
):
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
        secrets = settings.secrets() if secrets is None else secrets
        # An App's login comes from GitHub, which knows it; what is set may be wrong.
        login = "" if installation_id is not None else settings.token_login

        async def author(repository: str) -> Author:
            if installation_id is None:
                return author_of(login)
            own = await self.own_login()
            return author_of(own, await api.act("own user", lambda: api.user_id(repository, own)))

        GitHubHost.__init__(self, settings, api, author, secrets)
        GitHubTracker.__init__(self, api, login, secrets, settings.bots_allowed)
        GitHubReviews.__init__(self, api, self.own_login, secrets)
        GitHubBranchRules.__init__(self, api, author)
        GitHubPublishable.__init__(self, api)
        GitHubChecks.__init__(self, settings, api)
        GitHubCheckRuns.__init__(self, api, settings.app_id, secrets)


def author_of(login: str, user: int | None = None) -> Author:
    """Whom commits are by: the token's user, or the App's bot user, whom GitHub shows by the `user`'s number in the
    address (not the App's)."""
    name = login or "troop"
    prefix = "" if user is None else f"{user}+"
    return Author(name=name, email=f"{prefix}{name}@users.noreply.github.com")
