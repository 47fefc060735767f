"""The user's own git configuration, for git commands on a checkout of theirs: `bot.git.command` reads none."""

import asyncio
import os
import re
from pathlib import Path

from bot.git.command import git
from bot.scratch import scratch_folder

_BY_ENVIRONMENT = re.compile(
    r"GIT_CONFIG_(COUNT|PARAMETERS|(KEY|VALUE)_\d+)"
)  # configuration, as `git -c` passes it on


def users_configuration(folder: Path) -> dict[str, str]:
    """The environment by which git reads what the user has set for all repositories. Writes a file into `folder`."""
    home = Path(os.environ.get("HOME") or "/nonexistent")
    own = os.environ.get("GIT_CONFIG_GLOBAL")
    places = [Path(own)] if own else [config_home() / "git" / "config", home / ".gitconfig"]
    merged = folder / "users.gitconfig"
    text = "".join(f"[include]\n\tpath = {_quoted(str(place))}\n" for place in places if place.is_file())
    merged.write_bytes(os.fsencode(text))
    passed = {name: value for name, value in os.environ.items() if _BY_ENVIRONMENT.fullmatch(name)}
    return passed | {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(config_home()),
        "GIT_CONFIG_GLOBAL": str(merged),
        "GIT_CONFIG_NOSYSTEM": "0",
        "GIT_ATTR_NOSYSTEM": "0",
    }


async def trusted_folders() -> tuple[str, ...]:
    """The user's `safe.directory` as settings of a command: repositories of other users that they have git read.

    In a container the mounted checkout is one.
    """
    async with scratch_folder() as scratch:
        users = await asyncio.to_thread(users_configuration, scratch)
        # The second is always set, by us: where nothing is found, git fails.
        listed = await git(
            "config", "-z", "--get-regexp", r"^(safe\.directory|core\.hookspath)$", cwd=scratch, env=users
        )
    pairs = (os.fsdecode(entry).partition("\n") for entry in listed.split(b"\0"))
    return tuple(f"{name}={value}" for name, _, value in pairs if name == "safe.directory")


def config_home() -> Path:
    """Where the user's programs keep their configuration."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path(os.environ.get("HOME") or "/nonexistent") / ".config")


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
