"""What the repository's files and the operator's settings say of the image together."""

from pathlib import Path

import pytest

from bot.records import Checkout
from bot.repo_config import RepoConfig
from bot.settings import SandboxSettings, Settings
from bot.solver.project import build_recipe, own_test_commands

SETUP = RepoConfig(setup="make deps")


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    (tmp_path / "go.mod").write_text("module x\n\nrequire y v1.0.0\n")
    (tmp_path / "devcontainer.json").write_text('{"image": "golang:1.23"}')
    return Checkout(root=str(tmp_path), workspace="", commit="", files=("devcontainer.json", "go.mod", "main.go"))


def settings(build: str = "auto", may: tuple[str, ...] = ("setup",), *allowed: str) -> Settings:
    sandbox = SandboxSettings.model_validate({"build": build, "images_allowed": allowed})
    return Settings.model_validate({"sandbox": sandbox, "repository_may_set": may})


def test_the_operator_says_what_is_built(checkout: Checkout) -> None:
    automatic = build_recipe(checkout, RepoConfig(), settings())
    assert automatic.found == "Go (go.mod)"
    assert automatic.image == ""
    assert build_recipe(checkout, RepoConfig(), settings("auto", ("setup",), "golang:1.23")).image == "golang:1.23"
    assert build_recipe(checkout, SETUP, settings("setup")).found == "`setup` in .troop.toml"
    assert build_recipe(checkout, RepoConfig(), settings("setup")).layers == ()
    for refused in (settings("never"), settings("auto", ())):
        found = build_recipe(checkout, SETUP, refused)
        assert found.layers == ()
        assert "sandbox.setup is ignored" in found.notes[0]


def test_a_setup_of_the_operators_stands_in_for_manifests_and_not_for_the_repositorys_own(checkout: Checkout) -> None:
    def given(build: str = "auto", may: tuple[str, ...] = ("setup",)) -> Settings:
        known = settings(build, may)
        return known.model_copy(update={"sandbox": known.sandbox.model_copy(update={"setup": "make all"})})

    for there in (given(), given("setup"), given("auto", ())):
        found = build_recipe(checkout, RepoConfig(image="golang:1"), there)
        assert (found.found, found.setup, found.image) == ("`setup` in TROOP_SANDBOX_SETUP", "make all", "golang:1")
        assert [layer.source for layer in found.layers] == ["TROOP_SANDBOX_SETUP"]
    assert build_recipe(checkout, SETUP, given()).setup == "make deps"
    assert build_recipe(checkout, RepoConfig(), given("never")).layers == ()


def test_commands_of_the_recipe_come_after_those_that_the_files_suggest(checkout: Checkout) -> None:
    suggested = build_recipe(checkout, RepoConfig(), settings())
    assert own_test_commands(checkout, RepoConfig(), suggested)[-1] == ("go", "test", "./...")
    assert own_test_commands(checkout, RepoConfig(test_command=("make", "check")), suggested) == (("make", "check"),)
