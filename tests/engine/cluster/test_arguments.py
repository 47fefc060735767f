"""A replica's command line."""

from pathlib import Path

import pytest

from engine.cli import read
from engine.cluster.engine_process import arguments
from engine.settings import Settings

CHANGED = {
    "model": "/models/x", "model_cache": Path("/cache"), "served_model_name": "x", "host": "::1", "port": 9,
    "tool_parser": "hermes", "reasoning_parser": "think", "generation_config": "none",
    "cors_origins": ("https://a.example", "https://b.example"), "follow_stdin": True, "device": "cpu",
    "dtype": "float32", "quantization": "int8", "weights": "native", "log_level": "debug",
    "cache_dtype": "fp8_e4m3", "tensor_parallel": 2, "threads": 3, "block_size": 8,
    "cache_tokens": 100, "gpu_memory_share": 0.5, "max_model_len": 77, "max_batch": 9, "max_waiting": 8,
    "prefill_chunk": 16, "speculation": "off", "max_draft": 5, "batch_invariant": True, "lease_seconds": 1.5,
    "attention_backend": "torch", "calibrate": True, "cuda_graphs": False,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TROOP_ENGINE_API_KEY", "TROOP_MODEL_CACHE", "TROOP_LOG_LEVEL"):
        monkeypatch.delenv(name, raising=False)


def test_a_replica_reads_the_same_settings_from_its_command_line():
    settings = Settings(**CHANGED)
    unchanged = {name for name, field in Settings.model_fields.items() if getattr(settings, name) == field.default}
    assert unchanged == {"api_key", "replicas", "ray_address", "cache_memory", "item_tokens"}
    assert read(arguments(settings)) == settings
    assert read(arguments(Settings(cache_memory=12345))) == Settings(cache_memory=12345)
    assert arguments(Settings()) == ["--log-level", "info"]


def test_the_key_and_the_cluster_are_not_passed_on():
    assert arguments(Settings(replicas=4, ray_address="auto", api_key="secret")) == arguments(Settings())


def test_a_replica_logs_as_the_cluster_does_whatever_its_environment_says(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TROOP_LOG_LEVEL", "error")
    assert read(arguments(Settings(log_level="info"))).log_level == "info"
