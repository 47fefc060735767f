"""What the repository's own files say of how it is solved, built and tested."""

import codecs
from collections.abc import Callable, Sequence
from pathlib import Path

from bot import recipe
from bot.honoured import honour
from bot.patch.policy import judge
from bot.patch.protected_files import touched_judges
from bot.patch.reader import text_of
from bot.patch.test_programs import programs
from bot.recipe import NO_RECIPE, Recipe
from bot.recipe.declared import Declared, declared
from bot.recipe.services import with_services
from bot.records import Checkout, FileChange, Patch, TestConfig
from bot.repo_config import FILE_NAME, ConfigProblem, RepoConfig, parse
from bot.settings import Settings
from bot.solver.test_runners import detect

_MOST = 1_000_000  # bytes of a file that are read


def read_config(checkout: Checkout, settings: Settings) -> tuple[RepoConfig, tuple[str, ...]]:
    """The repository's own config as far as the server honours it, and what is wrong with it or ignored, in words."""
    text = config_text(checkout)
    if text is None:
        linked = (Path(checkout.root) / FILE_NAME).is_symlink()
        return RepoConfig(), ((f"{FILE_NAME} is a symbolic link, which is not read; make it a file",) if linked else ())
    config = parse(text)
    if isinstance(config, ConfigProblem):
        return RepoConfig(), (str(config),)
    return honour(config, settings)


def config_of_tests(config: RepoConfig) -> TestConfig:
    """What of the config decides how tests are run."""
    return TestConfig(
        command=config.test_command,
        timeout=config.test_timeout,
        scripts=config.scripts,
        image=config.image,
        setup=config.setup,
        services=config.services,
        prepare=config.prepare,
        environment=config.environment,
    )


def with_tests(config: RepoConfig, tests: TestConfig) -> RepoConfig:
    """The config with another's tests."""
    return config.model_copy(
        update={
            "test_command": tests.command,
            "test_timeout": tests.timeout,
            "scripts": tests.scripts,
            "image": tests.image,
            "setup": tests.setup,
            "services": tests.services,
            "prepare": tests.prepare,
            "environment": tests.environment,
        }
    )


def config_text(checkout: Checkout) -> str | None:
    """The text of its `.troop.toml`; None where there is none."""
    path = Path(checkout.root) / FILE_NAME
    return _beginning(path) if path.is_file() and not path.is_symlink() else None


def take_config(root: Path, changes: Sequence[FileChange]) -> None:
    """Put the base commit's `.troop.toml` in place of a branch's. `changes`: what turns the branch into that commit."""
    for change in changes:
        if change.path == FILE_NAME:
            (root / FILE_NAME).unlink(missing_ok=True)
            if change.content is not None:
                (root / FILE_NAME).write_bytes(change.content)


def disqualifying(checkout: Checkout, commands: Sequence[Sequence[str]]) -> Callable[[Sequence[FileChange]], str]:
    """Says why a patch with these changes may not win; "" where it may. `commands`: that run the tests."""
    known, read = frozenset(checkout.files), text_of(Path(checkout.root))
    judged = programs(commands, read)

    def why(changes: Sequence[FileChange]) -> str:
        if touched := touched_judges(changes, known.__contains__, read, judged):
            return touched
        elsewhere = [f"{one.path} {found}" for one in changes if (found := checkout.elsewhere(one.path))]
        return "; ".join(elsewhere or judge(Patch(changes=tuple(changes), diff="")).refused)

    return why


def build_recipe(checkout: Checkout, config: RepoConfig, settings: Settings) -> Recipe:
    """How the image for the repository's tests is built, as far as the server builds any, and what runs beside tests.

    Where repositories may not set `setup`, their manifests decide nothing either: those can run commands as well. What
    the operator sets stands in for them.
    """
    build = settings.sandbox.build if "setup" in settings.repository_may_set else "never"
    installs = build == "auto" or (build == "setup" and config.services is not None)
    found = _built(checkout, config, settings, build)
    return with_services(found, checkout.files, _reader(checkout), config, installs=installs)


def _built(checkout: Checkout, config: RepoConfig, settings: Settings, build: str) -> Recipe:
    allowed = (settings.sandbox.image, *settings.sandbox.images_allowed)
    if settings.sandbox.setup and settings.sandbox.build != "never" and not config.setup:
        found = recipe.of_setup(settings.sandbox.setup, "TROOP_SANDBOX_SETUP")
        return found.model_copy(update={"image": config.image})
    if build == "auto" or (build == "setup" and config.setup):
        return recipe.detect(checkout.files, _reader(checkout), config, may_use=allowed.__contains__)
    notes = ("sandbox.setup is ignored: this server builds no images (TROOP_SANDBOX_BUILD)",) if config.setup else ()
    return Recipe(image=config.image, notes=notes)


def own_test_commands(
    checkout: Checkout, config: RepoConfig, suggested: Recipe = NO_RECIPE
) -> tuple[tuple[str, ...], ...]:
    """The commands that may run the repository's own tests: its config's, else those that its files suggest."""
    if config.test_command:
        return (config.test_command,)
    return tuple(dict.fromkeys((*detect(checkout.files, _reader(checkout)), *suggested.tests)))


def _reader(checkout: Checkout) -> Callable[[str], str | None]:
    def read(path: str) -> str | None:
        try:
            return _beginning(Path(checkout.root) / path)
        except OSError:
            return None

    return read


def declared_by(checkout: Checkout) -> Declared:
    """What the checkout's manifests declare."""
    return declared(checkout.files, _reader(checkout))


def _beginning(path: Path) -> str:
    """The text of a file of any size, cut to what a config or a build file needs at most; without a byte-order mark."""
    with path.open("rb") as file:
        data = file.read(_MOST)
    wide = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # as some editors of Windows save
    return data.decode("utf-16" if wide else "utf-8-sig", errors="replace").replace("\r\n", "\n")
