"""The command of a GPU's first run, where there is none."""

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests import gpu, gpu_guard

TOLD = "told at once"
PATIENCE = 600.0  # seconds


def _has(path: Path, text: str) -> bool:
    """Whether the file is there and has the text, and any at all."""
    return path.is_file() and text in (found := path.read_text()) and found != ""


def test_where_no_kernel_runs_nothing_is_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Else the tests would run in Triton's interpreter until their minutes are over."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(gpu, "test", lambda *_: pytest.fail("tests are begun"))
    assert gpu.main(["--out", str(tmp_path)]) == 1
    said = capfd.readouterr()
    assert "nothing is tested or measured" in said.out
    assert any(word in said.err for word in ("Torch", "CUDA", "NVIDIA"))  # the reason, in the words of torch's build
    assert not list(tmp_path.iterdir())


def test_without_xdist_each_file_has_a_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """In one process the tests' compiling alone would take longer than they may."""
    files = [tmp_path / f"test_{name}.py" for name in ("right", "wrong")]
    files[0].write_text("def test_it():\n    pass\n")
    files[1].write_text(f"def test_it():\n    assert 1 == 2, {TOLD!r}\n")
    options = ["-q", "-p", "no:cacheprovider", "-p", "tests.gpu_guard", "-c", os.devnull]
    monkeypatch.setattr(gpu, "selection", lambda: [*map(str, files), *options])
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    assert [argv[5] for argv in gpu.commands()] == list(map(str, files))
    assert not gpu.test(PATIENCE, tmp_path / "gpu-tests.txt")
    text = (tmp_path / "gpu-tests.txt").read_text()
    assert "1 passed" in text
    assert "1 failed" in text
    assert TOLD in capsys.readouterr().out
    files.pop()
    assert gpu.test(PATIENCE, tmp_path / "gpu-tests.txt")


def test_tests_that_hang_are_ended_with_all_their_processes_and_the_figures_come(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    hangs = tmp_path / "test_hangs.py"
    hangs.write_text(
        "import subprocess, sys, time, pathlib\n"
        f"def test_fails():\n    assert 1 == 2, {TOLD!r}\n"
        "def test_hangs():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        f"    pathlib.Path({str(tmp_path / 'child')!r}).write_text(str(child.pid))\n"
        "    time.sleep(1000)\n"
    )
    monkeypatch.setattr(
        gpu, "selection", lambda: [str(hangs), "-p", "no:cacheprovider", "-p", "tests.gpu_guard", "-c", os.devnull]
    )
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")  # as where this test itself runs in one
    monkeypatch.setattr(gpu, "ready", lambda: True)
    started: list[list[str]] = []

    class Waiting(subprocess.Popen):  # type: ignore[type-arg]
        def wait(self, timeout: float | None = None) -> int:
            if timeout is not None:  # until one test hangs and the other is told, however slow the machine is
                late = time.monotonic() + PATIENCE
                while not all(_has(tmp_path / name, text) for name, text in (("child", ""), ("gpu-tests.txt", TOLD))):
                    assert self.poll() is None
                    assert time.monotonic() < late
                    time.sleep(0.01)
                raise subprocess.TimeoutExpired("pytest", timeout)
            return super().wait()

    def run(argv: list[str], **_: Any) -> Any:
        started.append(argv)
        return subprocess.CompletedProcess(argv, 0)

    monkeypatch.setattr(subprocess, "Popen", Waiting)
    monkeypatch.setattr(subprocess, "run", run)
    assert gpu.main(["--out", str(tmp_path)]) == 1
    assert started == [
        [sys.executable, "-m", "tests.bench.bench_gpu", "--minutes=8", "--json", str(tmp_path / "gpu.json")]
    ]
    assert _has(tmp_path / "gpu-tests.txt", TOLD)
    child = int((tmp_path / "child").read_text())
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize(("worker", "works", "ends"), [(True, False, True), (True, True, False), (False, False, False)])
def test_a_worker_with_a_broken_gpu_ends(monkeypatch: pytest.MonkeyPatch, worker: bool, works: bool, ends: bool):
    ended: list[int] = []
    monkeypatch.setattr(gpu_guard.torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(gpu_guard.gpu, "works", lambda: works, raising=False)
    monkeypatch.setattr(os, "_exit", ended.append)
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)
    if worker:
        monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw0")
    gpu_guard.pytest_runtest_teardown()
    monkeypatch.undo()
    assert bool(ended) == ends
