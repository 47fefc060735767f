"""The weights of a GGUF file, dequantised into safetensors under the names that `transformers` gives them.

Tensor by tensor, so that no more than one file of weights is held in memory: names and rearrangements are those of
`transformers`' loader, dequantisation is that of the `gguf` package. Every tensor of the file must have a place in the
model, and every weight of the model must come from the file.
"""

import json
import time
from collections.abc import Callable, Iterator
from math import isfinite, prod
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from engine.errors import LoadError, one_line
from engine.weights.gguf_config import ROPE_FACTORS
from engine.weights.gguf_file import GGUFFile, TensorEntry

SHARD = 2 << 30  # bytes in one file of weights
REPORT = 10.0  # seconds between two reports of progress


def kept_type(file: GGUFFile) -> torch.dtype:
    """The dtype to store: the file's own if it has one, else bfloat16, which loses less than the file's quantisation
    did.
    """
    kinds = {tensor.kind.name for tensor in file.tensors if len(tensor.shape) > 1}
    own = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
    if not kinds <= set(own):
        return torch.bfloat16
    return next((own[name] for name in ("BF16", "F16") if name in kinds), torch.float32)


def write_weights(file: GGUFFile, config: Any, folder: Path, say: Callable[[str], None]) -> int:
    """Dequantise all tensors into files of safetensors and their index; name the model's class in its configuration.

    Returns the bytes of all weights.

    Raises:
        LoadError: the file and the model that it describes do not fit, a tensor can't be read, or the disk is full.
    """
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except Exception as error:  # whatever error a configuration causes
        raise LoadError(f"{file.path}: no model can be made of its configuration: {one_line(error)}") from error
    config.architectures = [type(model).__name__]
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    shards = _Shards(folder)
    try:
        for name, weights in _dequantised(file, config, model, say):
            if wanted.get(name) != tuple(weights.shape):
                raise LoadError(f"{file.path}: {name} is {list(weights.shape)}, the model's is {wanted.get(name)}")
            if not all(isfinite(end) for end in torch.aminmax(weights)):  # both ends are NaN if there is one
                raise LoadError(f"{file.path} is damaged: {name} holds values that are not numbers")
            shards.add(name, weights.to(config.dtype).contiguous())
    except LoadError:
        raise
    except Exception as error:  # whatever error tensors that do not fit cause in the loader
        raise LoadError(f"{file.path}: transformers cannot read its tensors: {one_line(error)}") from error
    shards.close()
    tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
    if missing := sorted(set(wanted) - set(shards.places) - tied):
        raise LoadError(f"{file.path} lacks {len(missing)} of the model's tensors, the first {missing[0]}")
    return shards.total


class _Shards:
    """Files of weights in a folder, and the file of each weight."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._held: dict[str, Tensor] = {}
        self._count = 0
        self.places: dict[str, str] = {}
        self.total = 0  # bytes of all weights

    def add(self, name: str, weight: Tensor) -> None:
        """Keep a weight; write the file when it is full."""
        self._held[name] = weight
        self.total += weight.nbytes
        if sum(tensor.nbytes for tensor in self._held.values()) >= SHARD:
            self._flush()

    def close(self) -> None:
        """Write what is left, and the index."""
        self._flush()
        index = {"metadata": {"total_size": self.total}, "weight_map": self.places}
        (self._folder / "model.safetensors.index.json").write_text(json.dumps(index))

    def _flush(self) -> None:
        if not self._held:
            return
        self._count += 1
        name = f"model-{self._count:05}.safetensors"
        try:
            save_file(self._held, self._folder / name, metadata={"format": "pt"})
        except Exception as error:  # the library raises no specific error for a full disk
            where = self._folder.parent
            raise LoadError(
                f"{where} cannot keep the converted model ({one_line(error)}): name another folder by --model-cache"
            ) from error
        self.places.update(dict.fromkeys(self._held, name))
        self._held = {}


def _dequantised(file: GGUFFile, config: Any, model: Any, say: Callable[[str], None]) -> Iterator[tuple[str, Tensor]]:
    """Names and weights as in `transformers`, by its own rules; several tensors of a file may become one.

    Raises:
        LoadError: a tensor has no place in the model, or is in a format that can't be read.
    """
    from gguf import dequantize
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    processor = TENSOR_PROCESSORS.get(file.architecture, TensorProcessor)(config=config.to_dict())
    state = model.state_dict()
    # Without submodules: for each of them it would build the same table of all names again.
    whole = SimpleNamespace(config=config, state_dict=lambda: state, named_children=list)
    names = get_gguf_hf_weights_map(whole, processor)
    targets = {tensor.name: _target(tensor, names) for tensor in file.tensors if tensor.name != ROPE_FACTORS}
    unread = [name for name, target in targets.items() if target is None]
    if unread:
        raise LoadError(f"{file.path} holds {unread[0]} and {len(unread) - 1} more that transformers has no place for")
    left = {target: list(targets.values()).count(target) for target in set(targets.values())}
    merged: dict[str, dict[str, Tensor]] = {"tensors": {}}  # of several tensors
    blob = np.memmap(file.path, mode="r", dtype=np.uint8)
    spoken = time.monotonic()
    done = 0
    for tensor in file.tensors:
        done += prod(tensor.shape)
        target = targets.get(tensor.name)
        if target is None:
            continue
        try:
            weights = dequantize(_raw(blob, tensor), tensor.kind)
        except NotImplementedError as error:
            raise LoadError(f"{file.path} holds {tensor.name} as {tensor.kind.name}, which cannot be read") from error
        result = processor.process(
            weights=weights.reshape(tensor.shape),
            name=tensor.name,
            tensor_key_mapping=names,
            parsed_parameters=merged,
        )
        left[target] -= 1
        if result.name is not None:
            yield target, torch.from_numpy(np.array(result.weights))
        elif left[target] == 0:
            yield target, merged["tensors"].pop(target)
        if time.monotonic() - spoken > REPORT:
            spoken = time.monotonic()
            say(f"converting {file.path.name}: {100 * done // file.numbers} %")


def _raw(blob: Any, tensor: TensorEntry) -> Any:
    """A tensor's bytes as `gguf.dequantize` takes them: rows of blocks, or of numbers."""
    from gguf import GGMLQuantizationType, quant_shape_to_byte_shape

    found = blob[tensor.start : tensor.start + tensor.size]
    plain = {GGMLQuantizationType.F32: np.float32, GGMLQuantizationType.F16: np.float16}.get(tensor.kind)
    if plain is not None:
        return found.view(plain).reshape(tensor.shape)
    return found.reshape(quant_shape_to_byte_shape(tensor.shape, tensor.kind))


def _target(tensor: TensorEntry, names: dict[str, str]) -> str | None:
    """The weight that a tensor is, or becomes a part of."""
    return names.get(tensor.name) or names.get(tensor.name.removesuffix(".weight"))
