"""What a published change must not do: attacks 16 and 19, `[skip ci]`."""

import pytest

from bot.patch.policy import judge
from bot.sanitize.neutralize import run_checks
from tests.bot.sample import patch


@pytest.mark.parametrize(
    "path",
    [
        *(".appveyor.yml", ".drone.yml", ".husky/pre-commit", "web/.husky/pre-push", ".envrc", ".npmrc", "a/.npmrc"),
        *(".vscode/tasks.json", ".devcontainer/devcontainer.json", "action.yml", "tools/action.yaml", ".Husky/x"),
        *(".kiro/steering.md", "AGENT.md", ".junie/guidelines.md", ".cirrus.yml", ".woodpecker/a.yml"),
    ],
)
def test_attack_16_what_runs_elsewhere_is_refused_or_flagged(path: str):
    judgement = judge(patch({path: "x\n"}))
    assert len(judgement.refused + judgement.flagged) == 1


@pytest.mark.parametrize("path", ["src/action.py", "docs/envrc.md", "vscode/tasks.json", "husky.py"])
def test_other_files_are_not(path: str):
    assert judge(patch({path: "x\n"})) == judge(patch({"a.py": "x\n"}))


@pytest.mark.parametrize("word", ["skip ci", "ci skip", "no ci", "skip actions", "actions skip", "SKIP CI", "skip-ci"])
def test_no_title_skips_the_checks(word: str):
    assert run_checks(f"Mend it [{word}] now") == f"Mend it ({word}) now"


def test_no_trailer_skips_the_checks():
    assert run_checks("Mend it\n\n\nskip-checks: true") == "Mend it\n\n\nskip-checks - true"
    assert run_checks("x ***NO_CI***") == "x NO_CI"


def test_other_brackets_are_kept():
    assert run_checks("Mend x[0] and [note]") == "Mend x[0] and [note]"
