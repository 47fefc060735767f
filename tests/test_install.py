"""What `make install` takes: whole locks, a Python that fits, a torch that suits the machine. Nothing is downloaded."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from deploy import install, lock

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
LOCKS = {path.stem: lock.blocks(path.read_text()) for path in sorted(lock.LOCKS.glob("*.txt"))}
# The others: run.txt, torch.txt and dev.txt.
OF_EXTRA = {"gpu": ["run", "torch"]} | {name: ["run", "torch", name] for name in ("bench", "cluster", "recurrent")}


def versions(*names: str) -> dict[str, set[str]]:
    """What these locks pin: package -> its versions (two, where Pythons differ)."""
    found: dict[str, set[str]] = {}
    for entry in (entry for name in names for entry in LOCKS[name]):
        requirement = Requirement(entry)
        found.setdefault(canonicalize_name(requirement.name), set()).update(s.version for s in requirement.specifier)
    return found


# -- the locks --


@pytest.mark.parametrize("name", LOCKS)
def test_every_line_pins_one_version_with_hashes(name: str) -> None:
    text = (lock.LOCKS / f"{name}.txt").read_text()
    bare = "".join(line for line in text.splitlines(keepends=True) if not line.startswith("#"))
    assert bare == "".join(LOCKS[name].values())
    for entry, block in LOCKS[name].items():
        assert [specifier.operator for specifier in Requirement(entry).specifier] == ["=="]
        assert re.search(r"--hash=sha256:[0-9a-f]{64}$", block)


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_the_locks_hold_what_pyproject_demands(extra: str) -> None:
    pinned = versions(*OF_EXTRA.get(extra, ["run", "torch", *(["dev"] if extra else [])]))
    for text in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        requirement = Requirement(text)
        assert pinned.get(canonicalize_name(requirement.name)), f"{text} is in no lock: make lock"
        for version in pinned[canonicalize_name(requirement.name)]:
            assert requirement.specifier.contains(version.split("+")[0]), f"{version} is not {text}: make lock"


def test_no_two_locks_disagree() -> None:
    together = versions(*(name for name in LOCKS if name not in {"torch-cpu", "tools"}))
    assert {name for name, found in together.items() if len(found) > 1} <= {"numpy", "contourpy"}  # by Python's version
    assert versions("torch-cpu")["torch"] == {version + "+cpu" for version in together["torch"]}


def test_a_cpu_build_for_each_python_and_processor() -> None:
    (block,) = LOCKS["torch-cpu"].values()
    assert block.count("--hash=") >= 2 * (1 + install.NEWEST[1] - install.OLDEST[1])


def test_triton_is_what_torch_demands() -> None:
    """PyPI's torch demands one triton exactly; the tests take the same beside a CPU build, which demands none."""
    assert versions("torch")["triton"] == versions("dev")["triton"]


def test_the_demo_takes_no_cuda_and_nothing_of_the_tests() -> None:
    names = set(versions("run"))
    assert not [name for name in names if lock.CUDA.match(f"{name}==")]
    assert not names & {"pytest", "playwright", "mypy", "ruff", "matplotlib"}


# -- the Python --


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 1), (3, 13, 9), (3, 14, 8)])
def test_takes_pythons_that_the_locks_are_for(version: tuple[int, ...]) -> None:
    assert install.refusal(version) == ""


def test_old_pythons_can_read_the_installer() -> None:
    ast.parse(Path(install.__file__).read_text(), feature_version=(3, 6))


@pytest.mark.parametrize("found", ["python3.14", "python3.12", ""])
def test_a_refusal_names_the_newest_python_that_is_there(found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install.shutil, "which", lambda name: name if name in (found, "python3.11") and found else None)
    start, _, how = install.refusal((3, 15, 0)).partition("; to get it: ")
    assert start == f"needs Python 3.11 to 3.14, this is 3.15: make install PYTHON={found or 'python3.14'}"
    assert how.startswith("apt-get install python3.14-venv, dnf install python3.14, or ") is not bool(found)


@pytest.mark.parametrize("version", [(3, 9, 18), (3, 15, 0)])
def test_make_refuses_another_python_before_it_makes_anything(version: tuple[int, ...], tmp_path: Path) -> None:
    python, venv = tmp_path / "python", tmp_path / "venv"
    run = "del sys.argv[0]; runpy.run_path(sys.argv[0], run_name='__main__')"
    code = f"import runpy, sys; sys.version_info = {version}; {run}"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
    python.chmod(0o755)
    (tmp_path / "python3.14").symlink_to(sys.executable)
    done = make("demo", f"VENV={venv}", f"PYTHON={python}", path=f"{tmp_path}:{os.environ['PATH']}")
    words = f"needs Python 3.11 to 3.14, this is {version[0]}.{version[1]}: make install PYTHON=python3.14"
    assert done.returncode != 0
    assert done.stderr.splitlines()[0] == words
    assert not venv.exists()


def test_an_environment_of_another_python_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "pyvenv.cfg").write_text("home = /usr/bin\nversion = 3.10.4\n")
    with pytest.raises(SystemExit, match=r"holds Python 3\.10, this is 3\.\d+: remove that folder first"):
        install.Environment(str(tmp_path)).make()


# -- make --


def make(*arguments: str, path: str = os.environ["PATH"]) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PATH": path}
    return subprocess.run(["make", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_the_demo_installs_less_than_the_tests(tmp_path: Path) -> None:
    demo, test = (make("--dry-run", target, f"VENV={tmp_path}").stdout for target in ("demo", "test"))
    first = [line for line in demo.splitlines() if "install.py" in line]
    assert len(first) == 1
    assert first[0].endswith("--torch auto --project editable run")
    assert [line for line in test.splitlines() if "install.py" in line][:1] == first
    assert re.search(r"install\.py \S+ \S+ --compile dev$", test, re.MULTILINE)


# -- torch --


class Fake(install.Environment):
    """An environment that notes what it is asked for; `cpu`: who has a CPU build, "configured", "index" or nobody."""

    def __init__(self, installed: str = "", cpu: str = "", error: str = "") -> None:
        super().__init__("nowhere")
        self.installed, self.cpu, self.error = installed, cpu, error
        self.asked: list[str] = []

    def torch(self) -> str:
        return self.installed

    def pip(self, command: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        (name,) = (
            (Path(argument).stem for argument in arguments if argument.endswith(".txt"))
            if command == "install"
            else ("",)
        )
        index = "index" if install.CPU_INDEX in arguments else "configured"
        self.asked.append(f"{name} {index}" if name == "torch-cpu" else name or command)
        if command == "install":
            assert "--require-hashes" in arguments
        found = name != "torch-cpu" or index == self.cpu
        error = "" if found else self.error or f"ERROR: {install.NOT_FOUND} for torch"
        return subprocess.CompletedProcess([], 0 if found else 1, stderr=error)


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(install, "has_nvidia_driver", lambda: request.param)


VERSION = install.pinned_torch()


@pytest.mark.parametrize(
    ("driver", "choice", "fake", "asked"),
    [
        (False, "auto", Fake(cpu="configured"), ["torch-cpu configured"]),
        (False, "auto", Fake(cpu="index"), ["torch-cpu configured", "torch-cpu index"]),
        (False, "auto", Fake(), ["torch-cpu configured", "torch-cpu index", "torch"]),
        (True, "auto", Fake(cpu="configured"), ["torch"]),
        (True, "auto", Fake(VERSION + "+cpu"), []),
        (False, "auto", Fake(VERSION), []),
        (False, "auto", Fake("2.0.0"), ["torch-cpu configured", "torch-cpu index", "uninstall", "torch"]),
        (True, "cpu", Fake(cpu="configured"), ["torch-cpu configured"]),
        (True, "cpu", Fake(VERSION + "+cpu"), []),
        (False, "cuda", Fake(), ["torch"]),
        (False, "cuda", Fake(VERSION + "+cpu"), ["uninstall", "torch"]),
    ],
    indirect=["driver"],
)
def test_torch(driver: None, choice: str, fake: Fake, asked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    install.install_torch(fake, choice)
    assert fake.asked == asked
    said = capsys.readouterr().out
    assert said.startswith(f"torch {VERSION}") or not asked
    assert ("3 GB" in said) == ("torch" in asked)


@pytest.mark.parametrize("driver", [False], indirect=True)
def test_a_cpu_build_that_no_lock_lists_is_refused(driver: None) -> None:
    with pytest.raises(SystemExit, match="DO NOT MATCH THE HASHES"):
        install.install_torch(Fake(error="ERROR: THESE PACKAGES DO NOT MATCH THE HASHES"), "cpu")


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Failed to establish a new connection: [Errno -3] Temporary failure in name resolution", "HTTPS_PROXY"),
        ("pip._vendor.urllib3.exceptions.ReadTimeoutError: Read timed out.", "HTTPS_PROXY"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] self-signed", "PIP_CERT"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
    ],
)
@pytest.mark.parametrize("driver", [False], indirect=True)
def test_where_pip_reaches_nothing_no_other_build_is_tried(driver: None, said: str, words: str) -> None:
    fake = Fake(error=f"{said}\nERROR: {install.NOT_FOUND} for torch\n")
    with pytest.raises(SystemExit, match=words):
        install.install_torch(fake, "auto")
    assert fake.asked == ["torch-cpu configured"]


# -- the name --


def test_nobody_is_told_to_install_a_strangers_package() -> None:
    """`troop` on PyPI is not this project."""
    assert PROJECT["name"] != "troop"
    assert PROJECT["scripts"] == {"troop": "bot.cli.start:main"}
    extra = "|".join(EXTRAS)
    wrong = re.compile(rf"\btroop\\?\[({extra})|\bpip3? install (?:-\S+ )*['\"]?troop(?![\w/-])")
    assert wrong.search("pip install 'troop[parallel]'")
    assert wrong.search("pip install -U troop")
    assert not wrong.search("TROOP_BOT=troop[bot] pip install '.[parallel]'")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for path in (ROOT / name for name in tracked.splitlines()):
        if path == Path(__file__) or not path.is_file():
            continue
        found = wrong.search(path.read_bytes().decode(errors="ignore"))
        assert not found, f"{path.relative_to(ROOT)}: {found[0]}"


# -- what CI installs


def test_ci_installs_python_before_it_asks_it_on_a_bare_machine(tmp_path: Path) -> None:
    """Programs that are missing are installed by a made-up apt-get; nothing but these and bash's own is there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("bash", "dirname", "ls", "touch", "chmod"):
        (programs / name).symlink_to(str(shutil.which(name)))
    said = tmp_path / "said"

    def program(name: str, line: str) -> None:
        (programs / name).write_text(f'#!{programs}/bash\necho "{name} $*" >>{said}\n{line}\n')
        (programs / name).chmod(0o755)

    gives = {"python3-venv": "python3", "docker-cli": "docker"}  # as a Debian that has the latter apart from docker.io
    cases = [
        f'*{package}*) printf "#!{programs}/bash\\n" >{programs}/{name} && chmod +x {programs}/{name};;'
        for package, name in gives.items()
    ]
    program("apt-get", f"case $* in {' '.join(cases)} esac")
    program("make", "")
    ran = subprocess.run(
        [programs / "bash", ROOT / ".ci/run"], env={"PATH": str(programs)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    installed = [line.split() for line in said.read_text().splitlines() if " install " in line]
    assert installed[0][-2:] == ["python3", "python3-venv"]
    assert {"docker.io", "chromium", "redis-server"} <= set(installed[1])
    assert installed[2][-1] == "docker-cli"
    assert not {"python3", "python3-venv"} & set(installed[1])
    assert said.read_text().splitlines()[-2:] == ["make check-install", "make test"]
