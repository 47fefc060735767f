"""What `--model` names, as a folder that can be loaded: a folder, a GGUF file, or a name on the Hugging Face hub.

Errors are reported here, in one line, before anything is loaded or any other process starts.
"""

import json
import re
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import LoadError, one_line, reason
from engine.weights.gguf_cache import converted, default_cache
from engine.weights.gguf_file import read_gguf

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "tekken.json", "tokenizer_config.json")
_HUB_NAME = re.compile(r"(?:[\w-][\w.-]*/)?[\w-][\w.-]*", re.ASCII)
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken"]


def say(text: str) -> None:
    """Print a line for the operator, on standard error."""
    print(f"troop engine: {text}", file=sys.stderr, flush=True)


def resolve(
    model: str, cache: Path | None = None, longest: int | None = None, say: Callable[[str], None] = say
) -> Path:
    """A local folder with configuration, weights and tokenizer.

    Args:
        model: a folder; a GGUF file, or a folder that holds one and no `config.json`; else a name on the hub.
        cache: where conversions of GGUF files are kept; by default in the user's cache folder.
        longest: tokens in the longest sequence that will be served, see `engine.model.features.check_config`.
        say: prints what takes long.

    Raises:
        LoadError: there is no such model, or it is damaged, incomplete or of an unknown kind.
        UnsupportedModelError: the engine does not implement a feature of it.
    """
    path = _find(model)
    if path is None:
        return _from_hub(model)
    if path.is_dir():
        check_folder(path)
        return path
    return converted(path, cache or default_cache(), check_folder, longest, say)


def look(model: str) -> None:
    """Quick checks without loading anything; `resolve` does the rest.

    Raises:
        LoadError: nothing is there, or it is not a complete GGUF file.
    """
    path = _find(model)
    if path is not None and not path.is_dir():
        read_gguf(path)


def _find(model: str) -> Path | None:
    """The folder or the GGUF file that `model` names; `None` if it can only be a name on the hub.

    Raises:
        LoadError: it can't be either.
    """
    if not model.strip() or "\0" in model:
        raise LoadError("--model is not a valid name: give a folder, a GGUF file or a name on the hub")
    try:
        path = Path(model).expanduser()
    except RuntimeError:  # a home of an unknown user
        path = Path(model)
    if not _exists(path):
        if not _HUB_NAME.fullmatch(model) or ".." in model or path.suffix.lower() == ".gguf":
            raise LoadError(f"no model {model!r}: there is no such file or folder")
        return None
    if path.is_dir():
        return _only_gguf(path) or path
    if not path.is_file():
        raise LoadError(f"{path} is neither a file nor a folder")
    if path.suffix in (".json", ".safetensors", ".bin"):
        raise LoadError(f"{path} is one file of a model: name the folder that it is in")
    return path


def _exists(path: Path) -> bool:
    """Whether the path exists.

    Raises:
        LoadError: a folder on the way to it can't be looked into.
    """
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise LoadError(f"{path} cannot be read: {reason(error)}") from error
    return True


def _only_gguf(folder: Path) -> Path | None:
    """The GGUF file of a folder that has no configuration; `None` if it is to be loaded as a folder.

    Raises:
        LoadError: it holds several such files, or can't be read.
    """
    try:
        if (folder / "config.json").exists():
            return None
        found = sorted(file for file in folder.iterdir() if file.suffix.lower() == ".gguf" and file.is_file())
    except OSError as error:
        raise LoadError(f"{folder} cannot be read: {reason(error)}") from error
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:8]) + (", ..." if len(found) > 8 else "")
        raise LoadError(f"{folder} holds {len(found)} GGUF files: name one of {names}")
    return found[0] if found else None


def check_folder(folder: Path) -> None:
    """Check that a folder holds a model of a known kind, with complete weights and a tokenizer.

    Raises:
        LoadError: with what is missing or damaged.
    """
    _refuse_adapter(folder)
    if not (folder / "config.json").exists():
        raise LoadError(f"{folder} holds no model: it has neither config.json nor a GGUF file")
    config = _json(folder / "config.json")
    if "model_type" not in config:
        raise LoadError(f"{folder / 'config.json'} has no model_type, so it is not a model's configuration")
    if not isinstance(config.get("quantization_config") or {}, dict):
        raise LoadError(f"{folder / 'config.json'}: quantization_config is no object: fetch the file again")
    _check_kind(folder, config)
    index = folder / "model.safetensors.index.json"
    single = folder / "model.safetensors"
    if index.exists():
        _check_shards(index)
    elif single.exists():
        check_safetensors(single)
    elif not any(folder.glob("pytorch_model*.bin*")):
        other = next((file.name for file in folder.glob("consolidated*")), None)
        hint = f"; {other} is in a layout of its own: fetch model*.safetensors as well" if other else ""
        raise LoadError(f"{folder} holds no weights: it has neither model.safetensors nor its index{hint}")
    if not any((folder / name).exists() for name in TOKENIZERS):
        raise LoadError(f"{folder} holds no tokenizer: tokenizer.json is missing")
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        if (folder / name).exists():
            _json(folder / name)


def _refuse_adapter(folder: Path) -> None:
    """Refuse adapters (LoRA), also beside a whole model: it would be served without them, and nothing says whether they
    are merged already.
    """
    found = next((name for name in _ADAPTER if (folder / name).exists()), None)
    if found is None:
        return
    what = "an adapter, not a whole model"
    if (folder / "config.json").exists():
        what = f"{found}, an adapter, beside a model: if the weights have it already, remove that file; if not"
    name = repr(str(folder))
    raise LoadError(
        f"{folder} holds {what}: merge it into its base model, in Python: "
        f"peft.AutoPeftModelForCausalLM.from_pretrained({name}).merge_and_unload().save_pretrained('merged'); "
        f"transformers.AutoTokenizer.from_pretrained({name}).save_pretrained('merged')"
    )


def _check_kind(folder: Path, config: dict[str, Any]) -> None:
    """Refuse kinds that `transformers` has no code for."""
    from transformers import CONFIG_MAPPING

    kind = config["model_type"]
    if isinstance(kind, str) and kind in CONFIG_MAPPING:
        return
    own = ": it brings code of its own, which is never run here" if config.get("auto_map") else ""
    raise LoadError(f"{folder} is of the kind {kind!r}, which this version of transformers does not know{own}")


def _check_shards(index: Path) -> None:
    """Check all files of weights that an index names."""
    places = _json(index).get("weight_map")
    if not isinstance(places, dict) or not all(isinstance(name, str) for name in places.values()):
        raise LoadError(f"{index} is damaged: it names no files of weights")
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise LoadError(f"{index} is damaged: {name!r} is not a file beside it")
        if not (index.parent / name).exists():
            raise LoadError(f"{index.parent} is incomplete: {name} is missing")
        held = check_safetensors(index.parent / name)
        lacking = [weight for weight, place in places.items() if place == name and weight not in held]
        if lacking:
            raise LoadError(f"{index.parent / name} lacks {lacking[0]}, which the index says it holds")


def check_safetensors(file: Path) -> set[str]:
    """The names of a file's tensors, from its header, after a check that the file has the length that the header says.

    Raises:
        LoadError: it can't be read, is cut short or is not a safetensors file.
    """
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            start = stream.read(8)
            length = struct.unpack("<Q", start)[0] if len(start) == 8 else 0
            if not length or length > size:
                raise LoadError(
                    f"{file} is not a safetensors file, or cut short: it has {size:,} bytes; fetch it again"
                )
            head = json.loads(stream.read(length))
        entries = {name: entry for name, entry in head.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in entries.values()), default=0)
    except OSError as error:
        raise LoadError(f"{file} cannot be read: {reason(error)}") from error
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise LoadError(f"{file} is damaged: its header is not a safetensors header ({one_line(error)})") from error
    if end != size:
        raise LoadError(
            f"{file} is cut short or damaged: it should have {end:,} bytes and has {size:,}; fetch it again"
        )
    return set(entries)


def _json(file: Path) -> dict[str, Any]:
    """A JSON object in a file.

    Raises:
        LoadError: it can't be read, or is not a JSON object.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise LoadError(f"{file} cannot be read: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise LoadError(f"{file} is not valid JSON: {one_line(error)}") from error
    if not isinstance(found, dict):
        raise LoadError(f"{file} is damaged: it holds no JSON object")
    return found


def _from_hub(model: str) -> Path:
    """The folder of a model that the hub's client fetches, or fetched before.

    Raises:
        LoadError: the hub has no such model or can't be reached, or the model is incomplete.
    """
    import huggingface_hub
    from huggingface_hub import errors

    where = f"no model {model!r}: it is not a file or folder here, and"
    hint = "fetch it on another machine and name its folder or GGUF file"
    try:
        folder = Path(huggingface_hub.snapshot_download(model, allow_patterns=_WANTED))
    except errors.GatedRepoError as error:
        raise LoadError(f"{model} is given only to those who accepted its terms: do so, and set HF_TOKEN") from error
    except errors.RepositoryNotFoundError as error:
        raise LoadError(f"{where} the hub has none of that name, or HF_TOKEN is needed to see it") from error
    except errors.HFValidationError as error:
        raise LoadError(f"{where} the hub has no such names") from error
    except Exception as error:  # from its HTTP client, the system or its cache
        raise LoadError(f"{where} the hub could not be reached ({_cause(error)}); {hint}") from error
    _refuse_adapter(folder)
    if not (folder / "config.json").exists():
        raise LoadError(
            f"{model} on the hub has no config.json: fetch one of its GGUF files, if it has any, and name it"
        )
    check_folder(folder)
    return folder


def _cause(error: BaseException) -> str:
    """The first cause of an error that has others behind it."""
    while (behind := error.__cause__ or error.__context__) is not None:
        error = behind
    return reason(error)[:200]
