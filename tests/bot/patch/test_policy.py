"""The policy: what a candidate may not touch (attacks 16 and 17)."""

import pytest

from bot.errors import Refused
from bot.patch.paths import path_problem
from bot.patch.policy import check_patch, judge
from tests.bot.sample import GOOD, patch


@pytest.mark.parametrize(
    "path",
    [
        ".github/workflows/ci.yml",
        ".GitHub/Workflows/ci.yml",
        ".github/dependabot.yml",
        ".gitlab-ci.yml",
        ".circleci/config.yml",
        "CODEOWNERS",
        "docs/CODEOWNERS",
        ".troop.toml",
        ".gitmodules",
        "sub/.gitattributes",
        "package-lock.json",
        "web/yarn.lock",
        "uv.lock",
        "Cargo.lock",
        "go.sum",
        "AGENTS.md",
        "sub/agents.md",
        "CLAUDE.md",
        ".claude/settings.json",
        ".cursorrules",
        ".cursor/rules/x.mdc",
        ".github/copilot-instructions.md",
        ".pre-commit-config.yaml",
        "ci/Jenkinsfile.release",
        "azure-pipelines-nightly.yml",
        ".azure-pipelines/build.yml",
        "ci/base.gitlab-ci.yml",
        ".builds/alpine.yml",
        ".goreleaser.yaml",
        "codefresh.yaml",
        ".cirrus.star",
        "renovate.json5",
        "release.gocd.yaml",
        ".tekton/push.yaml",
        "bamboo-specs/bamboo.yml",
        ".mergify.yml",
        ".circle.yml",
        "QWEN.md",
        ".kilocode/rules/x.md",
        ".git/config",
        "a/.git/hooks/x",
        ".GIT/config",
        "GIT~1/config",
        ".git /config",
        ".g\u200cit/config",
        "../x",
        "/etc/passwd",
        "a/../../x",
        "a//b",
        "./a",
        "C:/x",
        "a\\b",
        "a\nb",
        "x" * 300,
    ],
)
def test_attack_16_refused(path: str) -> None:
    judgement = judge(patch({path: "x\n"}))
    assert len(judgement.refused) == 1
    assert judgement.refused[0].startswith(path)
    with pytest.raises(Refused, match="may not be published"):
        check_patch(patch({path: "x\n"}))


@pytest.mark.parametrize(
    "path",
    ["setup.py", "pyproject.toml", "Makefile", "web/package.json", "Dockerfile", "requirements-dev.in", "a.gemspec"],
)
def test_flagged(path: str) -> None:
    judgement = judge(patch({path: "x\n"}))
    assert judgement.refused == ()
    assert judgement.flagged[0].startswith(path)
    assert check_patch(patch({path: "x\n"})) == judgement.flagged


@pytest.mark.parametrize(
    "path",
    [
        ".envrc",
        "sub/.vscode/tasks.json",
        "x.code-workspace",
        "web/eslint.config.mjs",
        ".prettierrc.js",
        ".run/tests.run.xml",
        "Procfile",
        "docker-compose.yml",
        "flake.nix",
        ".Rprofile",
        "action.yml",
        "Rakefile",
        "sub/Dangerfile.js",
        "fastlane/Fastfile",
        ".zshrc",
        "_netrc",
        "lefthook-local.yml",
        ".simple-git-hooks.cjs",
        "mise.local.toml",
        ".envrc.local",
        "devfile.yaml",
        "x.sublime-project",
        ".vim/plugin.vim",
        ".config/dotnet-tools.json",
        "NuGet.Config",
        "Containerfile",
        "ops/ci.yml",
        "debian/rules",
    ],
)
def test_what_runs_on_other_machines_is_flagged(path: str) -> None:
    assert judge(patch({path: "x\n"})).flagged == (
        f"{path} runs on the machines of people or workflows that use this repository",
    )


@pytest.mark.parametrize(
    "path",
    [
        "a.py",
        "src/ci.py",
        "src/pipeline.py",
        "renovate.py",
        "src/github/x.py",
        "docs/agents.rst",
        "locks.py",
        "legit.git.py",
        ".gitignore",
        "é/日.py",
        "a b.py",
    ],
)
def test_fine(path: str) -> None:
    assert judge(patch({path: "x\n"})) == judge(GOOD)
    assert path_problem(path) == ""


def test_a_deletion_counts() -> None:
    assert judge(patch({".github/workflows/ci.yml": None})).refused


def test_a_secret() -> None:
    leaky = patch({"a.py": "key = 'hunter2-hunter2'\n"})
    assert check_patch(leaky) == ()
    with pytest.raises(Refused, match="holds a secret"):
        check_patch(leaky, ("hunter2-hunter2",))
