"""The onboarding pull request: a config that can be read, and words that are harmless whatever a repository says."""

import tomllib

import pytest

from bot.publish.messages.onboarding import Proposal, body, config_text, opened
from bot.records import Ending, Execution, NotCompared, OwnTests, OwnTestsReport
from bot.repo_config import RepoConfig, parse
from bot.sanitize import outgoing
from tests.bot.publish.messages.test_messages import EVIL
from tests.github.markdown import render


def ran(
    code: int, failures: tuple[str, ...] | None = None, *, count: int | None = None, stopped: bool = False
) -> OwnTestsReport:
    ending = Ending.TIMED_OUT if stopped else Ending.EXITED
    base = OwnTests(execution=Execution(ending=ending, exit_code=code, seconds=33.2), failures=failures, count=count)
    return OwnTestsReport(command=("env", "A=it's", "pytest", "-q"), base=base)


@pytest.mark.parametrize("setup", ["", 'a "b" \\ c && d', "x\ny", "é\t'"])
def test_each_proposal_is_a_config_and_so_is_what_it_suggests(setup: str) -> None:
    text = config_text(Proposal(setup=setup, tests=ran(0)))
    config = parse(text)
    assert isinstance(config, RepoConfig), config
    assert config.test_command == ("env", "A=it's", "pytest", "-q")
    assert (config.setup, config.publish_test) == ("", False)
    lines = [line.removeprefix("# ") if "=" in line and line.startswith("# ") else line for line in text.splitlines()]
    everything = parse("\n".join(lines))
    assert isinstance(everything, RepoConfig), everything
    assert everything.publish_test
    assert everything.setup == (setup or "pip install -e .")


def test_a_command_that_did_not_work_is_a_comment_with_the_reason() -> None:
    for why in NotCompared:
        tests = OwnTestsReport(tried=("pytest",), not_compared=why, detail="boom")
        text = config_text(Proposal(tests=tests))
        assert tomllib.loads(text)["test"] == {}
        assert '# command = "pytest"' in text
        assert "boom" in body(Proposal(tests=tests))
    assert tomllib.loads(config_text(Proposal()))["test"] == {}


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        (ran(0), "passes on the default branch (33 s)."),
        (ran(0, count=1640), "passes on the default branch (1,640 tests, 33 s)."),
        (ran(1, ("a", "b")), "(2 tests, 33 s); 2 tests fail there, which no candidate has to mend."),
        (ran(1, ("a",), count=9, stopped=True), "is stopped at its time limit on the default branch (9 tests, 33 s); "),
        (ran(1, (), count=9, stopped=True), "(9 tests, 33 s); no test fails there."),
        (OwnTestsReport(), "No command was found"),
    ],
)
def test_how_the_repository_s_own_tests_went(tests: OwnTestsReport, words: str) -> None:
    assert words in body(Proposal(tests=tests))


def test_nothing_that_a_repository_says_is_more_than_words() -> None:
    tests = OwnTestsReport(tried=(EVIL,), not_compared=NotCompared.NOT_RUN, detail=EVIL)
    evil = Proposal(
        found=EVIL,
        image=EVIL,
        commands=(EVIL,),
        setup=EVIL,
        failure=EVIL,
        log=EVIL,
        mend=EVIL,
        notes=(EVIL,),
        tests=tests,
    )
    for text in (body(evil), body(evil.model_copy(update={"failure": ""})), opened("https://x/pull/1", evil)):
        html = render(outgoing(text, ()))
        for harm in ("<script", "<img", 'href="https://evil', "@olive</a>"):
            assert harm not in html
    assert isinstance(parse(config_text(evil)), RepoConfig)
