"""What of a repository's config the server's settings honour."""

from bot.repo_config import RepoConfig
from bot.settings import Settings


def honour(config: RepoConfig, settings: Settings) -> tuple[RepoConfig, tuple[str, ...]]:
    """The part of the config that the server's settings allow, and messages about what is ignored.

    `repository_may_set` names the keys: base, test, scripts, context, trajectories (and the rule that stops them),
    setup. An image must be one of `sandbox.images_allowed`, and numbers stay within the server's own.
    """
    may = frozenset(settings.repository_may_set)
    ignored: list[str] = []
    change: dict[str, object] = {}

    def drop(field: str, empty: object, why: str) -> None:
        change[field] = empty
        ignored.append(why)

    def forbidden(key: str, name: str) -> str:
        return (
            f"{key} is ignored: this server doesn't let repositories set it ({name} is not in TROOP_REPOSITORY_MAY_SET)"
        )

    if config.base and "base" not in may:
        drop("base", "", forbidden("base", "base"))
    if "test" not in may:
        if config.test_command:
            drop("test_command", (), forbidden("test.command", "test"))
        if config.test_timeout is not None:
            drop("test_timeout", None, forbidden("test.timeout", "test"))
        if config.environment:
            drop("environment", {}, forbidden("test.environment", "test"))
        if config.prepare:
            drop("prepare", None, forbidden("test.prepare", "test"))
        if config.services:
            drop("services", None, forbidden("services", "test"))
    elif config.test_timeout is not None and config.test_timeout > settings.solver.own_tests_timeout:
        most = settings.solver.own_tests_timeout
        drop("test_timeout", most, f"test.timeout is {config.test_timeout:g} s; this server allows {most:g} s")
    if config.scripts and "scripts" not in may:
        drop("scripts", {}, forbidden("scripts", "scripts"))
    if config.exclude and "context" not in may:
        drop("exclude", (), forbidden("context.exclude", "context"))
    if config.read and "context" not in may:
        drop("read", "", forbidden("context.read", "context"))
    if config.setup and "setup" not in may:
        drop("setup", "", forbidden("sandbox.setup", "setup"))
    if config.image and config.image not in (settings.sandbox.image, *settings.sandbox.images_allowed):
        drop("image", "", f"sandbox.image {config.image} is ignored: it is not in TROOP_SANDBOX_IMAGES_ALLOWED")
    if config.trajectories is not None:
        if "trajectories" not in may:
            drop("trajectories", None, forbidden("run.trajectories", "trajectories"))
        elif config.trajectories > settings.solver.trajectories:
            most = settings.solver.trajectories
            drop("trajectories", most, f"run.trajectories is {config.trajectories}; this server allows {most}")
    if config.stop:
        if "trajectories" not in may:
            drop("stop", "", forbidden("run.stop", "trajectories"))
        elif config.stop == "none" and settings.solver.stop_rule() != "none":
            drop("stop", "", f"run.stop is none; this server stops by {settings.solver.stop_rule()}")
    return config.model_copy(update=change), tuple(ignored)
