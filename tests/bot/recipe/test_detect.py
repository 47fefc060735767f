"""What is detected from small sets of files, language by language."""

import itertools
import json
import shlex
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from bot.recipe import Layer, Recipe, detect
from bot.repo_config import RepoConfig

PYPROJECT = """
[build-system]
requires = ["hatchling"]
[project]
name = "mill"
dependencies = ["attrs>=20"]
[project.optional-dependencies]
test = ["pytest>=7", "mill[fast]"]
fast = ["numba"]
docs = ["sphinx"]
"""


def of(files: Mapping[str, str], config: RepoConfig | None = None, *allowed: str) -> Recipe:
    return detect(tuple(sorted(files)), files.get, config or RepoConfig(), may_use=allowed.__contains__)


def layers(recipe: Recipe) -> dict[str, Layer]:
    return {layer.name: layer for layer in recipe.layers}


def commands(recipe: Recipe) -> str:
    return "\n".join(command for layer in recipe.layers for command in layer.commands)


# -- the order


def test_nothing_is_done_where_nothing_is_known() -> None:
    assert of({"README.md": "", "main.c": ""}) == Recipe()
    assert of({}) == Recipe()


def test_the_repositorys_setup_is_all_that_is_done() -> None:
    found = of({"pyproject.toml": PYPROJECT}, RepoConfig(setup="make deps", image="x:1"))
    (layer,) = found.layers
    assert layer.commands == ("(\nmake deps\n) || exit $?",)
    assert layer.whole_tree
    assert found.image == "x:1"
    assert found.found == "`setup` in .troop.toml"
    assert of({"pyproject.toml": PYPROJECT}, RepoConfig(setup="true")).layers == ()


def test_a_development_container_comes_before_the_manifests() -> None:
    text = """// for Codespaces
    {
        "image": "python:3.12", /* pinned */
        "features": {"ghcr.io/devcontainers/features/node:1": {},},
        "onCreateCommand": ["pip", "install", "a b"],
        "postCreateCommand": {"one": "pip install //x", "two": "cd ${containerWorkspaceFolder}/web && npm ci"},
    }"""
    files = {".devcontainer/devcontainer.json": text, "pyproject.toml": PYPROJECT}
    found = of(files, None, "python:3.12")
    (layer,) = found.layers
    assert layer.commands == ("(\npip install 'a b'\n)", "(\npip install //x\n)", "(\ncd ./web && npm ci\n)")
    assert found.image == "python:3.12"
    (note,) = found.notes
    assert "features are not supported" in note
    assert "features/node:1" in note
    other = of(files)
    assert "attrs>=20" in commands(other)
    assert other.image == ""
    assert "python:3.12, which this server does not allow" in other.notes[-1]


@pytest.mark.parametrize("place", ["devcontainer.json", ".devcontainer.json", ".devcontainer/devcontainer.json"])
def test_every_place_of_a_devcontainer(place: str) -> None:
    assert of({place: '{"postCreateCommand": "make"}'}).found == f"a development container ({place})"


@pytest.mark.parametrize("text", ["{", "[]", "", "null", '{"image": ', "{" * 100_000])
def test_a_devcontainer_that_can_not_be_read_is_a_note(text: str) -> None:
    found = of({"devcontainer.json": text, "go.mod": "module x\n"})
    assert "devcontainer.json is not used" in found.notes[0]
    assert "Go (go.mod)" in found.found


def test_a_dockerfile_that_a_devcontainer_names_is_carried_out() -> None:
    dockerfile = """# syntax=docker/dockerfile:1
FROM --platform=linux/amd64 debian:12
ARG VERSION=3
ENV A=1 B="two words"
ENV OLD a value
WORKDIR /src
COPY requirements.txt tools/ ./
RUN apt-get update && \\
    apt-get install -y make
RUN ["pip", "install", "x y"]
USER nobody
CMD ["bash"]
"""
    files = {".devcontainer/devcontainer.json": '{"build": {"dockerfile": "Dockerfile", "context": ".."}}',
             ".devcontainer/Dockerfile": dockerfile}  # fmt: skip
    (layer,) = of(files, None, "debian:12").layers
    assert layer.source == ".devcontainer/Dockerfile"
    said = "\n".join(layer.commands)
    assert "export VERSION=3" in said
    assert 'export B="two words"' in said
    assert "export OLD='a value'" in said
    assert "mkdir -p /src && cd /src" in said
    assert '"$root"/requirements.txt "$root"/tools/' in said
    assert "( apt-get update &&      apt-get install -y make )" in said
    assert "pip install 'x y'" in said
    assert "nobody" not in said


@pytest.mark.parametrize(
    ("dockerfile", "why"),
    [
        ("FROM a AS b\nFROM c\n", "several stages"),
        ("FROM $BASE\n", "build argument"),
        ("FROM a\nCOPY --from=b x y\n", "from elsewhere"),
        ("FROM a\nADD https://x/y z\n", "from elsewhere"),
        ("FROM a\nSHELL [\"powershell\"]\n", "SHELL"),
        ("FROM a\nRUN <<EOF\nx\nEOF\n", "here-document"),
        ("RUN x\n", "no FROM"),
    ],
)  # fmt: skip
def test_a_dockerfile_that_is_not_carried_out_says_why(dockerfile: str, why: str) -> None:
    files = {"devcontainer.json": '{"build": {"dockerfile": "Dockerfile"}}', "Dockerfile": dockerfile}
    assert why in of(files, None, "a").notes[0]


def test_a_dockerfile_outside_of_the_repository_is_none() -> None:
    assert of({"devcontainer.json": '{"build": {"dockerfile": "../../etc/passwd"}}'}).layers == ()


# -- Python


def test_python_installs_dependencies_by_manifest_then_the_project() -> None:
    found = of({"pyproject.toml": PYPROJECT, "src/mill/__init__.py": "", "tests/test_mill.py": ""})
    dependencies, project = found.layers
    assert "'attrs>=20' 'pytest>=7' numba" in dependencies.commands[0]
    assert "sphinx" not in commands(found)
    assert dependencies.keyed_by == ("pyproject.toml",)
    assert not dependencies.whole_tree
    assert project.commands == ("python3 -m pip install --no-deps -e '.[test]'",)
    assert not project.whole_tree
    assert project.words == ("src/mill", "tests"), "another package means another install"
    assert found.found == "Python (pyproject.toml)"
    assert found.setup == "python3 -m pip install -e '.[test]'"


def test_a_setup_py_may_do_anything_so_the_whole_tree_decides() -> None:
    text = "from setuptools import setup\nsetup(name='mill', extras_require={'testing': ['pytest'], 'docs': []})\n"
    found = of({"setup.py": text, "mill.py": "", "test_mill.py": ""})
    (project,) = [layer for layer in found.layers if layer.name == "project"]
    assert project.commands == ("python3 -m pip install -e '.[testing]'",)
    assert project.whole_tree


def test_dependency_groups_include_one_another() -> None:
    text = """
[project]
name = "mill"
dependencies = []
[dependency-groups]
test = ["pytest", {include-group = "types"}]
types = ["mypy", {include-group = "test"}]
docs = ["sphinx"]
"""
    found = of({"pyproject.toml": text, "tests/test_a.py": ""})
    assert "pytest mypy >" in commands(found)
    assert "project" not in layers(found), "a list of dependencies without a build system can't be installed"


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ('[tool.uv]\ndev-dependencies = ["pytest>=8"]', "pytest>=8"),
        ('[tool.pdm.dev-dependencies]\ntest = ["pytest>=8"]', "pytest>=8"),
        ('[tool.hatch.envs.default]\ndependencies = ["pytest>=8"]', "pytest>=8"),
        ('[tool.hatch.envs.hatch-test]\nextra-dependencies = ["pytest>=8"]', "pytest>=8"),
        ('[tool.poetry]\nname = "x"\n[tool.poetry.dev-dependencies]\npytest = "^8.1"', "pytest>=8.1,<9"),
        ('[tool.poetry]\nname = "x"\n[tool.poetry.group.test.dependencies]\npytest = "~8.1"', "pytest>=8.1,<8.2"),
        ('[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\na = {version = "*", extras = ["b"]}', "a[b]"),
        ('[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\na = {git = "https://h/a", rev = "1"}',
         "a @ git+https://h/a@1"),
        ('[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\na = "^0.0.3"', "a>=0.0.3,<0.0.4"),
        ('[tool.poetry]\nname = "x"\n[tool.poetry.dependencies]\na = "1.2.3"', "a==1.2.3"),
    ],
)  # fmt: skip
def test_the_tools_of_python(table: str, expected: str) -> None:
    assert expected in commands(of({"pyproject.toml": table, "a.py": ""}))


def test_requirement_files_for_tests_and_what_they_name() -> None:
    files = {
        "requirements.txt": "-r requirements/base.txt\nattrs\n",
        "requirements/base.txt": "idna\n",
        "requirements/docs.txt": "sphinx\n",
        "requirements/lint.txt": "ruff\n",
        "requirements-test.txt": "-c constraints.txt\npytest\n",
        "constraints.txt": "pytest==8\n",
        "app.py": "",
        "tests/test_app.py": "",
    }
    found = of(files)
    (dependencies,) = found.layers
    (command,) = dependencies.commands
    assert command == "python3 -m pip install -r requirements.txt -r requirements-test.txt"
    assert {"requirements/base.txt", "constraints.txt"} <= set(dependencies.keyed_by)


@pytest.mark.parametrize(
    ("line", "whole_tree"),
    [
        *(
            (line, False)
            for line in ("", "# x", "attrs==2 \\", "    --hash=sha256:a1", "a[b]>=1; python_version<'3'  # x")
        ),
        *(
            (line, False)
            for line in ("-i https://x.example/simple", "--no-binary :all:", "a @ git+https://x.example/a")
        ),
        *((line, True) for line in ("--pre -r more.txt", "libs/a.whl", "a.tar.gz", "-f wheels", "--req more.txt")),
        *((line, True) for line in ("a @ git+file:///repo", "-i file:./index", "-r file:more.txt", "dir/")),
    ],
)
def test_attack_34_a_requirement_file_that_reads_what_is_not_known_is_keyed_by_all_files(
    line: str, whole_tree: bool
) -> None:
    (dependencies,) = of({"requirements.txt": f"attrs\n{line}\npytest\n", "app.py": "", "test_app.py": ""}).layers
    assert dependencies.whole_tree is whole_tree


def test_a_requirement_file_that_installs_the_project_is_for_the_project() -> None:
    files = {"requirements-dev.txt": "-e .\npytest\n", "setup.py": "", "mill.py": ""}
    found = of(files)
    assert "dependencies" not in layers(found)
    assert "python3 -m pip install -r requirements-dev.txt" in layers(found)["project"].commands
    assert layers(found)["project"].whole_tree


@pytest.mark.parametrize(
    ("name", "lock"),
    [
        ("uv.lock", '[[package]]\nname = "attrs"\nversion = "23.2.0"\nsource = { registry = "https://x" }\n'
                    '[[package]]\nname = "mill"\nversion = "1"\nsource = { editable = "." }\n'),
        ("poetry.lock", '[[package]]\nname = "attrs"\nversion = "23.2.0"\n[package.source]\ntype = "legacy"\n'
                        '[[package]]\nname = "mine"\nversion = "1"\n[package.source]\ntype = "git"\nurl = "x"\n'),
        ("pdm.lock", '[[package]]\nname = "attrs"\nversion = "23.2.0"\n'
                     '[[package]]\nname = "y"\nversion = "1"\npath = "y"'),
        ("pylock.toml", '[[packages]]\nname = "attrs"\nversion = "23.2.0"\n'),
        ("Pipfile.lock", '{"default": {"attrs": {"version": "==23.2.0"}, "local": {"path": "."}}}'),
    ],
)  # fmt: skip
def test_locks_pin_the_versions(name: str, lock: str) -> None:
    found = of({"pyproject.toml": PYPROJECT, name: lock, "mill.py": ""})
    dependencies = layers(found)["dependencies"]
    assert dependencies.commands[1] == "printf '%s\\n' attrs==23.2.0 > /tmp/troop-constraints.txt"
    assert "-c /tmp/troop-constraints.txt" in dependencies.commands[2]
    assert name in dependencies.keyed_by
    assert found.found == f"Python (pyproject.toml, {name})"


def test_a_lock_with_several_versions_of_a_package_pins_none_of_them() -> None:
    lock = "".join(f'[[package]]\nname = "attrs"\nversion = "{n}"\n' for n in (22, 23))
    assert "attrs==" not in commands(of({"pyproject.toml": PYPROJECT, "poetry.lock": lock, "a.py": ""}))


@pytest.mark.parametrize("lock", ["", "[[package", "{", "[1]", "package = 3", "[[package]]\nname = 1"])
def test_a_lock_that_can_not_be_read_pins_nothing(lock: str) -> None:
    for name in ("uv.lock", "Pipfile.lock"):
        assert "constraints" not in commands(of({"pyproject.toml": PYPROJECT, name: lock, "a.py": ""}))


def test_setup_cfg_tox_and_pipfile() -> None:
    cfg = "[metadata]\nname = mill\n[options]\ninstall_requires =\n    attrs\n"
    cfg += "[options.extras_require]\ntests =\n    pytest\n"
    found = of({"setup.cfg": cfg, "mill/__init__.py": ""})
    assert "attrs pytest >" in commands(found)
    assert "--no-deps -e '.[tests]'" in commands(found)
    tox = (
        "[testenv]\ndeps =\n    pytest  # runs them\n    py38: old\n    {env:X}\n    -r other.txt\ncommands = pytest\n"
    )
    assert "printf '%s\\n' pytest >" in commands(of({"tox.ini": tox, "a.py": ""}))
    pipfile = '[packages]\nattrs = "*"\n[dev-packages]\npytest = ">=7"\n'
    assert "attrs 'pytest>=7' >" in commands(of({"Pipfile": pipfile, "a.py": ""}))


def test_tests_without_any_manifest_get_pytest_where_it_can_be_had() -> None:
    (layer,) = of({"mill/num.py": "", "tests/test_num.py": ""}).layers
    assert layer.optional
    assert layer.commands == ("python3 -c 'import pytest' 2>/dev/null || python3 -m pip install pytest",)


def test_a_byte_order_mark_and_a_broken_manifest() -> None:
    assert "attrs>=20" in commands(of({"pyproject.toml": "\ufeff" + PYPROJECT, "a.py": ""}))
    found = of({"pyproject.toml": "[project", "a.py": ""})
    assert "pyproject.toml is not TOML" in found.notes[0]
    hostile = '[project]\nname = "a"\ndependencies = ["x\\n-e .", "--index-url evil", "; rm -rf /", 3]\n'
    assert "evil" not in commands(of({"pyproject.toml": hostile, "a.py": ""}))


def test_a_monorepo_is_built_folder_by_folder() -> None:
    files = {f"packages/{name}/pyproject.toml": PYPROJECT.replace("mill", name) for name in ("a", "b")}
    found = of({**files, "packages/a/src/apkg/__init__.py": "", "examples/x/pyproject.toml": PYPROJECT})
    said = commands(found)
    assert "-e './packages/a[test]'" in said
    assert "-e './packages/b[test]'" in said
    assert "examples" not in said


def test_projects_that_depend_on_each_other_are_taken_from_the_repository() -> None:
    """Not from an index, where anybody may have published something under their names."""
    root = (
        '[project]\nname = "mono"\nversion = "0"\ndependencies = ["mono-a", "attrs"]\n[tool.uv.workspace]\n'
        'members = ["packages/*"]\nexclude = ["packages/old"]\n'
    )
    b = PYPROJECT.replace('"mill"', '"mono-b"').replace('"attrs>=20"', '"attrs", "Mono_A>=1"')
    files = {
        "pyproject.toml": root,
        "packages/a/pyproject.toml": PYPROJECT.replace('"mill"', '"mono-a"'),
        "packages/b/pyproject.toml": b,
        "packages/old/pyproject.toml": PYPROJECT,
        "packages/a/src/mono_a/__init__.py": "",
    }
    said = commands(of(files))
    assert "mono-a" not in said.lower().replace("_", "-")
    assert "attrs" in said
    assert "--no-deps -e './packages/a[test]'" in said
    assert "--no-deps -e './packages/b[test]'" in said
    assert "old" not in said
    del files["pyproject.toml"]
    assert "mono-a" not in commands(of(files)).lower().replace("_", "-")


@pytest.mark.parametrize(
    "told",
    [
        '[tool.uv.sources]\nmono-a = {path = "./libs/deep/a"}\nmono-b = {path = "../b"}\nc = {git = "https://h.example/c"}\n',
        '[tool.poetry.group.dev.dependencies]\nmono-a = {path = "libs/deep/a/", develop = true}\n',
    ],
)
def test_what_the_root_depends_on_by_a_path_is_installed(told: str) -> None:
    nested = PYPROJECT.replace('"mill"', '"mono-a"')
    files = {"pyproject.toml": PYPROJECT.replace("attrs>=20", "mono-a") + told, "libs/deep/a/pyproject.toml": nested}
    said = commands(of({**files, "a.py": ""}))
    assert "-e './libs/deep/a[test]'" in said
    assert " mono-a " not in said


# -- Node


def package(**more: object) -> str:
    return json.dumps({"name": "x", "dependencies": {"left-pad": "1"}, **more})


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"package-lock.json": "{}"}, "npm ci --ignore-scripts"),
        ({"npm-shrinkwrap.json": "{}"}, "npm ci --ignore-scripts"),
        ({}, "npm install --ignore-scripts"),
        ({"pnpm-lock.yaml": "lockfileVersion: '9.0'"}, "npm install -g pnpm@9"),
        ({"pnpm-lock.yaml": "lockfileVersion: '6.0'"}, "npm install -g pnpm@8"),
        ({"pnpm-lock.yaml": ""}, "pnpm install --frozen-lockfile --ignore-scripts"),
        ({"pnpm-workspace.yaml": ""}, "pnpm install --ignore-scripts"),
        ({"yarn.lock": ""}, "yarn install --frozen-lockfile"),
        ({"yarn.lock": "", ".yarnrc.yml": ""}, "yarn install --immutable"),
    ],
)
def test_the_package_managers_of_node(files: dict[str, str], expected: str) -> None:
    found = of({"package.json": package(), "index.js": "", **files})
    assert expected in commands(found)
    assert set(files) <= set(found.layers[0].keyed_by)
    assert found.layers[0].programs == ("node", "npm")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"bun.lock": "{}"}, "bun install --frozen-lockfile --ignore-scripts\nbun pm trust --all || true"),
        ({"bun.lockb": ""}, "npm install -g bun@1\nbun install --frozen"),
        (
            {"package.json": package(packageManager="bun@1.2.3")},
            "npm install -g bun@1.2.3\nbun install --ignore-scripts",
        ),
    ],
)
def test_bun_needs_no_npm_where_the_image_has_bun(files: dict[str, str], expected: str) -> None:
    found = of({"package.json": package(), "index.js": "", **files})
    assert expected in commands(found)
    assert set(files) <= set(found.layers[0].keyed_by)
    assert found.layers[0].programs == ()
    assert found.notes == ()


def test_deno_installs_by_its_lock_and_fetches_what_tests_import() -> None:
    found = of({"deno.json": "{}", "deno.lock": "{}", "src/a.ts": "", "src/a_test.ts": "", "it's.test.tsx": ""})
    assert found.found == "Deno (deno.json, deno.lock)"
    (layer,) = found.layers
    assert layer.commands == (
        "command -v deno >/dev/null 2>&1 || npm install -g deno@2",
        "deno install --frozen",
        "deno install --frozen --entrypoint './it'\"'\"'s.test.tsx' ./src/a_test.ts || true",
    )
    assert layer.keyed_by == ("deno.json", "deno.lock")
    assert found.setup == "npm install -g deno@2 && deno install --frozen"
    inner = of({"web/deno.jsonc": "{}", "web/package.json": package(), "web/a.js": "", "b.test.js": ""})
    assert "cd web/ && deno install" in commands(inner)
    assert "entrypoint" not in commands(inner)


def test_a_lock_of_npm_beside_one_of_bun_is_npms() -> None:
    found = of({"package.json": package(), "bun.lock": "{}", "package-lock.json": "{}", "index.js": ""})
    assert "npm ci" in commands(found)


def test_npm_installs_what_only_an_older_one_takes_and_builds_in_the_same_folder() -> None:
    found = of({"web/package.json": package(), "web/index.js": ""})
    install, rebuild = layers(found)["dependencies"].commands  # of one shell
    assert install.startswith("cd web/ && { npm install --ignore-scripts || ")
    assert install.endswith("--legacy-peer-deps; }; }")
    assert rebuild == "npm rebuild || true"


@pytest.mark.parametrize(
    ("logged", "code"),
    [
        ("verbose stack Error\n24 error code ERESOLVE\n", 0),
        ("24 error code EUSAGE\n", 0),
        ("verbose stack TypeError: Cannot read properties of null (reading 'edgesOut')\n", 0),
        ("24 error code E404\n", 1),
    ],
)
def test_when_npm_is_asked_again(tmp_path: Path, logged: str, code: int) -> None:
    npm = tmp_path / "npm"
    fails = f'printf %s {shlex.quote(logged)} >"$HOME"/.npm/_logs/a.log; exit 1'
    npm.write_text(f'#!/bin/sh\ncase "$*" in *legacy*) exit 0;; esac\n{fails}\n')
    npm.chmod(0o755)
    (tmp_path / ".npm/_logs").mkdir(parents=True)
    (install, _) = layers(of({"package.json": package(), "index.js": ""}))["dependencies"].commands
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)}
    assert subprocess.run(["sh", "-c", install], env=environment, check=False).returncode == code


def test_the_manager_that_package_json_names() -> None:
    named = package(packageManager="pnpm@8.15.1+sha256.00")
    assert "install -g pnpm@8.15.1\n" in commands(of({"package.json": named, "a.js": ""}))


@pytest.mark.parametrize(("version", "expected"), [("10.4.1", "pnpm@10.4.1\n"), ("^10.0.0", "pnpm@9\n")])
def test_the_manager_that_developers_use(version: str, expected: str) -> None:
    named = package(devEngines={"packageManager": {"name": "pnpm", "version": version}})
    assert f"install -g {expected}" in commands(of({"package.json": named, "a.js": ""}))
    assert "npm ci" in commands(of({"package.json": package(devEngines=[1]), "package-lock.json": "", "a.js": ""}))


def test_a_package_without_dependencies_needs_nothing() -> None:
    assert of({"package.json": '{"scripts": {"test": "node --test"}}', "a.js": ""}).layers == ()
    assert "is not a JSON object" in of({"package.json": "[", "a.js": ""}).notes[0]


def test_workspaces_are_keyed_by_all_their_manifests() -> None:
    files = {"package.json": package(workspaces=["packages/*"]), "packages/a/package.json": package(), "a.ts": ""}
    assert set(of(files).layers[0].keyed_by) == {"package.json", "packages/a/package.json"}


def test_a_package_that_exports_what_it_builds_is_built() -> None:
    text = package(main="./dist/index.js", scripts={"build": "tsc"})
    build = layers(of({"package.json": text, "src/index.ts": ""}))["build"]
    assert build.commands == ("npm run build",)
    assert build.optional
    assert build.whole_tree
    assert "build" not in layers(of({"package.json": text, "dist/index.js": ""}))


# -- others


def test_go_downloads_and_compiles() -> None:
    found = of({"go.mod": "module x\nrequire y v1.0.0\n", "go.sum": "", "main.go": ""})
    assert layers(found)["dependencies"].commands == ("go mod download",)
    assert layers(found)["dependencies"].keyed_by == ("go.mod", "go.sum")
    assert layers(found)["compiled packages"].optional
    assert found.tests == (("go", "test", "./..."),)
    vendored = of({"go.mod": "module x\nrequire y v1.0.0\n", "vendor/modules.txt": "", "main.go": ""})
    assert "download" not in commands(vendored)
    nested = of({"api/go.mod": "module x\nrequire y v1.0.0\n", "api/main.go": ""})
    assert "cd api/ && go mod download" in commands(nested)


def test_rust_fetches_what_is_locked() -> None:
    assert "cargo fetch --locked" in commands(of({"Cargo.toml": "", "Cargo.lock": "", "src/lib.rs": ""}))
    assert "--locked" not in commands(of({"Cargo.toml": "", "src/lib.rs": ""}))


def test_ruby_and_java() -> None:
    ruby = of({"Gemfile": "gem 'rspec'", "Gemfile.lock": "", "lib/a.rb": "", "a.gemspec": ""})
    assert "BUNDLE_FROZEN=true bundle install" in commands(ruby)
    assert ruby.tests == (("bundle", "exec", "rspec"),)
    assert "a.gemspec" in ruby.layers[0].keyed_by
    maven = of({"pom.xml": "", "sub/pom.xml": "", "A.java": ""})
    assert maven.layers[0].keyed_by == ("pom.xml", "sub/pom.xml")
    assert maven.tests == (("mvn", "-o", "-B", "-fae", "test"),)
    assert "-Dtest='*#noSuchTest'" in commands(maven), "with a class chosen, Surefire loads what runs the tests"
    assert "sh ./mvnw" in commands(of({"pom.xml": "", "mvnw": "", "A.java": ""}))
    gradle = of({"build.gradle.kts": "", "gradlew": "", "gradle/libs.versions.toml": "", "A.kt": ""})
    assert "sh ./gradlew --no-daemon -q testClasses" in commands(gradle)
    assert "gradle/libs.versions.toml" in gradle.layers[0].keyed_by


def test_php_installs_what_composer_names() -> None:
    found = of({"composer.json": "{}", "composer.lock": "", "src/A.php": "", "web.js": ""})
    assert found.found == "PHP (composer.json, composer.lock)"
    assert "composer install --no-interaction" in commands(found)
    assert found.layers[0].programs == ("composer",)
    assert not found.layers[0].whole_tree
    assert of({"composer.json": '{"autoload": {"classmap": ["src"]}}', "src/A.php": ""}).layers[0].whole_tree
    assert of({"composer.json": "{}", "vendor/autoload.php": "", "src/A.php": ""}).layers == ()


def test_javas_wrappers_run_the_tests_too_whether_or_not_they_are_executable() -> None:
    maven = of({"pom.xml": "", "mvnw": "", ".mvn/wrapper/maven-wrapper.properties": "", "A.java": ""})
    assert maven.tests == (("sh", "./mvnw", "-o", "-B", "-fae", "test"),)
    assert ".mvn/wrapper/maven-wrapper.properties" in maven.layers[0].keyed_by
    assert maven.layers[0].programs == ("java",)
    gradle = of({"build.gradle": "", "gradlew": "", "gradle/wrapper/gradle-wrapper.properties": "", "A.java": ""})
    assert gradle.tests == (("sh", "./gradlew", "--offline", "--no-daemon", "--continue", "test"),)
    assert "gradle/wrapper/gradle-wrapper.properties" in gradle.layers[0].keyed_by
    assert gradle.layers[0].programs == ("java",)
    nested = of({"build.gradle": "", "tool/gradlew": "", "A.java": ""})
    assert nested.tests == (("gradle", "--offline", "--no-daemon", "--continue", "test"),)


def test_a_lesser_language_must_not_stop_the_build() -> None:
    files = {"pyproject.toml": PYPROJECT, "a.py": "", "b.py": "", "package.json": package(), "docs.js": ""}
    found = of(files)
    by_source = {layer.source: layer.optional for layer in found.layers}
    assert by_source == {"pyproject.toml": False, "package.json": True}
    assert found.found == "Python (pyproject.toml); Node (package.json)"
    assert found.setup.startswith("python3 -m pip install")


# -- hints of CI


WORKFLOW = """
on: [push]
jobs:
  test:
    strategy:
      matrix:
        python-version: ["3.11", "3.12"]
    steps:
      - uses: actions/checkout@v4
      - run: sudo apt-get install -y libpq-dev $EXTRA
      - run: |
          pip install -r requirements/ci-only.txt
          pip install -e .[fast,absent]
          poetry run pytest --cov=mill \\
            tests/unit
      - run: pytest tests | tee log
      - run: npm test
        working-directory: web
"""


def test_what_ci_installs_and_how_it_runs_the_tests() -> None:
    files = {"pyproject.toml": PYPROJECT, "requirements/ci-only.txt": "flaky\n", "mill/__init__.py": "",
             ".github/workflows/ci.yml": WORKFLOW, ".github/workflows/release.yml": "run: x"}  # fmt: skip
    found = of(files)
    assert "-e '.[test,fast]'" in commands(found)
    assert "-r requirements/ci-only.txt" in commands(found)
    assert found.tests == (("python3", "-m", "pytest", "tests/unit"),)
    assert found.found.endswith("; hints in .github/workflows/ci.yml")
    assert found.setup.startswith("apt-get update && apt-get install -y --no-install-recommends libpq-dev && python3")


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "jobs: 3",
            "jobs: {a: 3}",
            "jobs: {a: {steps: 3}}",
            "jobs: {a: {steps: [3, {run: 'x \"'}]}}",
            "- a\n: b",
        ),
        "jobs: {a: {strategy: {matrix: {python: [3.12]}}, steps: [{uses: x, with: {python-version: 3.12}}]}}",
    ],
)
def test_a_workflow_that_says_nothing_of_use_is_not_named(text: str) -> None:
    files = {"pyproject.toml": PYPROJECT, "a.py": "", ".github/workflows/ci.yml": text}
    assert of(files).found == "Python (pyproject.toml)"


def test_a_bomb_of_aliases_is_not_opened() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n}\n  [{', '.join(f'*a{n - 1}' for _ in range(9))}]" for n in range(1, 12)]
    files = {"go.mod": "module x\n", "a.go": "", ".github/workflows/ci.yml": "\n".join(lines)}
    assert of(files).tests == (("go", "test", "./..."),)


def test_a_workflow_with_aliases_tells_nothing() -> None:
    names = "abcdefghijklmnopqrstuvwxyz"
    rows = [f"{b}: &{b} [{', '.join([f'*{a}'] * 9)}]" for a, b in itertools.pairwise(names)]
    bomb = "\n".join(["a: &a [3]", *rows, "jobs: {t: {strategy: {matrix: {python: [*z]}}, steps: [{run: pytest}]}}"])
    assert of({".github/workflows/ci.yml": bomb, "a.txt": ""}).tests == ()


def test_a_workflow_with_an_anchor_alone_is_read() -> None:
    text = "on: &on\n  push: {}\njobs: {t: {steps: [{run: pytest -q}]}}\n"
    assert of({".github/workflows/ci.yml": text}).tests == (("python3", "-m", "pytest", "-q"),)


def test_a_folder_with_a_space_is_one_word_of_the_shell() -> None:
    found = of({"my app/package.json": package(dependencies={"a": "1"}), "our go/go.mod": "require x v1\n"})
    assert "cd 'my app/' && { npm" in commands(found)
    assert "cd 'our go/' && go mod" in commands(found)


def test_pnpm_rebuilds_in_the_folder_that_it_is_in() -> None:
    found = of({"web/package.json": package(dependencies={"a": "1"}), "web/pnpm-lock.yaml": ""})
    *_, install, rebuild = layers(found)["dependencies"].commands  # of one shell
    assert install.startswith("cd web/ && pnpm install")
    assert rebuild == "pnpm rebuild || true"


COMMANDS = [
    ("bundle exec rspec spec", True),
    ("bundle exec rake test", True),
    ("bundle exec rake gem:install", False),
    ("bin/rails db:test:prepare test", True),
    ("bin/rails db:migrate", False),
    ("bundle exec rake", False),  # whose default may ask for a style
    ("bundle exec rdoc --op docs", False),
    ("mvn -B verify", True),
    ("mvn clean compile -Dmaven.test.skip=true", False),
    ("mvn package -DskipTests", False),
    ("mvn test -DskipTests=false", True),
    ("mvn --errors --show-version", False),
    ("./gradlew check", True),
    ("./gradlew build -x test", False),
    ("vendor/bin/phpunit --testdox", True),
    ("prove -lr t", True),
    ("busted", True),
    ("make test", True),
    ("make docs", False),
]


@pytest.mark.parametrize(("command", "tests"), COMMANDS)
def test_what_ci_runs_besides_tests_is_none(command: str, tests: bool) -> None:
    text = f"jobs: {{t: {{steps: [{{run: '{command}'}}]}}}}\n"
    assert of({".github/workflows/ci.yml": text}).tests == ((tuple(command.split()),) if tests else ())


# -- hints of tox

TOX = """
[tox]
envlist = py3

[testenv]
setenv =
    DJANGO_SETTINGS_MODULE = tests.settings
    PLACE = {envtmpdir}
    py312: ODD = 1
commands =
    {envpython} -Wall -m django test {posargs:tests}
    - python -m pytest {posargs}
    py312: pytest --old
    coverage run --branch -m django test --settings=tests.settings {posargs}
    coverage report
    pytest {env:WHERE}
    python -c "print(1)"
"""


def test_the_commands_of_tox_that_run_tests() -> None:
    variables = ("env", "DJANGO_SETTINGS_MODULE=tests.settings")
    assert of({"tox.ini": TOX, "tests/test_a.py": ""}).tests == (
        (*variables, "python3", "-Wall", "-m", "django", "test", "tests"),
        (*variables, "python3", "-m", "pytest"),
        (*variables, "python3", "-m", "django", "test", "--settings=tests.settings"),
    )
    legacy = f"[tool.tox]\nlegacy_tox_ini = '''{TOX}'''\n"
    assert of({"pyproject.toml": legacy, "tests/test_a.py": ""}).tests == of({"tox.ini": TOX, "test_a.py": ""}).tests


@pytest.mark.parametrize(
    "text",
    ["[testenv", "[testenv]\nchangedir = docs\ncommands = pytest\n", "[testenv]\ncommands = pytest '\n", "[tox]\n"],
)
def test_a_tox_file_that_tells_nothing(text: str) -> None:
    assert of({"tox.ini": text, "test_a.py": ""}).tests == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("python -Wall tests/runtests.py -v2", "python3 -Wall tests/runtests.py -v2"),
        ("python manage.py test --parallel", "python3 manage.py test --parallel"),
        ("django-admin test --settings=a.b", "python3 -m django test --settings=a.b"),
        ("python manage.py migrate", None),
        ("python -c 'import manage'", None),
        ("python -m build", None),
    ],
)
def test_djangos_tests_in_a_workflow(line: str, expected: str | None) -> None:
    workflow = f"jobs:\n  test:\n    steps:\n      - run: {line}\n"
    found = of({".github/workflows/ci.yml": workflow, "setup.py": ""}).tests
    assert found == ((tuple(expected.split()),) if expected else ())


def test_a_pylock_alone_is_installed_as_its_markers_say() -> None:
    lock = "".join(
        f'[[packages]]\nname = "{name}"\nversion = "1.0"\n{more}\n'
        for name, more in (
            ("attrs", ""),
            ("pywin32", "marker = \"sys_platform == 'win32'\""),
            ("pytest", "marker = \"'dev' in dependency_groups\""),
            ("mine", 'directory = { path = "." }'),
            ("forked", 'vcs = { type = "git", url = "https://x" }'),
        )
    )
    found = of({"pylock.toml": lock, "mill/num.py": "", "tests/test_num.py": ""})
    assert found.found == "Python (pylock.toml)"
    written = layers(found)["dependencies"].commands[0]
    assert "attrs==1.0 'pywin32==1.0; sys_platform == '\"'\"'win32'\"'\"'' pytest==1.0 >" in written
    assert "mine" not in written
    assert "forked" not in written
    assert "dependencies" not in layers(of({"pylock.toml": "[[packages", "a.py": "", "test_a.py": ""}))


@pytest.mark.parametrize("name", ["pixi.toml", "pyproject.toml"])
def test_of_pixi_what_pypi_has_is_installed_and_the_rest_is_told(name: str) -> None:
    table = "" if name == "pixi.toml" else "tool.pixi."
    text = (
        f'[{table}dependencies]\npython = ">=3.11"\nnumpy = "*"\ngdal = ">=3"\n'
        f'[{table}pypi-dependencies]\nattrs = ">=23"\nmill = {{ path = ".", editable = true }}\n'
        f'[{table}feature.test.pypi-dependencies]\npytest = "*"\n'
        f'[{table}feature.docs.pypi-dependencies]\nsphinx = "*"\n'
    )
    found = of({name: text, "mill/num.py": "", "tests/test_num.py": ""})
    assert "'attrs>=23' pytest >" in commands(found)
    assert found.notes == (
        f"{name} takes numpy, gdal from conda's channels: they are not installed here; an image that has them, or "
        "`setup`, can be named in .troop.toml",
    )


def test_files_of_conda_alone_are_told_of() -> None:
    files = {"environment.yml": "dependencies:\n  - numpy\n", "mill/num.py": "", "tests/test_num.py": ""}
    (note,) = of(files).notes
    assert note.startswith("environment.yml lists packages of conda's channels")
    assert of({**files, "requirements.txt": "numpy\n"}).notes == ()
