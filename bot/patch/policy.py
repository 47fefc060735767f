"""Which paths a candidate may not touch, and which maintainers are warned of. A pure function of the patch.

An App's push triggers the target repository's workflows, with their secrets: model-written code must not change what
they run (GitHub, "Security hardening for GitHub Actions"; attacks 16 and 17).
"""

import re
from collections.abc import Sequence

from bot.errors import Refused
from bot.patch.carried_out import builds, deploys
from bot.patch.paths import path_problem
from bot.records import Patch, Record
from bot.sanitize.redact import holds_secret

_FORGE_FOLDERS = {
    ".github",
    ".gitlab",
    ".circleci",
    ".buildkite",
    ".forgejo",
    ".gitea",
    ".woodpecker",
    ".drone",
    ".semaphore",
    ".teamcity",
    ".azure-pipelines",
    ".gitlab-ci",
    ".builds",
    ".bitrise",
    ".dagger",
    "zuul.d",
    ".zuul.d",
    ".screwdriver",
}
_FORGE_FILES = {
    "codeowners",
    ".gitlab-ci.yml",
    ".travis.yml",
    "azure-pipelines.yml",
    "jenkinsfile",
    "appveyor.yml",
    ".appveyor.yml",
    ".drone.yml",
    ".drone.yaml",
    ".cirrus.yml",
    ".woodpecker.yml",
    "bitbucket-pipelines.yml",
    "buildspec.yml",
    "cloudbuild.yaml",
    "cloudbuild.yml",
    "wercker.yml",
    ".semaphore.yml",
    "codemagic.yaml",
    "bitrise.yml",
    ".build.yml",
    ".taskcluster.yml",
    ".zuul.yaml",
    "zuul.yaml",
    ".prow.yaml",
    ".packit.yaml",
    "screwdriver.yaml",
    "dagger.json",
    "earthfile",
    ".pre-commit-hooks.yaml",
    ".releaserc",
    ".releaserc.json",
    ".releaserc.yml",
    ".goreleaser.yml",
    ".goreleaser.yaml",
    "renovate.json",
    ".renovaterc",
    ".renovaterc.json",
    "netlify.toml",
    "vercel.json",
    ".readthedocs.yml",
    ".readthedocs.yaml",
    ".troop.toml",
    ".pre-commit-config.yaml",
}
_GIT_FILES = {".gitmodules", ".gitattributes", ".lfsconfig", ".mailmap"}
# What runs on the machine of whoever opens, installs or enters the repository.
_DEVELOPER_FILES = {
    "devcontainer.json",
    "lefthook.yml",
    "mise.toml",
    "devbox.json",
    "flake.nix",
    "shell.nix",
    "default.nix",
    "pnpmfile.js",
    "vagrantfile",
    "docker-compose.yml",
    "docker-compose.yaml",
    "compose.yml",
    "compose.yaml",
    "tiltfile",
    "skaffold.yaml",
    "procfile",
    "app.json",
    "app.yaml",
    "fly.toml",
    "heroku.yml",
    "render.yaml",
    "firebase.json",
    "wrangler.toml",
    "wrangler.json",
    "serverless.yml",
    "amplify.yml",
    "action.yml",
    "action.yaml",
    "pip.conf",
}
_AGENT_FILES = {
    "agents.md",
    "agents.override.md",
    "claude.md",
    "claude.local.md",
    "gemini.md",
    "copilot-instructions.md",
    "conventions.md",
    ".cursorrules",
    ".windsurfrules",
    ".clinerules",
    ".mcp.json",
    "agent.md",
    "warp.md",
    "replit.md",
    ".replit",
    ".goosehints",
    ".rules",
    "llms.txt",
    ".junie",
    "opencode.json",
    "mcp.json",
    "crush.json",
    "crush.md",
    "qwen.md",
    "grok.md",
    "jules.md",
    ".augment-guidelines",
    ".aider.conf.yml",
}
_AGENT_FOLDERS = {
    ".claude",
    ".cursor",
    ".codex",
    ".gemini",
    ".windsurf",
    ".clinerules",
    ".aider",
    ".continue",
    ".roo",
    ".junie",
    ".kiro",
    ".amp",
    ".opencode",
    ".augment",
    ".goose",
    ".qwen",
    ".kilocode",
    ".trae",
    ".amazonq",
    ".crush",
    ".jules",
    ".factory",
    ".warp",
    ".agents",
}
_LOCK_FILES = {
    "package-lock.json",
    "npm-shrinkwrap.json",
    "yarn.lock",
    "pnpm-lock.yaml",
    "bun.lock",
    "bun.lockb",
    "deno.lock",
    "poetry.lock",
    "pipfile.lock",
    "uv.lock",
    "pdm.lock",
    "cargo.lock",
    "gemfile.lock",
    "composer.lock",
    "go.sum",
    "mix.lock",
    "flake.lock",
    "packages.lock.json",
    "podfile.lock",
    "gradle.lockfile",
    "package.resolved",
    "module.bazel.lock",
    "pylock.toml",
    "pixi.lock",
    "conda-lock.yml",
    "conan.lock",
    "devbox.lock",
    "devenv.lock",
    "gems.locked",
    "pubspec.lock",
    "shard.lock",
    "cartfile.resolved",
    ".terraform.lock.hcl",
    "chart.lock",
}


class Judgement(Record):
    """The policy's judgement of a patch; each entry is a sentence that begins with the path."""

    refused: tuple[str, ...] = ()  # it may not be published
    flagged: tuple[str, ...] = ()  # it may, and the pull request warns of it


def judge(patch: Patch) -> Judgement:
    """The policy's judgement of what the patch touches."""
    refused, flagged = [], []
    for path in patch.paths:
        if reason := path_problem(path) or refusal(path):
            refused.append(f"{path} {reason}")
        elif builds(path):
            flagged.append(f"{path} changes how the project is built or what it installs")
        elif deploys(path) or _is_run_elsewhere(path):
            flagged.append(f"{path} runs on the machines of people or workflows that use this repository")
    return Judgement(refused=tuple(refused), flagged=tuple(flagged))


def check_patch(patch: Patch, secrets: Sequence[str] = ()) -> tuple[str, ...]:
    """What maintainers must be warned of. Raises `Refused` where the patch may not be published at all."""
    judgement = judge(patch)
    if judgement.refused:
        raise Refused(f"this patch may not be published: {'; '.join(judgement.refused)}")
    if holds_secret([[change.path, change.text] for change in patch.changes], secrets):
        raise Refused("this patch may not be published: it holds a secret of this server")
    return judgement.flagged


# Named as a whole in one way of many, or loaded as code by what checks the repository on a developer's machine.
_PIPELINE_NAME = re.compile(
    r"jenkinsfile[.-].*|.*\.jenkinsfile|azure-pipelines?[\w.-]*\.ya?ml|.*\.gitlab-ci\.ya?ml|.*\.gocd\.(?:ya?ml|json)"
    r"|\.?(?:appveyor|bitrise|bors|buildkite|buildspec|circle|cirrus|cloudbuild|codefresh|codemagic|concourse|dependabot"
    r"|depfu|drone|evergreen|gitlab-ci|goreleaser|jenkins|kodiak|lgtm|mergify|packit|pre-commit|prek|release-it|release-please"
    r"|release-please-config|releaserc|renovate|renovaterc|rultor|salsa-ci|screwdriver|semaphore|shippable|sourcehut"
    r"|taskcluster|travis|vsts-ci|wercker|woodpecker|zuul|vela|garnix|cirun|onedev-buildspec|ci-operator"
    r"|pullapprove|mega-?linter|codecov)"
    r"\.(?:ya?ml|json5?|jsonc|toml|star|[cm]?[jt]s)"
    r"|buildspec[\w.-]*\.ya?ml|owners(?:_aliases)?|\.reviewboardrc|master\.cfg|\.(?:policy|bulldozer)\.ya?ml"
    r"|\.release-please-manifest\.json|cloudbuild[\w.-]*\.(?:ya?ml|json)"
)
_PIPELINE_FOLDERS = frozenset(
    ".argo .azure .azuredevops .bamboo bamboo-specs .changeset .ci .cloudbuild .codebuild .concourse .copr".split()
    + ".depot .harness .jenkins .mint .namespace .obs .prow .rwx .tekton .trunk .agola .aviator .vela".split()
)
_CHECKER_NAME = re.compile(
    r"(?:\.?(?:eslint|prettier|stylelint|commitlint|lint-staged|release|babel|postcss|webpack|rollup|vite)"
    r"(?:rc|\.config)\.[cm]?[jt]s)|.*\.code-workspace|.*\.run\.xml|.*\.sublime-project"
    r"|\.?(?:huskyrc|lefthook(?:-local)?|overcommit|simple-git-hooks|lint-staged(?:rc)?|mise(?:\.\w+)?|devfile|devenv|railway"
    r"|samconfig|apprunner|vercel|now|codesandbox|snapcraft|sonar-project|dangerfile|gruntfile|gulpfile|nuget)"
    r"\.(?:ya?ml|json5?|toml|[cm]?[jt]s|nix|config|properties|coffee)"
    r"|bunfig\.toml|(?:site|user)customize\.py|.*\.pth|crontab|.*\.(?:service|timer|desktop|nuspec|iss|wxs)"
    r"|[\w-]+\.config\.[cm]?[jt]s|(?:auth|biome|bower|component|captainhook|northflank|caprover|greptile|firebender)\.json"
    r"|(?:jupyter_\w+_config|ipython_config)\.py|(?:pylint|.*_)rc|postbuild|autorun\.inf|desktop\.ini|chocolatey\w*\.ps1|pipfile"
    r"|skill\.md|package\.(?:json5|ya?ml)|bugbot\.md|procfile\..*|_(?:netrc|vimrc)|containerfile(?:\..*)?|replit\.nix|dotnet-tools\.json"
    r"|(?:rake|guard|danger|fast|thor|brew|pod|cap|mint|justfile|task)file|\.?justfile|(?:taskfile|\.?ci|pipeline)\.ya?ml"
)
_OTHER_FOLDERS = frozenset("fastlane debian binder kamal formula".split())
_HARMLESS = re.compile(
    r"\.(?:\w+ignore|(?:git)?keep|editorconfig|env[\w.-]*\.(?:dist|example|sample|template)|env\.\w+\.template)"
)
_AT_ROOT = re.compile(  # and a few that tools look for in a folder of theirs
    r"[^/]*\.(?:toml|ya?ml|ini|cfg|conf|hcl|pkl|star|neon|inf|config)|(?:docs?/(?:source/)?)?conf\.py|tasks\.py|start"
    r"|(?:runtime|apt)\.txt|config/deploy[\w.-]*\.ya?ml|renv/activate\.r|psalm\.xml|rector\.php|gatsby-\w+\.[cm]?[jt]s"
)


def refusal(path: str) -> str:
    """Why a file of that path may not be changed; "" where it may."""
    parts = [part.lower() for part in path.split("/")]
    name = parts[-1]
    if parts[0] in _FORGE_FOLDERS | _PIPELINE_FOLDERS or name in _FORGE_FILES or _PIPELINE_NAME.fullmatch(name):
        return "decides what runs or who reviews in this repository"
    if name in _GIT_FILES:
        return "decides what git fetches or rewrites"
    if name in _AGENT_FILES or _AGENT_FOLDERS.intersection(parts):
        return "gives instructions to programs that write code"
    if name in _LOCK_FILES:
        return "pins what is installed, which is the package manager's job"
    return ""


def _is_run_elsewhere(path: str) -> bool:
    """A hidden file or folder is some tool's, whichever tool comes next; so is a configuration at the root."""
    parts = [part.lower() for part in path.split("/")]
    return (
        any(part.startswith(".") for part in parts[:-1])
        or (parts[-1].startswith(".") and _HARMLESS.fullmatch(parts[-1]) is None)
        or _AT_ROOT.fullmatch(path.lower()) is not None
        or parts[-1] in _DEVELOPER_FILES
        or not _OTHER_FOLDERS.isdisjoint(parts[:-1])
        or _CHECKER_NAME.fullmatch(parts[-1]) is not None
    )
