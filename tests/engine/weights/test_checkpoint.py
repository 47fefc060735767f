"""What `--model` names: folders, GGUF files, names on the hub; and their possible errors, in one line each."""

import contextlib
import json
import os
import shutil
import struct
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType
from huggingface_hub import errors
from transformers import AutoModelForCausalLM

from engine.cli import main
from engine.errors import LoadError
from engine.text.chat_template import Chat
from engine.text.tokenizer import Tokenizer
from engine.weights import checkpoint, gguf_cache, gguf_weights
from engine.weights.checkpoint import check_folder, look, resolve
from engine.weights.gguf_config import translated_config
from engine.weights.gguf_file import read_gguf
from engine.weights.gguf_tokenizer import ends
from tests.engine.conftest import make_tokenizer, make_weights
from tests.engine.weights.gguf_files import Q8, write_gguf

TEXT = "def add(a, b):\n    return a + b  # 東京 😀"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def file(tmp_path: Path, weights: Any) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", weights)


def quiet(text: str) -> None:
    """Instead of messages on standard error."""


def refusal(model: Path | str, cache: Path | None = None) -> str:
    with pytest.raises(LoadError) as found:
        resolve(str(model), cache, say=quiet)
    message = str(found.value)
    assert "\n" not in message
    return message


# GGUF files


@pytest.mark.parametrize(
    ("kind", "architecture", "changes"),
    [
        ("Llama", "llama", {}),
        ("Llama", "llama", {"tie_word_embeddings": True, "rms_norm_eps": 1e-4}),
        ("Qwen2", "qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}}),
    ],
    ids=["llama", "tied", "qwen2-biases"],
)
def test_a_converted_model_computes_what_the_original_does(
    tmp_path: Path, cache: Path, kind: str, architecture: str, changes: dict[str, Any]
):
    weights = make_weights(kind, **changes)
    folder = resolve(str(write_gguf(tmp_path / "m.gguf", weights, architecture)), cache, say=quiet)
    copy = AutoModelForCausalLM.from_pretrained(folder)
    assert copy.dtype == torch.float32  # the file's own
    tokens = torch.arange(40)[None] * 7 % 384
    with torch.inference_mode():
        torch.testing.assert_close(copy(tokens).logits, weights(tokens).logits, rtol=1e-4, atol=1e-4)
    assert copy.config.tie_word_embeddings == weights.config.tie_word_embeddings


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(Q8, torch.bfloat16), (GGMLQuantizationType.F16, torch.float16), (GGMLQuantizationType.BF16, torch.bfloat16)],
)
def test_weights_are_kept_in_the_type_that_holds_them(
    tmp_path: Path, cache: Path, weights: Any, kind: GGMLQuantizationType, dtype: torch.dtype
):
    folder = resolve(str(write_gguf(tmp_path / "m.gguf", weights, kind=kind)), cache, say=quiet)
    copy = AutoModelForCausalLM.from_pretrained(folder)
    assert copy.dtype == dtype
    for name, tensor in weights.state_dict().items():
        torch.testing.assert_close(copy.state_dict()[name].float(), tensor, rtol=0.02, atol=0.01)


def test_weights_in_several_files(tmp_path: Path, cache: Path, weights: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gguf_weights, "SHARD", 50_000)
    folder = resolve(str(write_gguf(tmp_path / "m.gguf", weights)), cache, say=quiet)
    assert len(list(folder.glob("model-*.safetensors"))) > 3
    copy = AutoModelForCausalLM.from_pretrained(folder)
    assert all(torch.equal(copy.state_dict()[name], tensor) for name, tensor in weights.state_dict().items())


def test_tokenizer_template_and_ends_come_from_the_file(tmp_path: Path, cache: Path, weights: Any):
    path = write_gguf(
        tmp_path / "m.gguf", weights, said={"tokenizer.ggml.eot_token_id": 2, "general.sampling.top_k": 7}
    )
    folder = resolve(str(path), cache, say=quiet)
    found, original = Tokenizer.load(str(folder)), Tokenizer(make_tokenizer())
    assert found.encode(TEXT) == original.encode(TEXT)
    messages = [{"role": "user", "content": TEXT}]
    assert found.chat(Chat(messages)) == original.chat(Chat(messages))
    assert found.special_ids == original.special_ids
    said = json.loads((folder / "generation_config.json").read_text())
    assert said == {"eos_token_id": [0, 2], "top_k": 7}


def test_a_second_start_converts_nothing(file: Path, cache: Path):
    said: list[str] = []
    folder = resolve(str(file), cache, say=said.append)
    assert [line.split()[0] for line in said] == ["converting", "converted"]
    assert folder.parent == cache
    before = sorted((entry.name, entry.stat().st_mtime_ns) for entry in folder.iterdir())
    assert resolve(str(file.parent), cache, say=said.append) == folder  # a folder with one such file is that file
    assert sorted((entry.name, entry.stat().st_mtime_ns) for entry in folder.iterdir()) == before
    assert len(said) == 2


def test_a_file_that_changed_is_converted_again_and_the_older_conversion_goes(file: Path, cache: Path):
    older = resolve(str(file), cache, say=quiet)
    data = bytearray(file.read_bytes())
    data[-400_000] ^= 1
    file.write_bytes(data)
    newer = resolve(str(file), cache, say=quiet)
    assert newer != older
    assert not older.exists()
    os.utime(file, ns=(1, 1))
    assert resolve(str(file), cache, say=quiet) != newer


@pytest.mark.parametrize("damage", ["model-00001.safetensors", "tokenizer.json", "config.json"])
def test_a_damaged_conversion_is_made_again(file: Path, cache: Path, damage: str):
    folder = resolve(str(file), cache, say=quiet)
    whole = (folder / damage).read_bytes()
    (folder / damage).write_bytes(whole[:-10])
    assert resolve(str(file), cache, say=quiet) == folder
    assert (folder / damage).read_bytes() == whole


def test_an_interrupted_conversion_leaves_nothing_that_is_taken_for_whole(
    file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
):
    real = gguf_cache._publish

    def killed(part: Path, target: Path) -> None:
        shutil.copytree(part, part.with_name(f"{part.name}left"))  # what a killed process can't remove
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf_cache, "_publish", killed)
    with pytest.raises(KeyboardInterrupt):
        resolve(str(file), cache, say=quiet)
    assert [entry.name for entry in cache.iterdir() if not entry.name.startswith(".")] == []
    monkeypatch.setattr(gguf_cache, "_publish", real)
    folder = resolve(str(file), cache, say=quiet)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == [folder]


def test_two_engines_at_once_convert_once(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    inside, go_on = threading.Event(), threading.Event()
    real = gguf_cache._publish

    def slow(part: Path, target: Path) -> None:
        inside.set()
        assert go_on.wait(60)
        real(part, target)

    def hear(text: str) -> None:
        said.append(text)
        if "waiting" in text:
            go_on.set()

    monkeypatch.setattr(gguf_cache, "_publish", slow)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(resolve(str(file), cache, say=hear))) for _ in range(2)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    for thread in threads:
        thread.join(60)
    assert found[0] == found[1]
    assert sum(line.startswith("converting") for line in said) == 1


def test_where_nothing_can_be_locked_the_faster_one_wins(file: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fcntl.flock", lambda *_: (_ for _ in ()).throw(OSError("no locks available")))
    real = gguf_cache._publish

    def late(part: Path, target: Path) -> None:
        shutil.copytree(part, target)
        real(part, target)

    monkeypatch.setattr(gguf_cache, "_publish", late)
    folder = resolve(str(file), cache, say=quiet)
    check_folder(folder)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == [folder]


def test_no_room_and_no_place(file: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "taken").write_text("")
    message = refusal(file, tmp_path / "taken" / "cache")
    assert "Not a directory; name another folder by --model-cache" in message

    def full(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("IoError(Os { code: 28, kind: StorageFull })")

    monkeypatch.setattr(gguf_weights, "save_file", full)
    assert "StorageFull" in refusal(file, cache)
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=10_000_000))
    assert "0.0 GB free: make room, or name another folder" in refusal(file, cache)
    assert [entry for entry in cache.iterdir() if entry.is_dir()] == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_no_permission(file: Path, cache: Path):
    cache.mkdir(mode=0o500)
    assert "Permission denied; name another folder by --model-cache" in refusal(file, cache)
    file.chmod(0)
    assert refusal(file, cache).endswith("cannot be read: Permission denied")


# Files that are something else


BEGINNINGS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "text": (b"hello", "is not a GGUF file"),
    "zip": (b"PK\x03\x04" + bytes(60), "a zip archive"),
    "safetensors": (struct.pack("<Q", 50) + b'{"a":{}}', "a safetensors file: name the folder"),
    "old": (b"lmgg" + bytes(60), "from before GGUF"),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "page": (b"<!DOCTYPE html>", "a web page"),
    "zeros": (bytes(100), "zeros"),
    "version-1": (b"GGUF" + struct.pack("<I", 1) + bytes(60), "has version 1"),
    "version-9": (b"GGUF" + struct.pack("<I", 9) + bytes(60), "has version 9"),
    "big-endian": (b"GGUF" + struct.pack(">I", 3) + bytes(60), "is big-endian"),
    "head-alone": (b"GGUF" + struct.pack("<IQQ", 3, 4, 5), "is cut short within its header"),
    "many-keys": (b"GGUF" + struct.pack("<IQQ", 3, 2**60, 2**60), "is cut short within its header"),
    "long-key": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2**62), "is cut short within its header"),
    "no-utf-8": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 2) + b"\xff\xff" + bytes(30), "is damaged"),
    "unknown-value": (b"GGUF" + struct.pack("<IQQQ", 3, 0, 1, 1) + b"a" + struct.pack("<IQ", 77, 0), "unknown type 77"),
    "no-architecture": (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not say of which architecture"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_what_is_no_gguf_file_is_told_at_once(tmp_path: Path, name: str):
    content, words = BEGINNINGS[name]
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(LoadError, match=words):
        look(str(path))
    assert words in refusal(path)


def test_a_file_cut_short_anywhere_is_refused(file: Path):
    whole = file.read_bytes()
    head = read_gguf(file).head
    for length in (4, 10, 24, 30, 200, head // 2, head - 40, head - 1, head, head + 1, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(LoadError, match=r"cut short|does not say"):
            look(str(file))


def test_a_head_with_flipped_bytes_ends_in_a_refusal_or_a_model(file: Path):
    whole = file.read_bytes()
    random = np.random.default_rng(0)
    for place in random.integers(4, read_gguf(file).head, 300):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << random.integers(8)
        file.write_bytes(damaged)
        with contextlib.suppress(LoadError):  # and no other error
            look(str(file))


SAID: dict[str, tuple[dict[str, Any], str]] = {
    "adapter": ({"general.type": "adapter"}, "a LoRA adapter"),
    "projector": ({"general.type": "mmproj"}, "encoder of a model: name the language model"),
    "split": ({"split.count": 3}, "one of 3 parts of a model: join them"),
    "embeddings": ({"llama.pooling_type": 1}, "a model for embeddings"),
    "scale": ({"llama.attention.scale": 0.5}, "llama.attention.scale = 0.5"),
    "experts": ({"llama.expert_count": 8}, "llama.expert_count = 8"),
    "positions": ({"llama.rope.scaling.type": "longrope"}, "positions scaled by 'longrope'"),
    "yarn-from-where": ({"llama.rope.scaling.type": "yarn", "llama.rope.scaling.factor": 4.0}, "from which length"),
    "head-width": ({"llama.attention.key_length": 32}, "llama.attention.key_length = 32"),
    "heads": ({"llama.attention.head_count": 3}, "transformers cannot read its tensors|k_proj|q_proj|configuration"),
    "width": ({"llama.embedding_length": 72}, "model's is"),
    "layers": ({"llama.block_count": 3}, "lacks 9 of the model's tensors"),
    "fewer-layers": ({"llama.block_count": 1}, "holds blk.1.* that transformers has no place for"),
    "words": ({"tokenizer.ggml.pre": "martian"}, "cuts words by the rule 'martian'"),
    "tokenizer": ({"tokenizer.ggml.model": "rwkv"}, "a tokenizer of the kind 'rwkv'"),
    "no-vocabulary": ({"tokenizer.ggml.model": "no_vocab"}, "has no tokenizer"),
    "merges": ({"tokenizer.ggml.merges": ["q zz9"]}, "tokenizer cannot be built"),
    "twice": ({"tokenizer.ggml.tokens": ["a"] * 384}, "holds a token twice"),
}


@pytest.mark.parametrize("name", SAID)
def test_what_the_head_says_is_refused_where_it_would_be_computed_wrongly(
    tmp_path: Path, cache: Path, weights: Any, name: str
):
    said, words = SAID[name]
    path = write_gguf(tmp_path / "model.gguf", weights, said=said)
    with pytest.raises(LoadError, match=words):
        resolve(str(path), cache, say=quiet)
    assert not cache.exists() or [entry for entry in cache.iterdir() if entry.is_dir()] == []


@pytest.mark.parametrize(
    ("left_out", "words"),
    [
        ("tokenizer.ggml", "has no tokenizer"),
        ("tokenizer.ggml.pre", "does not say how its tokenizer cuts words"),
        ("tokenizer.ggml.merges", "a byte-level tokenizer without merges"),
        ("llama.embedding_length", "lacks|model's is"),
        ("blk.1.ffn_up", "lacks 1 of the model's tensors, the first model.layers.1.mlp.up_proj.weight"),
        (("blk", "token_embd", "output"), "a vocabulary without weights"),
    ],
)
def test_what_is_left_out(tmp_path: Path, cache: Path, weights: Any, left_out: Any, words: str):
    without = left_out if isinstance(left_out, tuple) else (left_out,)
    path = write_gguf(tmp_path / "model.gguf", weights, without=without)
    with pytest.raises(LoadError, match=words):
        resolve(str(path), cache, say=quiet)


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path, weights: Any, capsys: pytest.CaptureFixture[str]):
    path = write_gguf(tmp_path / "model.gguf", weights)
    path.write_bytes(path.read_bytes().replace(b"llama", b"zebra"))
    assert main(["--model", str(path), "--port", "0", "--model-cache", str(tmp_path / "cache")]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"troop engine: {path} is of the architecture 'zebra', which transformers cannot read")
    assert "llama" in line


def test_number_formats_that_are_unknown_or_hold_no_numbers(tmp_path: Path, cache: Path, weights: Any):
    path = write_gguf(tmp_path / "model.gguf", weights, kind=Q8)
    whole = path.read_bytes()
    row = b"blk.0.ffn_up.weight" + struct.pack("<IQQI", 2, 64, 96, 8)
    assert row in whole
    path.write_bytes(whole.replace(row, row[:-4] + struct.pack("<I", 99)))
    assert "holds blk.0.ffn_up.weight in the number format 99" in refusal(path, cache)
    path.write_bytes(whole.replace(row, row[:-4] + struct.pack("<I", 24)))
    assert "holds blk.0.ffn_up.weight as I8, which cannot be read" in refusal(path, cache)
    start = read_gguf(write_gguf(path, weights)).head
    path.write_bytes(path.read_bytes()[:start] + struct.pack("<f", float("nan")) + path.read_bytes()[start + 4 :])
    assert "holds values that are not numbers" in refusal(path, cache)


def test_a_name_of_a_part_is_enough(tmp_path: Path, weights: Any):
    path = write_gguf(tmp_path / "big-00002-of-00003.gguf", weights)
    assert "part 2 of 3 of a model: join them with `llama-gguf-split --merge`" in refusal(path)


# Positions


def test_llama_3_scaling_is_found_from_its_factors(tmp_path: Path, weights: Any):
    waves = 2 * np.pi * 10000.0 ** (np.arange(0, 16, 2) / 16)
    smooth = np.clip((8192 / waves - 1) / 3, 0, 1)
    factors = (1 / ((1 - smooth) / 8 + smooth)).astype(np.float32)
    path = write_gguf(tmp_path / "a.gguf", weights, extra={"rope_freqs.weight": factors})
    rope = translated_config(read_gguf(path)).rope_parameters
    assert rope["rope_type"] == "llama3"
    assert rope["factor"] == pytest.approx(factors.max())
    path = write_gguf(tmp_path / "b.gguf", weights, extra={"rope_freqs.weight": factors[::-1].copy()})
    with pytest.raises(LoadError, match="follows no rule known here"):
        translated_config(read_gguf(path))


def test_other_scalings(tmp_path: Path, weights: Any):
    said: dict[str, Any] = {"llama.rope.scaling.type": "linear", "llama.rope.scaling.factor": 4.0}
    path = write_gguf(tmp_path / "a.gguf", weights, said=said)
    rope = translated_config(read_gguf(path)).rope_parameters
    assert (rope["rope_type"], rope["factor"]) == ("linear", 4.0)
    said |= {"llama.rope.scaling.type": "yarn", "llama.rope.scaling.original_context_length": 128}
    rope = translated_config(read_gguf(write_gguf(tmp_path / "b.gguf", weights, said=said))).rope_parameters
    assert (rope["rope_type"], rope["original_max_position_embeddings"]) == ("yarn", 128)


# The published model


@pytest.mark.service
@pytest.mark.slow
def test_the_published_tokenizer(smollm2_folder: Path, smollm2: Path):
    tokenizer = Tokenizer.load(str(smollm2_folder))
    assert tokenizer.encode("Hello world") == [19556, 905]
    digits = [tokenizer.text([token]) for token in tokenizer.encode("x = 12345")]
    assert digits == ["x", " =", " ", "1", "2", "3", "4", "5"]  # one by one, as the model was trained
    for text in (TEXT, "I've  don't\n\n\tx\r\n", "Größe naïve", " leading", "<|im_start|>"):
        assert tokenizer.text(tokenizer.encode(text)) == text
    chat = tokenizer.chat(Chat([{"role": "user", "content": "hi"}])).tokens
    assert tokenizer.text(chat).startswith("<|im_start|>system\nYou are a helpful AI assistant named SmolLM")
    assert tokenizer.text(chat).endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")
    assert (chat[0], chat.count(2)) == (1, 2)
    assert ends(read_gguf(smollm2)) == [2, 0]  # <|im_end|>, <|endoftext|>
    assert {0, 1, 2, 16} < tokenizer.special_ids


@pytest.mark.service
@pytest.mark.slow
def test_the_published_model_answers(smollm2_folder: Path):
    tokenizer = Tokenizer.load(str(smollm2_folder))
    model = AutoModelForCausalLM.from_pretrained(smollm2_folder, dtype=torch.float32)
    prompt = tokenizer.chat(Chat([{"role": "user", "content": "What is the capital of France?"}])).tokens
    found = model.generate(
        torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), max_new_tokens=12, do_sample=False
    )
    assert "Paris" in tokenizer.text(found[0, len(prompt) :].tolist())


# Folders


FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (
        lambda f: [entry.unlink() for entry in f.iterdir()],
        "holds no model: it has neither config.json nor a",
    ),
    "config-broken": (lambda f: (f / "config.json").write_text("{"), "config.json is not valid JSON"),
    "config-a-list": (lambda f: (f / "config.json").write_text("[1]"), "holds no JSON object"),
    "config-binary": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe\x00"), "config.json is not valid JSON"),
    "config-a-folder": (lambda f: [(f / "config.json").unlink(), (f / "config.json").mkdir()], "Is a directory"),
    "no-kind": (lambda f: (f / "config.json").write_text("{}"), "has no model_type"),
    "kind": (lambda f: (f / "config.json").write_text('{"model_type": "zebra"}'), "of the kind 'zebra'"),
    "kind-no-text": (lambda f: (f / "config.json").write_text('{"model_type": [1]}'), "of the kind"),
    "quantization": (
        lambda f: (f / "config.json").write_text('{"model_type": "llama", "quantization_config": "gptq"}'),
        "config.json: quantization_config is no object",
    ),
    "own-code": (
        lambda f: (f / "config.json").write_text('{"model_type": "zebra", "auto_map": {"AutoConfig": "a.B"}}'),
        "code of its own, which is never run",
    ),
    "no-weights": (lambda f: (f / "model.safetensors").unlink(), "holds no weights"),
    "another-layout": (
        lambda f: (f / "model.safetensors").rename(f / "consolidated.safetensors"),
        "consolidated.safetensors is in a layout of its own: fetch model*",
    ),
    "cut-short": (lambda f: os.truncate(f / "model.safetensors", 100_000), "cut short or damaged"),
    "cut-in-its-head": (lambda f: os.truncate(f / "model.safetensors", 100), "cut short"),
    "empty": (lambda f: os.truncate(f / "model.safetensors", 0), "cut short"),
    "no-safetensors": (lambda f: (f / "model.safetensors").write_bytes(b"x" * 5000), "not a safetensors file"),
    "head": (
        lambda f: (f / "model.safetensors").write_bytes(struct.pack("<Q", 9) + b'{"a": 1 }'),
        "not a safetensors header",
    ),
    "shard": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "b.safetensors"}}'),
        "is incomplete: b.safetensors is missing",
    ),
    "index": (lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": 3}'), "names no files"),
    "index-elsewhere": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "../b"}}'),
        "is not a file beside it",
    ),
    "index-weight": (
        lambda f: (f / "model.safetensors.index.json").write_text('{"weight_map": {"a": "model.safetensors"}}'),
        "lacks a, which the index says",
    ),
    "no-tokenizer": (
        lambda f: [(f / "tokenizer.json").unlink(), (f / "tokenizer_config.json").unlink()],
        "holds no tokenizer",
    ),
    "tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "tokenizer.json is not valid JSON"),
    "adapter": (
        lambda f: [(f / "config.json").unlink(), (f / "adapter_config.json").write_text("{}")],
        "holds an adapter, not a whole model: merge it into its base model, in Python: peft.Auto",
    ),
    "adapter-beside": (
        lambda f: (f / "adapter_model.safetensors").write_bytes(b""),
        "adapter_model.safetensors, an adapter, beside a model: if the weights have it already, remove",
    ),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_what_is_wrong_with_a_folder(model_folder: Path, tmp_path: Path, name: str):
    spoil, words = FOLDERS[name]
    folder = tmp_path / "model"
    shutil.copytree(model_folder, folder)
    assert resolve(str(folder)) == folder
    spoil(folder)
    assert words in refusal(folder)


def test_a_tokenizer_that_is_json_and_no_tokenizer(model_folder: Path, tmp_path: Path):
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "model" / "tokenizer.json").write_text("{}")
    with pytest.raises(LoadError, match="no tokenizer could be loaded") as found:
        Tokenizer.load(str(tmp_path / "model"))
    assert "\n" not in str(found.value)


def test_several_gguf_files_in_a_folder(file: Path):
    shutil.copy(file, file.with_name("other.gguf"))
    assert "holds 2 GGUF files: name one of other.gguf, tiny.gguf" in refusal(file.parent)


@pytest.mark.parametrize("model", ["/no/where", "./nowhere", "a/b/c", "missing.gguf", "../x", "~nobody-of-that-name/m"])
def test_paths_that_lead_nowhere(model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    assert refusal(model) == f"no model {model!r}: there is no such file or folder"


def test_what_is_neither_a_file_nor_a_folder(tmp_path: Path):
    assert "is not a valid name" in refusal("")
    assert "is not a valid name" in refusal("a\0b")
    assert "/dev/null is neither a file nor a folder" in refusal("/dev/null")
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert "one file of a model: name the folder" in refusal(tmp_path / "model.safetensors")


# Names on the hub


def test_a_name_without_a_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert main(["--model", "some-org/some-model", "--port", "0"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("troop engine: no model 'some-org/some-model': it is not a file or folder here, and the hub")
    assert line.endswith("fetch it on another machine and name its folder or GGUF file")


def test_a_name_whose_model_was_fetched_before(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model_folder: Path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0123456789abcdef0123456789abcdef01234567"
    store = tmp_path / "models--some-org--some-model"
    shutil.copytree(model_folder, store / "snapshots" / commit)
    (store / "refs").mkdir()
    (store / "refs" / "main").write_text(commit)
    assert resolve("some-org/some-model") == store / "snapshots" / commit
    (store / "snapshots" / commit / "model.safetensors").unlink()
    assert "holds no weights" in refusal("some-org/some-model")


class _Response:
    """What errors of the hub's client want of an answer."""

    headers: dict[str, str] = {}  # noqa: RUF012
    status_code = 403
    request = None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (errors.GatedRepoError("no", response=_Response()), "accepted its terms: do so, and set HF_TOKEN"),
        (errors.RepositoryNotFoundError("no", response=_Response()), "the hub has none of that name"),
        (errors.HFValidationError("no"), "the hub has no such names"),
        (TimeoutError(110, "Connection timed out"), "could not be reached (Connection timed out)"),
        (OSError(28, "No space left on device"), "No space left on device"),
    ],
    ids=["terms", "unknown", "name", "time", "disk"],
)
def test_what_the_hub_answers(monkeypatch: pytest.MonkeyPatch, error: Exception, words: str):
    def refuse(*_: Any, **__: Any) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", refuse)
    assert words in refusal("some-org/some-model")


def test_an_adapter_on_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    (tmp_path / "adapter_config.json").write_text("{}")
    assert "holds an adapter" in refusal("some-org/some-adapter")


def test_a_model_on_the_hub_that_is_gguf_files_alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(huggingface_hub, "snapshot_download", lambda *_, **__: str(tmp_path))
    assert "has no config.json: fetch one of its GGUF files" in refusal("some-org/some-model-GGUF")


def test_progress_goes_to_standard_error(capsys: pytest.CaptureFixture[str]):
    checkpoint.say("converting")
    assert capsys.readouterr().err == "troop engine: converting\n"
