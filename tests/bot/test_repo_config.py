import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.honoured import honour
from bot.records import Service
from bot.records.environment import SCRIPT
from bot.repo_config import AUTO, ConfigProblem, RepoConfig, parse
from bot.settings import SandboxSettings, Settings, SolverSettings

WHOLE = """
base = "release/1.x"

[test]
command = "pytest -q 'a b'"
timeout = 60
prepare = "bin/migrate\\nbin/seed"

[test.environment]
DATABASE_URL = "postgres://app@db/shop"

[services.postgres]
user = "app"
password = "a-b"
database = "shop"
host = "db"

[services.redis]
port = 6380

[scripts]
".rb" = "ruby -W0 {script}"
".spec.js" = "node --test {script}"

[sandbox]
image = "ruby:3.3"
setup = '''
apt-get install -y ruby
bundle install
'''

[context]
exclude = ["docs/**", "*.lock"]
read = "all"

[run]
trajectories = 5
stop = "consensus"
"""


def _config(text: str) -> RepoConfig:
    config = parse(text)
    assert isinstance(config, RepoConfig), config
    return config


def test_a_pull_request_brings_a_test_only_where_the_repository_asks_for_it() -> None:
    assert _config("[publish]\ntest = true").publish_test
    assert not _config("[publish]").publish_test
    assert not _config("[feedback]\nkeep = false").feedback
    assert _config("[feedback]").feedback
    auto, ignored = honour(_config("[run]\ntrajectories = 'auto'"), _server())
    assert (auto.trajectories, ignored) == (AUTO, ())


def test_failed_checks_are_mended_only_where_the_repository_asks_for_it() -> None:
    assert _config("[publish]\nfix_ci = true").fix_ci
    assert not _config("[publish]").fix_ci


def test_every_key() -> None:
    assert _config(WHOLE) == RepoConfig(
        base="release/1.x",
        test_command=("pytest", "-q", "a b"),
        test_timeout=60.0,
        environment={"DATABASE_URL": "postgres://app@db/shop"},
        services=(
            Service(
                kind="postgres", port=5432, user="app", password="a-b", roots="a-b", databases=("shop",), hosts=("db",)
            ),
            Service(kind="redis", port=6380),
        ),
        scripts={".rb": ("ruby", "-W0", SCRIPT), ".spec.js": ("node", "--test", SCRIPT)},
        image="ruby:3.3",
        setup="apt-get install -y ruby\nbundle install\n",
        prepare="bin/migrate\nbin/seed",
        exclude=("docs/**", "*.lock"),
        read="all",
        trajectories=5,
        stop="consensus",
    )


@pytest.mark.parametrize("text", ["", "# nothing\n", "[test]\n", "[run]\n[scripts]\n"])
def test_an_empty_file_sets_nothing(text: str) -> None:
    assert parse(text) == RepoConfig()


@pytest.mark.parametrize(
    ("line", "argv"),
    [
        ("PYTHONPATH=src pytest -q", ("env", "PYTHONPATH=src", "pytest", "-q")),
        ("A=1 B='x y' python -m pytest", ("env", "A=1", "B=x y", "python", "-m", "pytest")),
        ("env X=1 pytest", ("env", "X=1", "pytest")),
        ("pytest -k 'a or $b && c'", ("pytest", "-k", "a or $b && c")),
        (r"pytest -k a\\&b --n=1", ("pytest", "-k", "a&b", "--n=1")),
        ("sh -c 'cd x && pytest | tail'", ("sh", "-c", "cd x && pytest | tail")),
        ("pytest t.py::t[1-$]", ("pytest", "t.py::t[1-$]")),
    ],
)
def test_variables_before_a_command_are_understood(line: str, argv: tuple[str, ...]) -> None:
    assert _config(f'[test]\ncommand = "{line}"').test_command == argv


def test_variables_of_script_commands_and_a_byte_order_mark() -> None:
    config = _config("\ufeff[scripts]\n'.rb' = 'RUBYLIB=lib ruby {script}'\n")
    assert config.scripts == {".rb": ("env", "RUBYLIB=lib", "ruby", "{script}")}


@pytest.mark.parametrize(
    ("text", "key", "line", "words"),
    [
        ("[test]\ncomand = 'x'", "test.comand", 2, "allowed here: command, timeout"),
        ("[test]\ncmd = 'x'", "test.cmd", 2, "not known; did you mean command in [test]? allowed"),
        ("setup = 'x'", "setup", 1, "did you mean setup in [sandbox]?"),
        ("[Publish]\nfix_ci = true", "Publish", 1, "did you mean [publish]?"),
        ("[publish]\nfix-ci = true", "publish.fix-ci", 2, "did you mean fix_ci in [publish]?"),
        ("[solver]\nx = 1", "solver", 1, "solver is not known; allowed here"),
        ("[run]\n[run]\n", "", 2, "Cannot declare run twice"),
        ("\n[tests]\ncommand = 'x'", "tests", 2, "allowed here: base, [test], [scripts]"),
        (
            "[sandbox]\nimage = 'x'\ndocker_flags = '--privileged'",
            "sandbox.docker_flags",
            3,
            "allowed here: image, setup",
        ),
        ("engine_url = 'http://evil.example'", "engine_url", 1, "is not known"),
        ("[test\ncommand = 'x'", "", 1, "this is not TOML"),
        ("[test]\ncommand = 'x'\ncommand = 'y'", "", 3, "this is not TOML"),
        ("[test]\ntimeout = 'long'", "test.timeout", 2, "valid number"),
        ("[test]\ntimeout = 0", "test.timeout", 2, "greater than 0"),
        ("[test]\ntimeout = inf", "test.timeout", 2, "less than"),
        ("[test]\ncommand = 3", "test.command", 2, "valid string"),
        ("[test]\ncommand = ''", "test.command", 2, "is empty"),
        ("[test]\ncommand = 'a \"b'", "test.command", 2, "check its quotes"),
        (
            "[test]\ncommand = 'cd x && pytest'",
            "test.command",
            2,
            "which && needs; quote it, or put the line into sh -c",
        ),
        ("[test]\ncommand = 'pytest tests/test_*.py'", "test.command", 2, "which * needs"),
        ("[test]\ncommand = '~/bin/pytest'", "test.command", 2, "which ~ needs"),
        ("[test]\ncommand = 'pytest {a,b}'", "test.command", 2, "which {a,b} needs"),
        ("[test]\ncommand = 'pytest -q # all'", "test.command", 2, "which # needs"),
        ("[test]\ncommand = '! pytest -q'", "test.command", 2, "which ! needs"),
        ("[test]\ncommand = 'make; pytest'", "test.command", 2, "which ; needs"),
        ("[test]\ncommand = 'pytest -q 2>/dev/null'", "test.command", 2, "which > needs"),
        ("[test]\ncommand = 'PYTHONPATH=$PWD/src pytest'", "test.command", 2, "which $PWD needs"),
        ("[test]\ncommand = 'pytest -k \"$(cat names)\"'", "test.command", 2, "which $( needs"),
        ("[test]\ncommand = 'pytest `cat names`'", "test.command", 2, "which ` needs"),
        ("[test]\ncommand = 'cd sub'", "test.command", 2, "which cd needs"),
        ("[test]\ncommand = 'CI=1'", "test.command", 2, "only sets variables"),
        ('[test]\ncommand = "a\\nb"', "test.command", 2, "pattern"),
        ("test = 'pytest'", "test", 1, "must be a table"),
        ("base = 'HEAD'", "base", 1, "no branch that runs can work on"),
        ("base = '--upload-pack=x'", "base", 1, "no branch that runs can work on"),
        ("base = 'a..b'", "base", 1, "no branch that runs can work on"),
        ("base = 'troop/issue-1'", "base", 1, "no branch that runs can work on"),
        ("base = 1", "base", 1, "valid string"),
        ("[scripts]\n'.rb' = 'ruby'", 'scripts.".rb"', 2, "must contain {script}"),
        ("[scripts]\n'.rb' = 'a \"b'", 'scripts.".rb"', 2, "check its quotes"),
        ("[scripts]\nrb = 'ruby {script}'", "scripts.rb", 2, "endings look like"),
        ("[sandbox]\nimage = 'x --privileged'", "sandbox.image", 2, "not an image's name"),
        ("[sandbox]\nimage = '-v/:/x'", "sandbox.image", 2, "not an image's name"),
        ("[context]\nread = 'some'", "context.read", 2, "'listed' or 'all'"),
        ("[context]\nexclude = 'docs'", "context.exclude", 2, "valid list"),
        ("[context]\nexclude = ['a', '../b']", "context.exclude.1", 2, "relative to the repository's root"),
        ("[context]\nexclude = ['/etc']", "context.exclude.0", 2, "relative to the repository's root"),
        ("[run]\ntrajectories = 0", "run.trajectories", 2, "greater than or equal to 1"),
        ("[run]\ntrajectories = true", "run.trajectories", 2, "valid integer"),
        ("[run]\ntrajectories = 'many'", "run.trajectories", 2, "valid integer"),
        ("[run]\ntrajectories = 1.5", "run.trajectories", 2, "valid integer"),
        ("[run]\nbudget = 1000000", "run.budget", 2, "allowed here: trajectories, stop"),
        ("[run]\nstop = 'early'", "run.stop", 2, "'first-finish', 'discovery', 'consensus', 'short-m' or 'none'"),
        ("[run]\nstop = 3", "run.stop", 2, "'posterior', 'first-finish'"),
        ("[run]\ntrajectories = 'auto'\nstop = 'none'", "run.stop", 3, "without an end; name another rule"),
        ("[publish]\ntest = 1", "publish.test", 2, "valid boolean"),
        ("run.trajectories = 0", "run.trajectories", 1, "greater than or equal to 1"),
    ],
)
def test_a_problem_names_the_line_the_key_and_the_mend(text: str, key: str, line: int, words: str) -> None:
    problem = parse(text)
    assert isinstance(problem, ConfigProblem), problem
    assert (problem.key, problem.line) == (key, line)
    assert words in problem.message
    assert str(problem).startswith(f".troop.toml, line {line}: ")


def test_a_huge_file_is_a_problem() -> None:
    problem = parse("#" * 100_000)
    assert isinstance(problem, ConfigProblem)
    assert "at most 16,384" in str(problem)


@given(st.text() | st.text(alphabet="[].=\"'{}\n,#test0 command", max_size=200))
def test_any_text_gives_a_value(text: str) -> None:
    assert isinstance(parse(text), RepoConfig | ConfigProblem)


@pytest.mark.parametrize(
    "text", ["a=" + "[" * 16_000, "a." * 8_000 + "b=1", "x=" + "9" * 5000, "[" + "a." * 8_000 + "a]"]
)
def test_deep_or_huge_values_are_problems(text: str) -> None:
    assert isinstance(parse(text), ConfigProblem)


# -- attack 29: the server's word is the last ------------------------------------------------------------------


def _server(**changes: object) -> Settings:
    return Settings(_env_file=None, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ('[services.mongo]\nuser = "a"', "services.mongo"),
        ('[services]\npostgres = "15"', "services.postgres"),
        ("[services.postgres]\nport = 80", "services.postgres.port"),
        ('[services.postgres]\nuser = "a\'; drop"', "services.postgres.user"),
        ('[services.mysql]\npassword = "a\'b"', "services.mysql.password"),
        ('[services.mysql]\ndatabase = "a b"', "services.mysql.database"),
        ('[services.redis]\nhost = "a/b"', "services.redis.host"),
        ('[test.environment]\n"A-B" = "1"', "test.environment.A-B"),
        ('[test.environment]\nLD_PRELOAD = "/x.so"', "test.environment.LD_PRELOAD"),
        ('[test.environment]\nPYTHONSTARTUP = "x.py"', "test.environment.PYTHONSTARTUP"),
        ('[test.environment]\nPATH = "/x"', "test.environment.PATH"),
        ("[test.environment]\nA = 1", "test.environment.A"),
        ('[test.environment]\nA = "a\\nb"', "test.environment.A"),
    ],
)
def test_services_and_variables_that_can_not_be_are_shown_to_their_author(text: str, key: str) -> None:
    problem = parse(text)
    assert isinstance(problem, ConfigProblem)
    assert problem.key == key
    assert problem.line is not None


def test_an_empty_table_of_services_is_not_the_same_as_none() -> None:
    assert _config("[services]").services == ()
    assert _config("").services is None


def test_services_and_variables_are_the_tests_matter() -> None:
    config, ignored = honour(_config(WHOLE), _server(repository_may_set=("base",)))
    assert (config.services, config.environment) == (None, {})
    assert sum("test.environment" in why or "services is" in why for why in ignored) == 2


def test_what_the_server_allows_is_honoured() -> None:
    server = _server(sandbox=SandboxSettings(images_allowed=("ruby:3.3",)))
    config = _config(WHOLE)
    assert honour(config, server) == (config, ())


def test_attack_29_an_image_that_is_not_on_the_list_is_ignored() -> None:
    config, ignored = honour(_config("[sandbox]\nimage = 'evil.example/x'"), _server())
    assert config.image == ""
    assert ignored == ("sandbox.image evil.example/x is ignored: it is not in TROOP_SANDBOX_IMAGES_ALLOWED",)
    same = _config("[sandbox]\nimage = 'python:3.11-slim'")
    assert honour(same, _server()) == (same, ())


def test_attack_29_numbers_stay_within_the_servers() -> None:
    greedy = _config("[test]\ncommand = 'x'\ntimeout = 80000\n[run]\ntrajectories = 4000")
    config, ignored = honour(greedy, _server(solver=SolverSettings(trajectories=8, own_tests_timeout=300)))
    assert (config.test_timeout, config.trajectories) == (300.0, 8)
    assert ignored == (
        "test.timeout is 80000 s; this server allows 300 s",
        "run.trajectories is 4000; this server allows 8",
    )


def test_attack_29_a_repository_does_not_undo_the_servers_rule() -> None:
    config, ignored = honour(_config("[run]\nstop = 'none'"), _server(solver=SolverSettings(stop_at=0.8)))
    assert (config.stop, ignored) == ("", ("run.stop is none; this server stops by posterior",))
    assert honour(_config("[run]\nstop = 'none'"), _server())[0].stop == "none"
    other, ignored = honour(_config("[run]\nstop = 'short-m'"), _server(solver=SolverSettings(stop="consensus")))
    assert (other.stop, ignored) == ("short-m", ())


def test_attack_29_what_repositories_may_not_set_is_ignored_in_words() -> None:
    config, ignored = honour(_config(WHOLE), _server(repository_may_set=()))
    assert config == RepoConfig()
    assert [words.partition(" ")[0] for words in ignored] == [
        "base",
        "test.command",
        "test.timeout",
        "test.environment",
        "test.prepare",
        "services",
        "scripts",
        "context.exclude",
        "context.read",
        "sandbox.setup",
        "sandbox.image",
        "run.trajectories",
        "run.stop",
    ]
    assert all(re.search("TROOP_[A-Z_]+", words) for words in ignored)


@pytest.mark.parametrize("kept", ["base", "test", "scripts", "context", "trajectories", "setup"])
def test_attack_29_each_permission_is_its_own(kept: str) -> None:
    config, _ = honour(_config(WHOLE), _server(repository_may_set=(kept,)))
    left = {name for name in RepoConfig.model_fields if getattr(config, name) != getattr(RepoConfig(), name)}
    assert (
        left
        == {
            "base": {"base"},
            "test": {"test_command", "test_timeout", "environment", "prepare", "services"},
            "scripts": {"scripts"},
            "context": {"exclude", "read"},
            "trajectories": {"trajectories", "stop"},
            "setup": {"setup"},
        }[kept]
    )


def test_nothing_set_is_nothing_ignored() -> None:
    assert honour(RepoConfig(), _server(repository_may_set=())) == (RepoConfig(), ())
