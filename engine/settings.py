"""What an operator chooses when the engine starts."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ByteSize, ConfigDict, Field

from engine.choices import BUNDLED_MODEL, quantizations, ways

CPU_CACHE = 2 << 30  # bytes, the default

# Names in `engine.text.replies.formats`, which a test compares.
TOOL_PARSERS = (
    "hermes", "qwen3_coder", "glm45", "llama3_json", "mistral", "granite", "deepseek_v3", "deepseek_v31",
    "deepseek_v32", "deepseek_v4", "kimi_k2", "seed_oss", "minimax_m2", "cohere", "gemma4", "olmo3", "lfm2",
    "llama4", "apertus", "functionary", "minimax_m1", "minimax_m3", "hunyuan_a13b", "hy_v3", "hy_v4", "solar_open",
    "kimi_k3", "gigachat", "harmony",
)  # fmt: skip
REASONING_PARSERS = (
    "think", "seed", "mistral", "cohere", "gemma4", "apertus", "minimax_m3", "hy_v3", "hy_v4", "solar_open",
    "kimi_k3", "harmony",
)  # fmt: skip

log_levels = Literal["debug", "info", "warning", "error"]
type_names = Literal["auto", "float32", "bfloat16", "float16"]
devices = Literal["auto", "cpu", "cuda"]
backends = Literal["auto", "torch", "triton"]
cache_types = Literal["auto", "fp8_e4m3"]


class Settings(BaseModel):
    """Settings of one engine process; `engine.cli` fills them from the command line and the environment."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: str = str(BUNDLED_MODEL)  # a folder, a GGUF file or a name on the hub, see `engine.weights.checkpoint`
    model_cache: Path | None = None  # where conversions of GGUF files are kept; None: in the user's cache folder
    served_model_name: str | None = None  # default: the name of the model's folder or file
    host: str = "127.0.0.1"
    port: int = Field(default=8100, ge=0, le=65535)  # 0: any free port
    api_key: str | None = None
    tool_parser: str = "auto"  # form of tool calls, see `engine.text.replies.formats`; auto: by the chat template
    reasoning_parser: str = "auto"  # the same of thoughts
    generation_config: Literal["auto", "none"] = "auto"  # whether the model's sampling defaults apply
    cors_origins: tuple[str, ...] = ()  # from which web pages may send requests; `*`: any
    log_level: log_levels = "info"  # of the engine's own lines; of libraries: warnings
    follow_stdin: bool = False  # end when standard input closes, as it does when the parent process ends
    device: devices = "auto"
    dtype: type_names = "auto"
    quantization: quantizations = "none"  # of the linears' weights
    weights: ways = "auto"  # of a quantised checkpoint, see `engine.model.quantized_linear`
    tensor_parallel: int = Field(default=1, ge=1, le=64)  # processes that split the model, one GPU each
    replicas: int = Field(default=1, ge=1, le=256)  # engines behind one address, see `engine.cluster`
    ray_address: str | None = None  # of the Ray cluster that runs them; None: one of our own on this machine
    threads: int | None = Field(default=None, ge=1)  # of torch, per process; None: the cores, divided up

    block_size: int = Field(default=16, ge=1, le=256)  # tokens
    cache_dtype: cache_types = "auto"  # of keys and values; auto: the model's own
    cache_tokens: int | None = Field(default=None, ge=1)  # capacity of the KV cache
    cache_memory: ByteSize | None = Field(default=None, ge=1)  # bytes in each process, where cache_tokens is not given
    gpu_memory_share: float = Field(
        default=0.9, gt=0, le=1
    )  # of a GPU's memory for model, steps and cache, where neither is given
    max_model_len: int | None = Field(default=None, ge=1)  # tokens; None: the model's own context
    max_batch: int = Field(default=256, ge=1)  # sequences that run at once
    max_waiting: int = Field(default=20_000, ge=1)  # sequences that wait; more are refused with 429
    prefill_chunk: int = Field(default=512, ge=1)  # prompt tokens computed per step, beside the decoding rows
    speculation: Literal["auto", "off"] = "auto"  # auto: where it pays
    max_draft: int = Field(default=32, ge=1, le=256)  # tokens guessed per sequence and step
    batch_invariant: bool = False  # a sequence's output is the same bits whatever else runs; slower
    lease_seconds: float = Field(default=120.0, ge=0)  # that a finished prefix stays cached, memory permitting
    item_tokens: int | None = Field(default=None, ge=0)  # `kernels.tree_attention.cut.CutCost`; None: by calibration
    attention_backend: backends = "auto"  # auto: see `engine.model.backends.choose`
    calibrate: bool = False  # measure what attention costs, even if it is known or there is no GPU
    cuda_graphs: bool = True  # decode steps as graphs, where attention is by Triton on a GPU
