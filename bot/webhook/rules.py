"""The operator's settings that decide about deliveries, and what is refused by them. Pure."""

import fnmatch
from typing import TypedDict

from bot.records import Record, Trigger
from bot.settings import Settings
from bot.webhook.decisions import Ignore
from bot.webhook.payloads import Event, User


class Rules(Record):
    """The operator's settings that decide about deliveries."""

    label: str = "troop"
    repositories: tuple[str, ...] = ()  # owner/name patterns; empty: all
    app_id: int = 0  # 0: a token is used instead of an App
    own_login: str = ""  # whose events are ignored as our own; empty: only comments with our marker are
    triggers: frozenset[Trigger] = frozenset(Trigger)  # what starts a run
    bots: tuple[str, ...] = ()  # logins of bots that are heard as people are, ours never

    @classmethod
    def of(cls, settings: Settings) -> "Rules":
        return cls(
            label=settings.label,
            repositories=settings.repositories,
            app_id=settings.app_id,
            own_login=settings.own_login(as_app=bool(settings.app_id)),
            triggers=frozenset(settings.triggers),
            bots=settings.bots_allowed,
        )

    def allows(self, repository: str) -> bool:
        """Whether the repository is on the allow-list. Case is ignored, as on GitHub."""
        name = repository.lower()
        return not self.repositories or any(fnmatch.fnmatchcase(name, p.lower()) for p in self.repositories)


def refuse_source(event: Event, rules: Rules) -> Ignore | None:
    """Why an event's repository or installation is not heard; None where it is."""
    if not rules.allows(event.repository.full_name):
        return Ignore(reason=f"{event.repository.full_name} is not in TROOP_REPOSITORIES")
    if event.repository.archived:
        return Ignore(reason=f"{event.repository.full_name} is archived")
    if event.installation is not None and event.installation.suspended_at is not None:
        return Ignore(reason=f"installation {event.installation.id} is suspended")
    if rules.app_id and event.installation is None:
        return Ignore(
            reason="the payload has no installation: it comes from a repository's webhook, not from the App's; "
            "set the webhook in the App's settings, or use TROOP_TOKEN instead of TROOP_APP_ID"
        )
    return None


def refuse_sender(user: User, rules: Rules) -> Ignore | None:
    """Why nothing that this user does is heard: ourselves, or a bot that is not listed; None where it is."""
    if is_ours(user, rules):
        return Ignore(reason="our own event")
    listed = any(same(user.login, bot) for bot in rules.bots)
    if not listed and (user.type == "Bot" or user.login.endswith("[bot]")):
        return Ignore(reason=f"{user.login} is a bot")
    return None


def is_ours(user: User, rules: Rules) -> bool:
    """Whether it is the user that we act as."""
    return bool(rules.own_login) and same(user.login, rules.own_login)


def same(one: str, other: str) -> bool:
    """Whether two logins are one user's: GitHub ignores their case."""
    return one.casefold() == other.casefold()


class Origin(TypedDict):
    """What decisions take over from any event."""

    repository: str
    repository_id: int | None
    installation_id: int | None
    sender: str


def origin(event: Event, rules: Rules) -> Origin:
    """What decisions take over of this event."""
    return {
        "repository": event.repository.full_name,
        "repository_id": event.repository.id,
        "installation_id": event.installation.id if rules.app_id and event.installation else None,
        "sender": event.sender.login,
    }
