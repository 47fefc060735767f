"""What the App has to be granted, and what of it is not."""

from collections.abc import Mapping

from bot.errors import Refused

# What each step's token asks for; see `bot.forge.issue_tracker` and `bot.forge.repository_host`.
PERMISSIONS = {"metadata": "read", "contents": "write", "issues": "write", "pull_requests": "write"}
# For our own check run, and for what a repository may ask for besides: an App that lacks them works without.
CHECK_PERMISSIONS = {"checks": "write", "statuses": "read", "actions": "read"}
_LEVELS = ("none", "read", "write", "admin")


def lacking(granted: Mapping[str, str], wanted: Mapping[str, str]) -> tuple[str, ...]:
    """`contents: write` for each that is wanted and not granted. Pure."""
    missing = []
    for name, level in wanted.items():
        has = granted.get(name, "none")
        if has not in _LEVELS or _LEVELS.index(has) < _LEVELS.index(level):
            missing.append(f"{name}: {level}")
    return tuple(missing)


def ungranted(repository: str, missing: tuple[str, ...]) -> Refused:
    """The App, or this installation of it, was not granted what a step needs."""
    return Refused(
        f"the App lacks {', '.join(missing)} on {repository}; grant it in the App's settings, under Permissions, and "
        "have the account's owner accept it"
    )
