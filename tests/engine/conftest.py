"""A tiny tokenizer and tiny random models, built here: what the engine's tests share."""

import copy
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tokenizers import Tokenizer as FastTokenizer
from tokenizers import decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from engine.core import Core
from engine.model.attention import NAME
from engine.model.model import Model
from engine.run.runner import RunOptions
from engine.schedule.limits import Limits
from engine.text.tokenizer import Tokenizer
from engine.weights.checkpoint import resolve
from kernels.tree_attention.cut import CutCost

VOCABULARY = 384
END = 0  # <|end|>
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
CORPUS = [
    "def add(a, b):\n    return a + b\n",
    "the quick brown fox jumps over the lazy dog " * 3,
    "Größe, naïve, 東京, 😀 emoji and ünïcödé",
    "assert add(1, 2) == 3, 'wrong'\n",
]


@pytest.fixture(autouse=True)
def _few_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of `VOCABULARY` entries."""
    fast = FastTokenizer(models.BPE())
    fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    fast.decoder = decoders.ByteLevel()
    special = ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    fast.train_from_iterator(CORPUS, trainer)
    wrapped = PreTrainedTokenizerFast(tokenizer_object=fast, eos_token="<|end|>", additional_special_tokens=special[1:])
    wrapped.chat_template = TEMPLATE
    return wrapped


SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "eos_token_id": END,
    "bos_token_id": None,
    "pad_token_id": None,
}


def make_config(kind: str = "Llama", **changes: Any) -> Any:
    """A configuration of two small layers with grouped heads."""
    return getattr(transformers, f"{kind}Config")(**(SIZES | changes))


def make_weights(kind: str = "Llama", seed: int = 0, attention: str = "sdpa", **changes: Any) -> Any:
    """A model of `transformers` with random weights, wide enough that its greedy text is not a single repeated
    token.
    """
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(make_config(kind, **changes), attn_implementation=attention).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)  # biases and norms too
    return model


def copy_into_engine(
    weights: Any, dtype: torch.dtype = torch.float32, cache: str = "auto", device: str = "cpu"
) -> Model:
    """The same weights under the engine's attention."""
    twin = AutoModelForCausalLM.from_config(copy.deepcopy(weights.config), attn_implementation=NAME)
    twin.load_state_dict(weights.state_dict())
    return Model(twin.to(device, dtype), cache=cache)


@pytest.fixture(scope="session")
def tokenizer() -> Tokenizer:
    return Tokenizer(make_tokenizer())


@pytest.fixture(scope="session")
def weights() -> Any:
    return make_weights()


@pytest.fixture
def make_core(weights: Any, tokenizer: Tokenizer) -> Callable[..., Core]:
    """Cores over the session's Llama, or over other weights."""

    def make(
        blocks: int = 200,
        other: Any = None,
        cost: int = 0,
        clock: Any = None,
        batch_invariant: bool = False,
        dtype: torch.dtype = torch.float32,
        cache: str = "auto",
        device: str = "cpu",
        **limits: Any,
    ) -> Core:
        chosen = Limits(**({"block_size": 8, "prefill_chunk": 64, "max_waiting": 1000} | limits))
        options = RunOptions(CutCost(cost), batch_invariant=batch_invariant)
        model = copy_into_engine(other or weights, dtype, cache, device)
        return Core(model, tokenizer, blocks, chosen, options, clock or time.monotonic)

    return make


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory, weights: Any) -> Path:
    """A checkpoint on disk, as `python -m engine --model` takes it."""
    folder = tmp_path_factory.mktemp("model")
    weights.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def smollm2() -> Path:
    """A real model: SmolLM2-135M-Instruct as a GGUF file."""
    found = Path(__file__).parents[2] / "var" / "models" / "SmolLM2-135M-Instruct-Q4_1.gguf"
    if not found.is_file():
        pytest.skip("`make models` fetches it")
    return found


@pytest.fixture(scope="session")
def smollm2_folder(smollm2: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as the engine converts it, in bfloat16."""
    return resolve(str(smollm2), tmp_path_factory.mktemp("cache"), say=lambda text: None)
