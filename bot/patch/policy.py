"""Which paths a candidate may not touch, and which maintainers are warned of. A pure function of the patch.

An App's push triggers the target repository's workflows, with their secrets: model-written code must not change what
they run (GitHub, "Security hardening for GitHub Actions"; attacks 16 and 17).
"""

from collections.abc import Sequence
from pathlib import PurePosixPath

from bot.errors import Refused
from bot.patch.paths import path_problem
from bot.records import Patch, Record
from bot.sanitize import redact

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
_DEVELOPER_FOLDERS = {".husky", ".githooks", ".devcontainer", ".vscode", ".idea", ".zed", ".lefthook"}
_DEVELOPER_FILES = {
    ".envrc",
    ".env",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".pnpmfile.cjs",
    ".pypirc",
    ".bazelrc",
    ".gdbinit",
    ".lldbinit",
    ".vimrc",
    ".exrc",
    ".nvimrc",
    ".dir-locals.el",
    ".gitpod.yml",
    ".devcontainer.json",
    "devcontainer.json",
    "lefthook.yml",
    ".lefthook.yml",
    ".tool-versions",
    "mise.toml",
    ".mise.toml",
    ".lintstagedrc",
    ".huskyrc",
    "action.yml",
    "action.yaml",
    "pip.conf",
    ".condarc",
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
}
_BUILD_FILES = {
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "package.json",
    "makefile",
    "dockerfile",
    "build.rs",
    "cargo.toml",
    "go.mod",
    "gemfile",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "cmakelists.txt",
    "requirements.txt",
    "tox.ini",
    "noxfile.py",
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
        elif PurePosixPath(path).name.lower() in _BUILD_FILES:
            flagged.append(f"{path} changes how the project is built or what it installs")
        elif _is_run_elsewhere(path):
            flagged.append(f"{path} runs on the machines of people or workflows that use this repository")
    return Judgement(refused=tuple(refused), flagged=tuple(flagged))


def check_patch(patch: Patch, secrets: Sequence[str] = ()) -> tuple[str, ...]:
    """What maintainers must be warned of. Raises `Refused` where the patch may not be published at all."""
    judgement = judge(patch)
    if judgement.refused:
        raise Refused(f"this patch may not be published: {'; '.join(judgement.refused)}")
    texts = "\n".join(change.text or "" for change in patch.changes)
    if redact(texts, secrets) != redact(texts, ()):
        raise Refused("this patch may not be published: it holds a secret of this server")
    return judgement.flagged


def refusal(path: str) -> str:
    """Why a file of that path may not be changed; "" where it may."""
    parts = [part.lower() for part in path.split("/")]
    name = parts[-1]
    if parts[0] in _FORGE_FOLDERS or name in _FORGE_FILES:
        return "decides what runs or who reviews in this repository"
    if name in _GIT_FILES:
        return "decides what git fetches or rewrites"
    if name in _AGENT_FILES or _AGENT_FOLDERS.intersection(parts):
        return "gives instructions to programs that write code"
    if name in _LOCK_FILES:
        return "pins what is installed, which is the package manager's job"
    return ""


def _is_run_elsewhere(path: str) -> bool:
    parts = [part.lower() for part in path.split("/")]
    return parts[-1] in _DEVELOPER_FILES or bool(_DEVELOPER_FOLDERS.intersection(parts))
