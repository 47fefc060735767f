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
        ".vela.yml",
        "garnix.yaml",
        ".onedev-buildspec.yml",
        ".ci-operator.yaml",
        "buildspec-release.yml",
        "deploy/cloudbuild.prod.yaml",
        ".rwx/ci.yml",
        ".mint/ci.yml",
        ".depot/workflows/ci.yml",
        ".trunk/trunk.yaml",
        ".azuredevops/pipeline.yml",
        ".prow/jobs.yaml",
        "OWNERS",
        "pkg/OWNERS_ALIASES",
        ".policy.yml",
        ".pullapprove.yml",
        "codecov.yml",
        "MODULE.bazel.lock",
        "Package.resolved",
        "pylock.toml",
        ".terraform.lock.hcl",
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
    [
        *(
            "setup.py",
            "pyproject.toml",
            "Makefile",
            "web/package.json",
            "Dockerfile",
            "requirements-dev.in",
            "a.gemspec",
        ),
        *("BUILD", "src/BUILD.bazel", "WORKSPACE", "WORKSPACE.bzlmod", "MODULE.bazel", "REPO.bazel", "rules/py.bzl"),
        *("BUCK", "lib/BUCK.v2", "TARGETS", "x.bxl", "PACKAGE", ".buckroot", "BUILD.pants", "pants.toml", ".plzconfig"),
        *("BUILD.gn", "x.gni", ".gn", "DEPS", "Android.bp", "tools/bazel", ".bazelversion", "configure.ac", "x.cmake"),
        *("CMakePresets.json", "x.mk", "build.zig", "xmake.lua", "conanfile.py", "subprojects/x.wrap", "build.ninja"),
        *("app/build.gradle.kts", "gradle/wrapper/gradle-wrapper.properties", "gradlew", "mvnw.cmd", "build.mill"),
        *("project/plugins.sbt", "x.csproj", "Directory.Build.targets", "x.xcodeproj/project.pbxproj", "dune-project"),
        *(
            "x.nix",
            "PKGBUILD",
            "rpm/x.spec",
            "binding.gyp",
            "turbo.json",
            "nx.json",
            "pnpm-workspace.yaml",
            "pixi.toml",
        ),
    ],
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
        "ops/ci.yml",
        "debian/rules",
        "netlify/functions/hello.js",
        "site/netlify/edge-functions/a.ts",
        "supabase/functions/x/index.ts",
        ".vercel/output.json",
        "amplify/backend.ts",
        ".ebextensions/a.config",
        ".do/app.yaml",
        "infra/main.tf",
        "Pulumi.prod.yaml",
        "cdk.json",
        "wrangler.jsonc",
        "sst.config.ts",
        "serverless.ts",
        "compose.override.yaml",
        "docker-compose.prod.yml",
        "chart/Chart.yaml",
        "k8s/kustomization.yaml",
        "azure.yaml",
        "apphosting.yaml",
        ".deployment",
        "captain-definition",
        "template.yaml",
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
        "src/build.py",
        "netlify/x.js",
        "src/functions/x.ts",
        "api/users.py",
        "conf/hydra.yaml",
        "k8s/namespace.yaml",
        "src/workspace.ts",
        "src/targets.rs",
        "build/x.py",
        "src/policy.yml",
        "src/package.py",
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
