"""The built wheel: everything that the packages read lies in it, and `kernels` by our name harms nobody."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tracked files alone, without the network: the build backend is in our environment."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    archive = subprocess.run(["git", "stash", "create"], cwd=ROOT, capture_output=True, text=True, check=True)
    commit = archive.stdout.strip() or "HEAD"  # the work tree as it is, if it differs
    tar = subprocess.run(["git", "archive", commit], cwd=ROOT, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=tar, check=True)
    argv = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    built = subprocess.run(argv, cwd=source, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    (found,) = out.glob("troop_bot-*.whl")
    return found


def test_holds_every_file_of_the_packages(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "bot", "engine", "kernels"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    packed = set(zipfile.ZipFile(wheel).namelist())
    expected = {name for name in tracked if (ROOT / name).exists() and not name.startswith("bot/capuchin/")}
    assert len(expected) > 200
    assert not expected - packed
    assert not {name for name in packed if name.startswith("bot/capuchin/")}, "who installs Troop trains no model"


def test_only_our_packages_and_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        (info,) = (name for name in tops if name.endswith(".dist-info"))
        assert tops == {"bot", "engine", "kernels", info}
        assert "troop = bot.cli.start:main" in archive.read(f"{info}/entry_points.txt").decode()


def test_transformers_loads_with_our_kernels_installed(wheel: Path, tmp_path: Path) -> None:
    """`transformers` probes for a package named `kernels`: ours must not be taken for it."""
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = (
        "import kernels, pathlib, torch, transformers\n"
        f"assert pathlib.Path(kernels.__file__).is_relative_to({str(tmp_path)!r})\n"
        "config = transformers.LlamaConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1,"
        " num_attention_heads=2, vocab_size=64)\n"
        "model = transformers.AutoModelForCausalLM.from_config(config)\n"
        "assert model(torch.tensor([[1, 2, 3]])).logits.shape == (1, 3, 64)\n"
    )
    argv = [sys.executable, "-c", code]
    done = subprocess.run(
        argv, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path), "PATH": ""}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_demo_says_in_one_line_what_it_needs(wheel: Path, tmp_path: Path) -> None:
    installed, empty = tmp_path / "installed", tmp_path / "empty"
    zipfile.ZipFile(wheel).extractall(installed)
    empty.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", "from bot.cli.start import main; main()", "demo"],
        cwd=empty,
        env={"PYTHONPATH": str(installed), "PATH": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stdout == ""
    (said,) = done.stderr.splitlines()
    assert "source tree" in said
    assert "`make demo`" in said
    assert not list(empty.iterdir())
