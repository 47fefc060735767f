"""The command `python -m engine`, which `troop engine` starts: its options, then the server.

Importing torch takes seconds, so nothing here imports it before the options are read: `--help`, a wrong option and a
model that is not there are answered at once.
"""

import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from engine.errors import LoadError, ending, one_line
from engine.logs import LEVEL
from engine.settings import REASONING_PARSERS, TOOL_PARSERS, Settings
from engine.weights.checkpoint import look

API_KEY = "TROOP_ENGINE_API_KEY"  # not an option: a list of processes would show it
MODEL_CACHE = "TROOP_MODEL_CACHE"

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]
_DEFAULTS = Settings()


def main(argv: Sequence[str] | None = None) -> int:
    """Read the options and serve until a signal ends it. Returns the exit status."""
    settings = read(argv)
    try:
        look(settings.model)
    except LoadError as error:
        print(ending(error), file=sys.stderr)
        return 1

    if settings.replicas > 1 or settings.ray_address is not None:
        from engine.cluster.process import serve
    else:
        from engine.server.process import serve
    return serve(settings)


def read(argv: Sequence[str] | None = None) -> Settings:
    """Settings from the command line and the environment.

    Raises:
        SystemExit: with 2, after a line that says what is wrong; with 0 after `--help`.
    """
    try:
        found = command.main(argv, prog_name="troop engine", standalone_mode=False)
    except click.ClickException as error:
        print(f"troop engine: {one_line(error.format_message())}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    if not isinstance(found, Settings):  # click's own exit status, after `--help`
        raise SystemExit(found)
    return found


def _option(name: str, *, text: str = "", **more: Any) -> Decorator:
    """An option named after a field of `Settings`, with that field's default."""
    return click.option(name, default=getattr(_DEFAULTS, name[2:].replace("-", "_")), help=text, **more)


def _origins(_: click.Context, __: click.Parameter, given: str) -> tuple[str, ...]:
    """The origins in a list with commas."""
    found = tuple(part.strip().rstrip("/") for part in given.split(",") if part.strip())
    for origin in found:
        if origin != "*" and not re.fullmatch(r"https?://[^/\s]+", origin):
            raise click.BadParameter(f"{origin!r} is no origin: write it like https://chat.example.org")
    return found


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120, "show_default": True})
@_option("--model", metavar="FOLDER|FILE.gguf|NAME", show_default="the bundled model",
         text="A model's folder, a GGUF file (converted once), or a name on the hub.")  # fmt: skip
@_option("--model-cache", type=click.Path(path_type=Path), metavar="DIR", envvar=MODEL_CACHE,
         show_default=f"${MODEL_CACHE}, else ~/.cache/troop/models",
         text="Where converted GGUF files are kept.")  # fmt: skip
@_option("--served-model-name", metavar="NAME", show_default="that of the folder or file",
         text="Name under which the model is served.")  # fmt: skip
@_option("--host", text="Address to listen on.")
@_option("--port", type=int, text="Port to listen on; 0 takes any free one.")
@_option("--tool-parser", type=click.Choice(["auto", "none", *TOOL_PARSERS]),
         text="Form of the model's tool calls; auto: as its chat template says.")  # fmt: skip
@_option("--reasoning-parser", type=click.Choice(["auto", "none", *REASONING_PARSERS]),
         text="Form of the model's thoughts, which are sent apart; none: as content.")  # fmt: skip
@_option("--generation-config", type=click.Choice(["auto", "none"]),
         text="none: ignore the sampling defaults of the model's generation_config.json.")  # fmt: skip
@click.option("--cors-origins", default="", metavar="ORIGIN,...", callback=_origins, show_default="none",
              help="Origins whose web pages may send requests, e.g. https://chat.example.org; * for any.")  # fmt: skip
@_option("--log-level", type=click.Choice(["debug", "info", "warning", "error"]), envvar=LEVEL, show_envvar=True,
         text="The least that the engine logs of its own; of libraries it is warnings.")  # fmt: skip
@_option("--follow-stdin", is_flag=True, text="End when standard input closes, with whoever started the engine.")
@_option("--device", type=click.Choice(["auto", "cpu", "cuda"]))
@_option("--dtype", type=click.Choice(["auto", "float32", "bfloat16", "float16"]),
         text="auto: the checkpoint's own on a GPU, of float32 bfloat16; on a CPU it or float32, tried.")  # fmt: skip
@_option("--quantization", type=click.Choice(["none", "int8", "int4"]),
         text="Of the linears' weights, rounded at load, to save memory.")  # fmt: skip
@_option("--weights", type=click.Choice(["auto", "native", "dequantized"]),
         text="Of a quantised checkpoint; native: kept; auto: kept where a GPU has kernels.")  # fmt: skip
@_option("--tensor-parallel", type=int, metavar="N", text="Split the model over N processes, one GPU each.")
@_option("--replicas", type=int, metavar="N",
         text="Engines behind this address, each with its own GPU or GPUs; needs the extra `cluster`.")  # fmt: skip
@_option("--ray-address", metavar="HOST:PORT", show_default="a Ray of its own on this machine",
         text="Ray cluster whose machines run the replicas; auto: the one that this machine belongs to.")  # fmt: skip
@_option("--threads", type=int, show_default="the cores that this process may use", text="Threads of torch.")
@_option("--cache-dtype", type=click.Choice(["auto", "fp8_e4m3"]),
         text="Of keys and values; fp8_e4m3: 8 bits, so twice as many tokens as in 16, less exact.")  # fmt: skip
@_option("--cache-tokens", type=int, text="Tokens that the cache holds.")
@_option("--cache-memory", metavar="SIZE", show_default="2GiB on a CPU",
         text="Memory of the cache, e.g. 2GiB or 500MB, instead of --cache-tokens.")  # fmt: skip
@_option("--gpu-memory-share", type=float, text="Share of a GPU's memory to fill, where no size of the cache is given.")
@_option("--max-model-len", type=int, show_default="the model's context",
         text="Longest prompt and answer together, in tokens.")  # fmt: skip
@_option("--max-batch", type=int, text="Sequences that run at once.")
@_option("--max-waiting", type=int, text="Sequences that may wait; more are refused.")
@_option("--prefill-chunk", type=int, text="Prompt tokens computed per step.")
@_option("--block-size", type=int, text="Tokens per cache block.")
@_option("--lease-seconds", type=float, text="How long a finished prefix is pinned.")
@_option("--speculation", type=click.Choice(["auto", "off"]), text="Try guessed tokens where it pays, or never.")
@_option("--max-draft", type=int, text="Tokens guessed at once.")
@_option("--batch-invariant", is_flag=True, text="The same bits whatever else runs; slower: for comparisons.")
@_option("--attention-backend", type=click.Choice(["auto", "torch", "triton"]),
         text="auto: triton on a GPU, C on a CPU with AVX-512 BF16, else torch.")  # fmt: skip
@_option("--calibrate", is_flag=True, text="Measure what attention costs now, rather than once per GPU.")
@click.option("--cuda-graphs/--no-cuda-graphs", default=_DEFAULTS.cuda_graphs,
              help="Replay decode steps as graphs, or launch each kernel by kernel.")  # fmt: skip
def command(**options: Any) -> Settings:
    """Serve a language model over an OpenAI-compatible API, sharing prompt prefixes.

    With TROOP_ENGINE_API_KEY set, requests need that key.
    """
    if options["cache_tokens"] is not None and options["cache_memory"] is not None:
        raise click.UsageError("--cache-tokens and --cache-memory both size the cache: give one of them")
    try:
        return Settings(**options, api_key=os.environ.get(API_KEY) or None)
    except ValidationError as error:
        first = error.errors()[0]
        name = "-".join(str(part).replace("_", "-") for part in first["loc"])
        raise click.UsageError(f"--{name}: {first['msg']}") from None
