"""The command: its line on standard output, its settings, its end."""

import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import httpx
import pytest
from fastapi import FastAPI

from engine.cli import main, read
from engine.cluster.relay import IDLE_SECONDS
from engine.server.machine import Server, end_when_closed, listen, model_name
from engine.server.process import build_core
from engine.settings import Settings
from kernels.tree_attention.calibrate import Grid
from kernels.tree_attention.cost import MeasuredCost
from kernels.tree_attention.cut import CutCost


@pytest.mark.slow
def test_the_command_serves_says_so_and_ends_on_a_signal(model_folder: Path):
    command = [sys.executable, "-m", "engine", "--model", str(model_folder), "--port", "0", "--threads", "1"]
    command += ["--cache-tokens", "2000", "--served-model-name", "small"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("troop engine ready on http://127.0.0.1:")
        url = line.split()[-1]
        answer = httpx.post(
            f"{url}/v1/completions", json={"model": "small", "prompt": "def add", "max_tokens": 3}
        ).json()
        assert answer["usage"]["prompt_tokens"] > 0
        metrics = httpx.get(f"{url}/metrics").text
        assert "troop_engine_blocks_total 125.0" in metrics
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    finally:
        process.kill()
        process.communicate()


def test_a_port_of_its_own_is_nobody_elses_before_it_listens():
    with listen("127.0.0.1", 0) as listener, socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with pytest.raises(OSError, match="in use"):
            other.bind(listener.getsockname())


async def test_a_port_that_another_engine_took_meanwhile_is_told():
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    with listen("127.0.0.1", port) as first, listen("127.0.0.1", port) as second:
        first.listen()
        with pytest.raises(SystemExit, match=f"cannot listen on 127.0.0.1:{port}: Address already in use"):
            await Server(FastAPI(), second).startup([second])


def test_clients_close_a_connection_before_the_server_and_its_relay_before_a_replica():
    with listen("127.0.0.1", 0) as listener:
        kept = Server(FastAPI(), listener).config.timeout_keep_alive
    assert kept > 600
    assert kept > IDLE_SECONDS


def test_a_calibration_that_is_asked_for_is_kept(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "attention.json"
    monkeypatch.setenv("TROOP_ENGINE_CALIBRATION", str(file))
    monkeypatch.setattr(
        "kernels.tree_attention.calibrate.measure.__defaults__", (16, Grid((2, 8), (32, 256, 512), 1), None)
    )
    plain = build_core(Settings(model=str(model_folder), cache_tokens=2000))
    assert plain.runner.cost == CutCost()
    assert not file.exists()
    measured = build_core(Settings(model=str(model_folder), cache_tokens=2000, calibrate=True)).runner.cost
    assert isinstance(measured, MeasuredCost)
    (shapes,) = json.loads(file.read_text()).values()
    assert list(shapes.values()) == [dataclasses.asdict(measured)]
    fixed = Settings(model=str(model_folder), cache_tokens=2000, calibrate=True, item_tokens=3)
    assert build_core(fixed).runner.cost == CutCost(3)


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["--model", str(tmp_path / "nothing"), "--port", "0"]) == 1
    assert capsys.readouterr().err == f"troop engine: no model '{tmp_path}/nothing': there is no such file or folder\n"


def test_a_model_that_is_not_served_is_told_with_another_way(
    model_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    folder = Path(shutil.copytree(model_folder, tmp_path / "bloom"))
    (folder / "config.json").write_text(json.dumps({"model_type": "bloom"}))
    assert main(["--model", str(folder), "--port", "0"]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith("troop engine: the model uses ALiBi biases, which this engine does not implement. A server ")
    assert "--base-url" in last


HEAVY = """
import runpy, sys
sys.argv = ["engine", *sys.argv[1:]]
try:
    runpy.run_module("engine", run_name="__main__")
except SystemExit as end:
    print(end.code, sorted({"torch", "transformers", "uvicorn"} & set(sys.modules)))
"""


@pytest.mark.parametrize(("arguments", "code"), [("--help", 0), ("--port x", 2), ("--model /no/where", 1)])
def test_what_needs_no_model_answers_before_torch_is_imported(arguments: str, code: int):
    command = [sys.executable, "-c", HEAVY, *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert done.stdout.splitlines()[-1] == f"{code} []"
    assert "Traceback" not in done.stderr


def test_the_help_names_what_a_model_can_be(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        read(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "FOLDER|FILE.gguf|NAME" in text
    assert "a GGUF file (converted once), or a name on the hub" in text


def test_a_model_is_served_under_the_name_of_its_folder_or_file():
    assert model_name("/models/qwen/") == "qwen"
    assert model_name("Qwen/Qwen3-0.6B") == "Qwen3-0.6B"
    assert model_name("models/qwen2.5-coder.gguf") == "qwen2.5-coder"


def test_where_conversions_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert read([]).model_cache is None
    monkeypatch.setenv("TROOP_MODEL_CACHE", str(tmp_path))
    assert read([]).model_cache == tmp_path
    assert read(["--model-cache", "elsewhere"]).model_cache == Path("elsewhere")


def test_values_out_of_range(capsys: pytest.CaptureFixture[str]):
    for arguments in (["--port", "70000"], ["--port", "x"], ["--nonsense"], ["--cache-memory", "2 apples"]):
        with pytest.raises(SystemExit) as end:
            main(arguments)
        assert end.value.code == 2
        assert arguments[0] in capsys.readouterr().err


def test_sizes(capsys: pytest.CaptureFixture[str]):
    for text, size in (("2GiB", 2 << 30), ("1.5 MB", 1_500_000), ("1000", 1000)):
        assert read(["--cache-memory", text]).cache_memory == size
    for wrong in ("", "GB", "2 apples", "-1", "2i", "0"):
        with pytest.raises(SystemExit) as end:
            read(["--cache-memory", wrong])
        assert end.value.code == 2
        assert capsys.readouterr().err.startswith("troop engine: --cache-memory: ")


def test_origins_and_parsers(capsys: pytest.CaptureFixture[str]):
    assert read([]).cors_origins == ()
    assert read(["--cors-origins", "https://a.example, http://localhost:3000/,"]).cors_origins == (
        "https://a.example",
        "http://localhost:3000",
    )
    assert read(["--cors-origins", "*"]).cors_origins == ("*",)
    assert read(["--tool-parser", "hermes", "--reasoning-parser", "none"]).tool_parser == "hermes"
    assert read(["--generation-config", "none"]).generation_config == "none"
    for arguments in (
        ["--cors-origins", "a.example"],
        ["--cors-origins", "https://a.example/path"],
        ["--tool-parser", "x"],
        ["--reasoning-parser", "x"],
    ):
        with pytest.raises(SystemExit) as end:
            read(arguments)
        assert end.value.code == 2
        assert arguments[0] in capsys.readouterr().err


def test_the_level_of_the_log(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("TROOP_LOG_LEVEL", raising=False)
    assert read([]).log_level == "info"
    monkeypatch.setenv("TROOP_LOG_LEVEL", "warning")
    assert read([]).log_level == "warning"
    assert read(["--log-level", "debug"]).log_level == "debug"


def test_the_log_has_our_lines_and_warnings_of_libraries():
    command = (
        "import logging; from engine import logs; logs.begin('debug'); print(logs.level())\n"
        "for name in ('engine.core', 'kernels.native', 'library'): logging.getLogger(name).debug('line')\n"
        "logging.getLogger('library').warning('line')"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout == "debug\n"
    assert done.stderr.splitlines() == [
        "DEBUG engine.core: line", "DEBUG kernels.native: line", "WARNING library: line",
    ]  # fmt: skip


def test_the_cache_is_sized_once(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        read(["--cache-memory", "2GiB", "--cache-tokens", "2000"])
    assert end.value.code == 2
    assert capsys.readouterr().err == (
        "troop engine: --cache-tokens and --cache-memory both size the cache: give one of them\n"
    )


def test_the_key_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert read([]).api_key is None
    monkeypatch.setenv("TROOP_ENGINE_API_KEY", "k")
    assert read([]).api_key == "k"


def test_the_cache_is_sized_by_tokens_or_by_memory(model_folder: Path):
    by_tokens = build_core(Settings(model=str(model_folder), cache_tokens=1000))
    assert by_tokens.scheduler.allocator.count == 62
    by_memory = build_core(Settings(model=str(model_folder), cache_memory=1 << 20))
    assert by_memory.scheduler.allocator.count == (1 << 20) // by_memory.model.shape.token_bytes // 16
    short = build_core(Settings(model=str(model_folder), max_model_len=100))
    assert short.max_model_len == 100


def test_the_engine_ends_with_whoever_started_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr("os.kill", lambda pid, number: sent.append((pid, number)))
    source, sink = os.pipe()
    with open(source, "rb", buffering=0) as stream:
        follower = threading.Thread(target=end_when_closed, args=(stream,))
        follower.start()
        os.write(sink, b"ignored")
        follower.join(0.05)
        assert not sent
        os.close(sink)
        follower.join(10)
    assert sent == [(os.getpid(), signal.SIGTERM)]
    assert read(["--follow-stdin"]).follow_stdin
    assert not read([]).follow_stdin
