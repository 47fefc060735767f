"""From where a repository's packages are imported, as its manifests say."""

import pytest

from bot.recipe.import_roots import import_roots


def roots(files: dict[str, str]) -> tuple[str, ...]:
    return import_roots(sorted(files), files.get)


@pytest.mark.parametrize(
    ("manifest", "text", "package", "root"),
    [
        ("pyproject.toml", '[tool.setuptools.package-dir]\n"" = "python"', "python/pkg", "python"),
        ("pyproject.toml", '[tool.setuptools.package-dir]\npkg = "code/pkg"', "code/pkg", "code"),
        ("pyproject.toml", '[tool.setuptools.packages.find]\nwhere = ["code", "more"]', "more/pkg", "more"),
        ("pyproject.toml", '[tool.poetry]\npackages = [{include = "pkg", from = "code"}]', "code/pkg", "code"),
        ("pyproject.toml", '[tool.hatch.build.targets.wheel]\npackages = ["code/pkg"]', "code/pkg", "code"),
        ("pyproject.toml", '[tool.hatch.build]\nsources = ["code"]', "code/pkg", "code"),
        ("pyproject.toml", '[tool.hatch.build.targets.wheel.sources]\n"code" = ""', "code/pkg", "code"),
        ("pyproject.toml", '[tool.pdm.build]\npackage-dir = "code"', "code/pkg", "code"),
        ("pyproject.toml", '[tool.maturin]\npython-source = "code"', "code/pkg", "code"),
        ("pyproject.toml", '[tool.uv.build-backend]\nmodule-root = "code"', "code/pkg", "code"),
        ("pyproject.toml", '[tool.pytest.ini_options]\npythonpath = "code other"', "other/pkg", "other"),
        ("setup.cfg", "[options]\npackage_dir =\n    = code\n", "code/pkg", "code"),
        ("setup.cfg", "[options.packages.find]\nwhere = code\n", "code/pkg", "code"),
        ("setup.py", "setup(package_dir={'': 'code'})", "code/pkg", "code"),
        ("setup.py", "setup(packages=find_packages(where='code'))", "code/pkg", "code"),
        ("setup.py", 'setup(packages=find_namespace_packages("code"))', "code/pkg", "code"),
    ],
)
def test_what_a_manifest_names(manifest: str, text: str, package: str, root: str) -> None:
    assert roots({manifest: text, f"{package}/__init__.py": ""}) == ("", root)
    nested = {f"packages/a/{manifest}": text, f"packages/a/{package}/__init__.py": ""}
    assert roots(nested) == ("", f"packages/a/{root}")


def test_a_monorepo() -> None:
    files = {
        "pyproject.toml": '[tool.uv.workspace]\nmembers = ["packages/*"]\n',
        "packages/a/pyproject.toml": "[project]\nname = 'a'\n",
        "packages/a/src/apkg/__init__.py": "",
        "packages/b/pyproject.toml": "[tool.flit.module]\nname = 'bpkg'\n",
        "packages/b/bpkg/__init__.py": "",
        "packages/c/setup.py": "",
        "packages/c/cmod.py": "",
        "packages/d/setup.py": "",
        "packages/d/types.py": "",
        "packages/e/package.json": "{}",
        "packages/e/x.py": "",
        "tests/fixtures/f/setup.py": "",
        "tests/fixtures/f/fpkg/__init__.py": "",
    }
    assert roots(files) == ("", "packages/a/src", "packages/b", "packages/c")


def test_the_usual_folders_need_no_manifest() -> None:
    assert roots({"src/pkg/__init__.py": "", "lib/x.py": "", "other/y.py": ""}) == ("", "src", "lib")
    assert roots({"a.js": ""}) == ("",)


def test_a_part_with_tests_of_its_own_needs_no_manifest() -> None:
    files = {
        "sub/apkg/__init__.py": "",
        "sub/tests/test_a.py": "",
        "docs/x/__init__.py": "",
        "docs/tests/test_x.py": "",
    }
    assert roots(files) == ("", "sub")
    within = {"pkg/__init__.py": "", "pkg/sub/__init__.py": "", "pkg/tests/test_a.py": "", "pkg/tests/__init__.py": ""}
    assert roots(within) == ("",), "the tests are in the package"
    assert roots({"sub/a.py": "", "sub/tests/__init__.py": "", "sub/tests/test_a.py": ""}) == ("",)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("pytest.ini", "[pytest]\npythonpath = code\n"),
        ("tox.ini", "[tox]\n[pytest]\npythonpath =\n    .\n    code\n"),
        ("setup.cfg", "[tool:pytest]\npythonpath = code\n"),
    ],
)
def test_pytests_own_files_name_roots(name: str, text: str) -> None:
    assert roots({name: text, "code/pkg/__init__.py": ""}) == ("", "code")
    for broken in ("[pytest", text.partition("=")[0]):
        assert roots({name: broken, "code/pkg/__init__.py": ""}) == ("",)


@pytest.mark.parametrize(
    "text",
    [
        '[tool.setuptools.package-dir]\n"" = "../../.."',
        "[tool",
        '[tool.poetry]\npackages = "x"',
        "[tool]\nhatch = 3",
        "",
    ],
)
def test_nonsense_names_nothing(text: str) -> None:
    assert roots({"pyproject.toml": text, "pkg/__init__.py": ""}) == ("",)
