"""What a published change must not do, and what GitHub refuses of it: attacks 16, 19 and 44, `[skip ci]`."""

import pytest

from bot.forge.github import GitHubForge
from bot.patch.policy import judge
from bot.publish.messages.labels import Labels
from bot.publish.publish import publish
from bot.records import Checkout
from bot.sanitize.neutralize import run_checks
from tests.bot.sample import REPO, alive, claimed_run, patch, report
from tests.github.server import GitHubServer


@pytest.mark.parametrize(
    "path",
    [
        *(".appveyor.yml", ".drone.yml", ".husky/pre-commit", "web/.husky/pre-push", ".envrc", ".npmrc", "a/.npmrc"),
        *(".vscode/tasks.json", ".devcontainer/devcontainer.json", "action.yml", "tools/action.yaml", ".Husky/x"),
        *(".kiro/steering.md", "AGENT.md", ".junie/guidelines.md", ".cirrus.yml", ".woodpecker/a.yml"),
        *(
            ".of-a-tool-of-2027/hooks/x",
            "web/.newtoolrc",
            ".config/mise/config.toml",
            ".git-hooks/pre-commit",
            "x.toml",
        ),
        *("SKILL.md", "pkg/.php-cs-fixer.php", "atlantis.yaml", "docs/conf.py", "next.config.ts", "Procfile.dev"),
        *("bunfig.toml", "sitecustomize.py", "lib/x.pth", ".pnp.cjs", ".env.local", ".pylintrc", ".rspec", "x.service"),
    ],
)
def test_attack_16_what_runs_elsewhere_is_refused_or_flagged(path: str):
    judgement = judge(patch({path: "x\n"}))
    assert len(judgement.refused + judgement.flagged) == 1


@pytest.mark.parametrize(
    "path",
    [
        *("src/action.py", "docs/envrc.md", "vscode/tasks.json", "husky.py", ".env.example", ".prettierignore"),
        *(
            "src/tasks.py",
            "pkg/conf.py",
            "src/data.toml",
            "tests/data/a.yaml",
            "pkg/.gitkeep",
            ".editorconfig",
            "x.json",
        ),
    ],
)
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


# -- what GitHub refuses once the pull request is there

LOCKED = "Unable to create comment because issue is locked."
REFUSALS = {
    "a locked issue": ("*", r"/issues/1/comments$", 403, LOCKED),
    "a deleted issue": ("*", r"/issues/1(/|$)", 410, "This issue was deleted"),
    "issues turned off": ("*", r"/issues/", 410, "Issues are disabled for this repo"),
    "no permission for issues": ("*", r"/issues/", 403, "Resource not accessible by integration"),
    "no permission for labels": ("POST", r"/labels$", 403, "Resource not accessible by integration"),
    "no permission for checks": ("*", r"/check-runs", 403, "Resource not accessible by integration"),
    "a locked pull request": ("POST", r"/issues/2/comments$", 403, LOCKED),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_attack_44_a_pull_request_is_no_failure_where_its_issue_can_not_be_told(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout, refusal: str
):
    method, path, status, message = REFUSALS[refusal]
    github.fault(method, path, status=status, message=message, times=1000)
    made = await publish(forge, claimed_run(REPO), report(), checkout, alive, labels=Labels())
    (pull,) = github.pull_requests(REPO)
    assert made.pull_request_url == pull["html_url"]
    assert message in made.untold or refusal == "no permission for checks"  # that one is optional


async def test_attack_44_an_abstention_is_none_the_less_where_its_issue_is_locked(
    github: GitHubServer, forge: GitHubForge, checkout: Checkout
):
    github.fault("*", r"/comments$", status=403, message=LOCKED, times=1000)
    made = await publish(forge, claimed_run(REPO), report(winner=None), checkout, alive, labels=Labels())
    assert LOCKED in made.untold
    assert github.issue(REPO, 1)["labels"] == [Labels().abstained]
