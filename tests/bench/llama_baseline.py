"""llama.cpp as a baseline: the same float32 weights as GGUF, and the same workload over its own cache.

It is driven the way its makers drive it for many sequences over one prompt (`tools/batched-bench -pps`): one unified
cache, the prompt decoded once, `llama_memory_seq_cp` to share its cells, then one `llama_decode` a step with a row per
sequence. Sampling is the engine's own, so that only the models are compared. Needs the `bench` extra
(`llama-cpp-python`, `gguf`).
"""

import ctypes
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from engine.run.sampling import Draw, sample
from engine.schedule.sequence import SamplingParams

BATCH = 2048  # tokens that one call may have, llama.cpp's default
PHYSICAL_BATCH = 512  # tokens computed at once, llama.cpp's default; the engine's chunk is the same


def missing() -> str:
    """Why there can be no such baseline here; "" where there can."""
    absent = [name for name in ("llama_cpp", "gguf") if importlib.util.find_spec(name) is None]
    return f"{' and '.join(absent)} not installed: make bench builds it" if absent else ""


class Choice(NamedTuple):
    """One of llama.cpp's ways through the same computation."""

    flash: bool  # its fused attention
    half: bool  # keys and values kept in float16, its default; otherwise float32

    def __str__(self) -> str:
        return f"flash attention {'on' if self.flash else 'off'}, {'float16' if self.half else 'float32'} cache"


CHOICES = [Choice(True, True), Choice(True, False), Choice(False, True)]


class Branch(NamedTuple):
    """`samples` outputs over `prompt`; branches of one workload may begin with the same tokens."""

    prompt: Sequence[int]
    samples: int


def write_gguf(model: Any, target: Path) -> None:
    """A `transformers` Llama in float32 as a GGUF file without a vocabulary.

    llama.cpp rotates neighbouring pairs of a head where `transformers` rotates its halves, so the rows of q and k are
    put in the other order (as its own `convert_hf_to_gguf.py` does). Raises `ValueError` for another architecture.
    """
    import gguf

    config = model.config
    if config.model_type != "llama" or getattr(config, "attention_bias", False):
        raise ValueError(f"only plain Llama shapes are written as GGUF, not {config.model_type}")
    rope = config.rope_parameters
    if rope["rope_type"] != "default":
        raise ValueError(f"only plain rotary embeddings are written as GGUF, not {rope['rope_type']}")
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    writer = gguf.GGUFWriter(target, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        found = names.get_name(name, try_suffixes=(".weight",))
        if found is None:
            raise ValueError(f"no GGUF name for {name}")
        weight = tensor.float()
        if name.endswith("q_proj.weight"):
            weight = _pairs(weight, heads)
        elif name.endswith("k_proj.weight"):
            weight = _pairs(weight, kv_heads)
        writer.add_tensor(found, weight.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _pairs(weight: torch.Tensor, heads: int) -> torch.Tensor:
    rows, columns = weight.shape
    return weight.view(heads, 2, rows // heads // 2, columns).transpose(1, 2).reshape(rows, columns)


class LlamaCpp:
    """One context over a GGUF file. `close` it."""

    def __init__(self, path: Path, choice: Choice, *, threads: int, cells: int, sequences: int) -> None:
        """`cells`: tokens that the cache holds, shared ones once. `sequences`: rows of a step. Raises `RuntimeError`
        where llama.cpp takes none of it.
        """
        import llama_cpp

        self._api = llama_cpp
        self._silence = llama_cpp.llama_log_callback(lambda level, text, data: None)  # must outlive the context
        llama_cpp.llama_log_set(self._silence, ctypes.c_void_p())
        llama_cpp.llama_backend_init()
        parameters = llama_cpp.llama_model_default_params()
        self._model = llama_cpp.llama_model_load_from_file(str(path).encode(), parameters)
        if not self._model:
            raise RuntimeError(f"llama.cpp loads no model from {path}")
        context = llama_cpp.llama_context_default_params()
        context.n_ctx = -(-cells // 256) * 256
        context.n_batch, context.n_ubatch = BATCH, PHYSICAL_BATCH
        context.n_seq_max = sequences
        context.n_threads = context.n_threads_batch = threads
        context.kv_unified = True  # without it each sequence gets a copy of the prefix, which is far slower
        context.no_perf = True
        context.flash_attn_type = (
            llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED if choice.flash else llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        )
        context.type_k = context.type_v = llama_cpp.GGML_TYPE_F16 if choice.half else llama_cpp.GGML_TYPE_F32
        self._context = llama_cpp.llama_init_from_model(self._model, context)
        if not self._context:
            raise RuntimeError(f"llama.cpp makes no context with {choice}")
        self._memory = llama_cpp.llama_get_memory(self._context)
        self._vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        self._batch = llama_cpp.llama_batch_init(BATCH, 0, 1)
        as_array = np.ctypeslib.as_array
        self._tokens = as_array(self._batch.token, (BATCH,))
        self._positions = as_array(self._batch.pos, (BATCH,))
        self._wanted = as_array(self._batch.logits, (BATCH,))
        as_array(self._batch.n_seq_id, (BATCH,))[:] = 1
        self._owners = [as_array(self._batch.seq_id[row], (1,)) for row in range(BATCH)]

    def close(self) -> None:
        """Give everything back."""
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    @property
    def system(self) -> str:
        """What it was built with."""
        return str(self._api.llama_print_system_info().decode())

    def generate(
        self, branches: Sequence[Branch], new: int, params: SamplingParams, mark: Callable[[], object] = lambda: None
    ) -> list[list[int]]:
        """`new` tokens for every sample of every branch, in order. What branches begin with alike is computed once,
        and so is each branch's rest; seeds are `params.seed` + the sample's number. `mark` is called whenever all
        samples have one token more.
        """
        self._api.llama_memory_clear(self._memory, False)
        shared = _common([branch.prompt for branch in branches])
        if len(branches) == 1:
            shared = 0
        firsts = np.cumsum([0, *(branch.samples for branch in branches)]).tolist()
        self._prefill(list(branches[0].prompt[:shared]), 0, 0)
        for first in firsts[1:-1]:
            self._api.llama_memory_seq_cp(self._memory, 0, first, -1, -1)
        rows = []
        for branch, first in zip(branches, firsts, strict=False):
            logits = self._prefill(list(branch.prompt[shared:]), shared, first)
            for sequence in range(first + 1, first + branch.samples):
                self._api.llama_memory_seq_cp(self._memory, first, sequence, -1, -1)
            rows.append(logits.expand(branch.samples, -1))
        positions = [len(branch.prompt) for branch in branches for _ in range(branch.samples)]
        chosen = self._sample(torch.cat(rows), params, 0)
        mark()
        found = [chosen]
        for step in range(1, new):
            logits = self._decode(chosen, positions, list(range(firsts[-1])), every=True)
            positions = [position + 1 for position in positions]
            chosen = self._sample(logits, params, step)
            mark()
            found.append(chosen)
        return np.stack(found, axis=1).tolist()

    def _sample(self, logits: torch.Tensor, params: SamplingParams, step: int) -> "np.ndarray[Any, Any]":
        draws = [Draw(params, params.seed + row, step) for row in range(logits.shape[0])]
        return sample(logits, draws).numpy()

    def _prefill(self, tokens: list[int], start: int, sequence: int) -> torch.Tensor:
        """Logits of the last row, `[1, vocabulary]`."""
        logits = torch.empty(0)
        for begin in range(0, len(tokens), BATCH):
            part = tokens[begin : begin + BATCH]
            positions = range(start + begin, start + begin + len(part))
            logits = self._decode(part, positions, [sequence] * len(part), every=False)
        return logits.clone()

    def _decode(self, tokens: Sequence[int], positions: Sequence[int], owners: list[int], every: bool) -> torch.Tensor:
        """Logits of every row or of the last, `[rows, vocabulary]` float32, valid until the next call."""
        count = len(tokens)
        self._batch.n_tokens = count
        self._tokens[:count] = tokens
        self._positions[:count] = positions
        self._wanted[:count] = every
        self._wanted[count - 1] = 1
        for row, owner in enumerate(owners):
            self._owners[row][0] = owner
        code = self._api.llama_decode(self._context, self._batch)
        if code != 0:
            raise RuntimeError(f"llama_decode returned {code} for {count} rows")
        rows = count if every else 1
        memory = self._api.llama_get_logits(self._context)
        return torch.from_numpy(np.ctypeslib.as_array(memory, (rows, self._vocabulary)))


def _common(prompts: Sequence[Sequence[int]]) -> int:
    """Length of what all begin with; at least one token of each is left out."""
    shortest = min(map(len, prompts)) - 1
    for place in range(shortest):
        if any(prompt[place] != prompts[0][place] for prompt in prompts):
            return place
    return shortest
