"""The header of a GGUF file: metadata of the model, and where its tensors are.

Read here, and not only by `transformers`, so that errors of a file are reported at once, in one line, before anything
is loaded. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md. No torch here.
"""

import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from engine.errors import LoadError, reason

MAGIC = b"GGUF"
VERSIONS = (2, 3)
SPLIT = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$", re.IGNORECASE)

_STRING, _ARRAY = 8, 9
_FORMATS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_OTHERS = (  # files that are mistaken for GGUF files, by their first bytes
    (b"PK\x03\x04", "a zip archive (or a PyTorch checkpoint)"),
    (b"\x80\x02", "a Python pickle"),
    (b"lmgg", "a GGML file from before GGUF"),
    (b"tjgg", "a GGML file from before GGUF"),
    (b"algg", "a GGML file from before GGUF"),
    (b"FUGG", "a big-endian GGUF file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"version https://git-lfs", "a Git LFS pointer: fetch the file itself with `git lfs pull`"),
    (b"<", "a web page or XML"),
)
_ROLES = {  # values of `general.type` other than `model`
    "adapter": "a LoRA adapter, not a whole model: merge it into its base model with llama-export-lora first",
    "mmproj": "the image or sound encoder of a model: name the language model's own file",
    "imatrix": "an importance matrix, not a model",
    "vocab": "a vocabulary without weights",
}


@dataclass(frozen=True)
class TensorEntry:
    """One tensor, as the header describes it."""

    name: str
    shape: tuple[int, ...]  # in torch's order
    kind: Any  # `gguf.GGMLQuantizationType`
    start: int  # byte in the file
    size: int  # bytes


@dataclass(frozen=True)
class GGUFFile:
    """The contents of the header. It was read completely, and all tensors are within the file."""

    path: Path
    size: int  # bytes
    head: int  # bytes before the first tensor
    metadata: Mapping[str, Any]
    tensors: tuple[TensorEntry, ...]

    @property
    def architecture(self) -> str:
        """llama.cpp's name of it, such as `qwen2`."""
        return str(self.metadata["general.architecture"])

    @property
    def numbers(self) -> int:
        """How many numbers all tensors hold."""
        return sum(prod(tensor.shape) for tensor in self.tensors)


def read_gguf(path: Path) -> GGUFFile:
    """Read the header and check that the file is a complete language model.

    Raises:
        LoadError: it can't be read, is not a GGUF file, is cut short or damaged, is not a language model, or is one
            part of several.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            beginning = stream.read(64)
        _check_magic(path, beginning)
        blob = np.memmap(path, mode="r", dtype=np.uint8).data
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {reason(error)}") from error
    try:
        found = _parse(path, size, _Reader(blob))
    except ImportError as error:
        raise LoadError("GGUF files are read with the package gguf: pip install gguf") from error
    except (struct.error, _CutShortError):
        raise LoadError(f"{path} is cut short within its header: it has {size:,} bytes; fetch it again") from None
    except (UnicodeDecodeError, OverflowError, RecursionError) as error:
        raise LoadError(f"{path} is damaged: its header cannot be read ({error}); fetch it again") from error
    _check_role(found)
    return found


def _check_magic(path: Path, beginning: bytes) -> None:
    if not beginning:
        raise LoadError(f"{path} is empty")
    if beginning[:4] == MAGIC:
        return
    kind = next((words for start, words in _OTHERS if beginning.startswith(start)), None)
    if kind is None and beginning[8:9] == b"{":
        kind = "a safetensors file: name the folder that it is in, with config.json and tokenizer.json"
    elif kind is None and not beginning.strip(b"\0"):
        kind = "zeros: a download that did not end, perhaps"
    raise LoadError(f"{path} is not a GGUF file{': it begins like ' + kind if kind else ''}")


class _CutShortError(Exception):
    """The file ends too early."""


class _Reader:
    """Reads values one after the other, none beyond the file's end."""

    def __init__(self, blob: memoryview) -> None:
        self._blob = blob
        self.place = 4

    def number(self, kind: str) -> Any:
        (value,) = struct.unpack_from(f"<{kind}", self._blob, self.place)
        self.place += struct.calcsize(f"<{kind}")
        return value

    def string(self) -> str:
        length = self.number("Q")
        end = self.place + length
        if end > len(self._blob):
            raise _CutShortError
        text = bytes(self._blob[self.place : end]).decode()
        self.place = end
        return text

    def value(self, kind: int, depth: int = 0) -> Any:
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.number(_FORMATS[kind])
        item, count = self.number("I"), self.number("Q")
        if count > len(self._blob) - self.place or depth > 4:
            raise _CutShortError
        if item in _FORMATS:
            layout = f"<{count}{_FORMATS[item]}"
            values = struct.unpack_from(layout, self._blob, self.place)
            self.place += struct.calcsize(layout)
            return list(values)
        return [self.value(item, depth + 1) for _ in range(count)]


def _parse(path: Path, size: int, reader: _Reader) -> GGUFFile:
    version = reader.number("I")
    if version not in VERSIONS:
        swapped = struct.unpack("<I", struct.pack(">I", version))[0] in VERSIONS
        detail = "is big-endian" if swapped else f"has version {version}"
        raise LoadError(f"{path} {detail}; little-endian files of GGUF versions 2 and 3 can be read")
    tensors, pairs = reader.number("Q"), reader.number("Q")
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key, kind = reader.string(), reader.number("I")
        if kind not in (_STRING, _ARRAY, *_FORMATS):
            raise LoadError(f"{path} is damaged: {key!r} in its header has a value of unknown type {kind}")
        if key in metadata:
            raise LoadError(f"{path} is damaged: {key!r} occurs twice in its header")
        metadata[key] = reader.value(kind)
    if not isinstance(metadata.get("general.architecture"), str):
        raise LoadError(f"{path} does not say of which architecture it is (general.architecture)")
    entries = [_entry(path, reader) for _ in range(tensors)]
    alignment = metadata.get("general.alignment", 32)
    if not isinstance(alignment, int) or alignment < 1:
        raise LoadError(f"{path} is damaged: its tensors are aligned to {alignment!r} bytes")
    start = -(-reader.place // alignment) * alignment
    found = tuple(TensorEntry(e.name, e.shape, e.kind, start + e.start, e.size) for e in entries)
    end = max((tensor.start + tensor.size for tensor in found), default=start)
    if end > size:
        raise LoadError(f"{path} is cut short: its tensors end at byte {end:,} and it has {size:,}; fetch it again")
    if len({tensor.name for tensor in found}) != len(found):
        raise LoadError(f"{path} is damaged: two of its tensors have the same name")
    return GGUFFile(path, size, start, metadata, found)


def _entry(path: Path, reader: _Reader) -> TensorEntry:
    """One row of the table of tensors; `start` still counts from the first tensor."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

    name, dimensions = reader.string(), reader.number("I")
    if dimensions > 8:
        raise LoadError(f"{path} is damaged: its tensor {name!r} has {dimensions} dimensions")
    shape = tuple(reversed([reader.number("Q") for _ in range(dimensions)]))
    number, start = reader.number("I"), reader.number("Q")
    try:
        kind = GGMLQuantizationType(number)
    except ValueError:
        raise LoadError(f"{path} holds {name} in the number format {number}, which is unknown here") from None
    block, size = GGML_QUANT_SIZES[kind]
    if not shape or 0 in shape or shape[-1] % block:
        raise LoadError(
            f"{path} is damaged: its tensor {name!r} of shape {list(shape)} is not a whole number of {kind.name} blocks"
        )
    return TensorEntry(name, shape, kind, start, prod(shape) // block * size)


def _check_role(file: GGUFFile) -> None:
    """Refuse files that are not a complete language model."""
    path, metadata = file.path, file.metadata
    named = SPLIT.search(path.name)
    parts = metadata.get("split.count", 0)
    if named or (isinstance(parts, int) and parts > 1):
        which = f"part {int(named[1])} of {int(named[2])}" if named else f"one of {parts} parts"
        raise LoadError(f"{path} is {which} of a model: join them with `llama-gguf-split --merge` and name the result")
    role = metadata.get("general.type", "model")
    if role == "model" and file.architecture == "clip":
        role = "mmproj"
    if role == "model" and not file.tensors:
        role = "vocab"
    if role != "model":
        raise LoadError(f"{path} is {_ROLES.get(role, f'a {role!r}, not a model')}")
    if (
        metadata.get(f"{file.architecture}.pooling_type", 0)
        or metadata.get(f"{file.architecture}.attention.causal") is False
    ):
        raise LoadError(f"{path} is a model for embeddings, which writes no text")
