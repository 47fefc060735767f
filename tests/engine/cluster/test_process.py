"""What is said where replicas cannot start."""

import threading
from pathlib import Path

import pytest

from engine.cli import main
from engine.cluster.engine_process import EngineProcess
from engine.cluster.process import for_replicas
from engine.errors import LoadError
from engine.settings import Settings
from tests.patience import PATIENCE


def test_without_the_extra_the_command_says_what_to_install(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr("engine.cluster.process.NEEDED", ("aiohttp", "no_such_package"))
    assert main(["--replicas", "2", "--port", "0", "--model", str(model_folder)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("troop engine: --replicas needs the extra `cluster`: pip install '.[cluster]'")


def test_all_replicas_get_the_same_model_under_one_name_and_share_the_cores(
    model_folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("engine.cluster.process.available_cores", lambda: 8)
    here = for_replicas(Settings(model=str(model_folder), replicas=2, tensor_parallel=2))
    assert (here.served_model_name, here.threads) == (model_folder.name, 2)
    assert for_replicas(Settings(model=str(model_folder), replicas=9)).threads == 1
    monkeypatch.chdir(model_folder.parent)
    elsewhere = for_replicas(Settings(model=model_folder.name, replicas=2, ray_address="auto"))
    assert (elsewhere.model, elsewhere.threads) == (str(model_folder), None)


@pytest.mark.slow
def test_an_engine_that_does_not_start_says_why_and_ends_its_actor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("engine.cluster.engine_process.BETWEEN_STARTS", 0.0)
    ended = threading.Event()

    class Replica(EngineProcess):
        def _end(self) -> None:
            ended.set()

    replica = Replica(Settings(model=str(tmp_path / "none")), "key", "127.0.0.1")
    with pytest.raises(LoadError, match=r"^no model '.*/none': there is no such file or folder$"):
        replica.address()
    assert ended.wait(PATIENCE)
    replica.stop()
