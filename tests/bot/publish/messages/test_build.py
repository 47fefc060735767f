"""What an issue is told of an image that can't be built."""

import re
import tomllib

from bot.errors import BuildFailed
from bot.publish.messages.build import build_failed, setup_lines, told_at_console
from bot.repo_config import RepoConfig, parse
from tests.bot.publish.messages.test_messages import EVIL
from tests.github.markdown import render

SETUP = """python3 -m pip install -e '.[test]' && echo "a\\b"\nmake x"""


def test_the_cause_the_log_and_the_exact_line() -> None:
    failure = BuildFailed(
        "the repository's dependencies (pyproject.toml) can't be installed",
        why="a C compiler is missing in the image",
        log="building wheel\nerror: command 'gcc' failed",
        setup=SETUP,
    )
    body = build_failed(failure)
    assert "can't be built. The repository's dependencies (pyproject.toml) can't be installed." in body
    assert "a C compiler is missing in the image." in body
    assert "```text\nbuilding wheel\nerror: command 'gcc' failed\n```" in body
    found = re.search(r"```toml\n(.*?)\n```", body, re.DOTALL)
    assert found is not None
    assert tomllib.loads(found[1]) == {"sandbox": {"setup": SETUP}}
    config = parse(found[1])
    assert isinstance(config, RepoConfig), "what is said can be written into .troop.toml"
    assert config.setup == SETUP
    assert str(failure) == f"{failure.what}: {failure.why}"
    assert setup_lines(SETUP) in told_at_console(failure)
    assert failure.log in told_at_console(failure)


def test_a_missing_toolchain_names_an_image_and_who_allows_it() -> None:
    body = build_failed(BuildFailed("x", why="the image plain:1 has no `go`", setup="apt", image="golang:1"))
    assert 'image = "golang:1"' in body
    assert "TROOP_SANDBOX_IMAGES_ALLOWED" in body


def test_where_only_an_image_helps_no_line_is_given_that_has_failed() -> None:
    failure = BuildFailed("x", why="package.json asks for Node >=20, and 18.19.0 is there", image="node:20")
    body = build_failed(failure)
    assert 'Name an image that has it, as `image = "node:20"` below `[sandbox]` in `.troop.toml`' in body
    assert "Correct `setup`" not in body
    assert "To try in" not in body
    assert '--image node:20, or in .troop.toml `image = "node:20"`' in told_at_console(failure)
    assert "--image" not in told_at_console(BuildFailed("x", setup="apt"))


def test_a_setup_command_of_its_own_is_to_be_corrected() -> None:
    body = build_failed(BuildFailed("the repository's `setup` command failed with exit code 1", log="no"))
    assert "Correct `setup` in `.troop.toml`" in body
    assert 'setup = "true"' in body


def test_what_a_build_prints_has_no_effect() -> None:
    quiet = build_failed(BuildFailed("x", why="why", log="log", setup="setup", image="image"))
    body = build_failed(BuildFailed("x", why="why", log=EVIL * 20, setup=EVIL.replace("\n", " "), image="image"))
    for tag in ("<a ", "<img", "<script", "</details"):
        assert render(body).count(tag) == render(quiet).count(tag)
