"""Files that builders, deployers and other people's machines carry out, by the names that their tools look for.

As of November 2026, from the tools' own documentation. All in lower case: the file systems of some ignore case.
"""

import re
from itertools import pairwise
from pathlib import PurePosixPath

# -- what a build does, or what it installs

_BUILDS = re.compile(
    r"(?:requirements|constraints)[\w.-]*\.(?:txt|in)|dockerfile\..*|[\w.-]+\.dockerfile|containerfile(?:\..*)?"
    r"|docker-bake(?:\.[\w-]+)?\.(?:hcl|json)|dockerfile"
    # Python, R, conda
    r"|setup\.(?:py|cfg)|pyproject\.toml|(?:hatch|pixi|pdm|uv|poetry|pants)\.toml|tox\.ini|noxfile\.py|hatch_build\.py"
    r"|(?:fab|dodo)(?:file)?\.py|environment\.ya?ml|meta\.ya?ml|recipe\.ya?ml|snakefile|description|configure\.win"
    # JavaScript
    r"|package\.json|(?:turbo|nx|lerna|rush|project)\.json|pnpm-workspace\.yaml|moon\.ya?ml|jakefile|cakefile|deno\.jsonc?"
    r"|binding\.gyp|.*\.gypi?"
    # the JVM
    r"|pom\.xml|.*\.gradle(?:\.kts|\.dcl)?|gradle(?:-wrapper)?\.properties|gradle-wrapper\.jar|gradlew(?:\.bat)?"
    r"|mvnw(?:\.cmd)?|build\.(?:xml|sc|mill)|.*\.sbt|ivy(?:settings)?\.xml|deps\.edn|project\.clj|build\.boot"
    # C, C++, make and its kin
    r"|(?:gnu)?makefile(?:\..*)?|.*\.(?:mk|mak|cmake|ninja|pro|pri|wrap)|cmakelists\.txt|cmake(?:user)?presets\.json"
    r"|meson\.(?:build|options)|meson_options\.txt|scons(?:truct|cript)|wscript|configure(?:\.ac|\.in)?|.*\.(?:am|m4)"
    r"|(?:xmake|premake[45])\.lua|conanfile\.(?:py|txt)|vcpkg(?:-configuration)?\.json|build\.zig(?:\.zon)?|tup(?:file|rules)"
    # Bazel and its kin
    r"|build(?:\.(?:bazel|pants|plz|please|gn|tools))?|workspace(?:\.(?:bazel|bzlmod))?|(?:module|repo)\.bazel|.*\.(?:bzl|bxl)"
    r"|\.bazel(?:version|ignore)|\.bazelrc\..*|buck(?:\.v2)?|targets(?:\.v2)?|package|\.buck(?:root|version|config\..*)"
    r"|\.?plzconfig(?:\..*)?|\.gn|.*\.gni|deps|\.gclient|android\.(?:bp|mk)|blueprints|kconfig(?:\..*)?"
    # others
    r"|cargo\.toml|build\.rs|rust-toolchain(?:\.toml)?|go\.(?:mod|work)|gemfile|gems\.rb|composer\.json|mix\.exs"
    r"|rebar\.config(?:\.script)?|package\.swift|project\.(?:yml|pbxproj|swift)|cartfile(?:\.private)?|.*\.xcconfig"
    r"|.*\.(?:gemspec|podspec|cabal|opam|nimble|rockspec|csproj|fsproj|vbproj|vcxproj|props|targets|sln|slnx|spec|ebuild)"
    r"|global\.json|dune(?:-project|-workspace)?|setup\.l?hs|stack\.yaml|cabal\.project|shard\.yml|pubspec\.yaml|build\.yaml"
    r"|elm\.json|.*\.nix|(?:guix|manifest|channels)\.scm|(?:pkg|apk)build|justfile\..*"
)
_WRAPPERS = (
    "tools/bazel",
    "tools/bazel.bat",
    "tools/bazel.ps1",
    "pants",
    "buck2",
    "pleasew",
    "nextflow.config",
    "dev.yml",
)

# -- what a host or a cloud runs

_DEPLOYS = re.compile(
    r"(?:docker-)?compose[\w.-]*\.ya?ml|stack\.ya?ml|.*\.(?:tf|tofu|tfvars|nomad|bicep)|.*\.(?:tf|tofu)\.json|terragrunt\.hcl"
    r"|pulumi(?:\.[\w-]+)?\.ya?ml|(?:cdk|cdktf|alchemy|host|function|zeabur|railway|railpack|nixpacks)\.(?:json|toml)|ansible\.cfg"
    r"|(?:chart|kustomization|helmfile|garden|okteto|werf|devspace|koyeb|azure|apphosting|appspec|manifest|dagster|serverless)"
    r"(?:[.-][\w-]+)?\.ya?ml|wrangler\.jsonc|(?:sst|open-next|serverless|alchemy\.run|trigger|inngest|convex)(?:\.config)?\.[cm]?[jt]s"
    r"|staticwebapp\.config\.json|captain-definition|\.deployment|deploy\.(?:sh|cmd|rb)|capfile|\.platform\.ya?ml|cloud-init\.ya?ml"
    r"|user-data|now\.json|vercel\.[jt]s|template\.ya?ml|capacitor\.config\.[jt]s|eas\.json|app\.config\.[jt]s"
)
_DEPLOYED_FOLDERS = frozenset(
    ".netlify .vercel .wrangler .firebase .amplify amplify .serverless .sst .do .ebextensions .elasticbeanstalk".split()
    + ".kamal .scalingo .clever clevercloud .okteto .garden .moon .devspace .aws-sam .chalice .zappa .fly".split()
)
_FUNCTIONS = (
    ("netlify", "functions"),
    ("netlify", "edge-functions"),
    ("supabase", "functions"),
    ("convex", "_generated"),
)


def builds(path: str) -> bool:
    """Whether a build carries it out, or it says what a build installs."""
    place = PurePosixPath(path.lower())
    return str(place) in _WRAPPERS or _BUILDS.fullmatch(place.name) is not None


def deploys(path: str) -> bool:
    """Whether a host or a cloud runs it, or runs what it says."""
    parts = path.lower().split("/")
    pairs = set(pairwise(parts[:-1]))
    return (
        _DEPLOYS.fullmatch(parts[-1]) is not None
        or not _DEPLOYED_FOLDERS.isdisjoint(parts[:-1])
        or not pairs.isdisjoint(_FUNCTIONS)
    )
