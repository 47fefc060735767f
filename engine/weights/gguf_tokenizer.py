"""The tokenizer of a GGUF file's model, in the form of a folder's `tokenizer.json`.

A file holds the vocabulary, its merges and the name of the rule by which text is cut into words before merging
(`tokenizer.ggml.pre`). `transformers` knows some of these rules and silently uses GPT-2's for the others, which gives
tokens that the model was not trained on. Here a byte-level vocabulary is built from the file, and an unknown rule is
refused by name. Vocabularies with scores (SentencePiece's) are built by `transformers`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers

from engine.errors import LoadError, one_line
from engine.weights.gguf_file import GGUFFile

CONTROL, USER_DEFINED = 3, 4  # values of `tokenizer.ggml.token_type`

ENDS = frozenset(  # names of control tokens that end a turn or a text
    {"<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|end|>", "<end_of_turn>", "<EOT>"}
    | {"<|EOT|>", "<|return|>", "<｜end▁of▁sentence｜>", "<end_of_utterance>", "</s>", "<eos>"}
)
_SAMPLING = {"temp": "temperature", "top_k": "top_k", "top_p": "top_p", "min_p": "min_p"}

# How text is cut into words, by `tokenizer.ggml.pre`; regular expressions are those of the models' own tokenizers.
_GPT2 = ("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "mellum", "gigachat")
_DIGITS = ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2")
_SAME = {  # names for rules that are listed above under another name
    "stablelm2": "qwen2",
    "hunyuan": "qwen2",
    "solar-open": "qwen2",
    "grok-2": "qwen2",
    "glm4": "llama3",
    "chatglm-bpe": "llama3",
}
_DEEPSEEK_CODER = (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+")
_WHOLE_WORDS = {"llama3", "llama-v3", "llama-bpe", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2", "tekken"}


def write_tokenizer(file: GGUFFile, folder: Path) -> None:
    """Write `tokenizer.json`, `tokenizer_config.json` with the chat template, and `generation_config.json`.

    Raises:
        LoadError: the file has no tokenizer, or one that can't be rebuilt.
    """
    from transformers import PreTrainedTokenizerFast

    said = _Said(file)
    backend = _byte_level(said) if said.model == "gpt2" else _scored(said)
    named = {f"{name}_token": said.named(key) for name, key in _NAMED.items()}
    add = {f"add_{end}_token": bool(said.get(f"add_{end}_token", _adds(said, end))) for end in ("bos", "eos")}
    add = {name: on for name, on in add.items() if on and named[name.removeprefix("add_")]}
    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=backend, clean_up_tokenization_spaces=False, **{k: v for k, v in named.items() if v}, **add
    )
    template = file.metadata.get("tokenizer.chat_template")
    if isinstance(template, str) and template.strip():
        wrapped.chat_template = template
    wrapped.save_pretrained(folder)
    defaults: dict[str, Any] = {f"{name}_token_id": said.id(_NAMED[name]) for name in ("bos", "pad")}
    defaults["eos_token_id"] = ends(file) or None
    sampling = {to: file.metadata.get(f"general.sampling.{name}") for name, to in _SAMPLING.items()}
    written = {name: value for name, value in (defaults | sampling).items() if value is not None}
    (folder / "generation_config.json").write_text(json.dumps(written, indent=2))


_NAMED = {"bos": "bos_token_id", "eos": "eos_token_id", "unk": "unknown_token_id", "pad": "padding_token_id"}


def ends(file: GGUFFile) -> list[int]:
    """Tokens that end a text, first the one that the file names: it names one, but chat models often have two."""
    said = _Said(file)
    named = [said.id(f"{name}_token_id") for name in ("eos", "eot", "eom")]
    called = [index for index in said.of_type(CONTROL) if said.tokens[index] in ENDS]
    return list(dict.fromkeys(index for index in [*named, *called] if index is not None))


@dataclass(frozen=True)
class _Said:
    """The tokenizer's metadata in a file."""

    file: GGUFFile

    def get(self, key: str, otherwise: Any = None) -> Any:
        return self.file.metadata.get(f"tokenizer.ggml.{key}", otherwise)

    @property
    def model(self) -> str:
        found = self.get("model")
        if found in (None, "none", "no_vocab") or not self.get("tokens"):
            raise LoadError(f"{self.file.path} has no tokenizer: name a file that has one")
        return str(found)

    @property
    def tokens(self) -> list[str]:
        found = self.get("tokens") or []
        if not isinstance(found, list) or not all(isinstance(token, str) for token in found):
            raise LoadError(f"{self.file.path} is damaged: its vocabulary is not a list of texts")
        return found

    def of_type(self, kind: int) -> list[int]:
        types = self.get("token_type") or []
        return [index for index, found in enumerate(types[: len(self.tokens)]) if found == kind]

    def id(self, key: str) -> int | None:
        found = self.get(key)
        return found if isinstance(found, int) and 0 <= found < len(self.tokens) else None

    def named(self, key: str) -> str | None:
        index = self.id(key)
        return None if index is None else self.tokens[index]


def _byte_level(said: _Said) -> Tokenizer:
    """Byte-level BPE, with the tokens as written in the file."""
    merges = said.get("merges")
    if not isinstance(merges, list) or not all(isinstance(merge, str) and merge.count(" ") == 1 for merge in merges):
        raise LoadError(f"{said.file.path} has a byte-level tokenizer without merges")
    vocabulary = {token: index for index, token in enumerate(said.tokens)}
    if len(vocabulary) != len(said.tokens):
        raise LoadError(f"{said.file.path} is damaged: its vocabulary holds a token twice")
    pairs = [(left, right) for left, right in (merge.split(" ") for merge in merges)]
    name = said.get("pre")
    try:
        tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=pairs, ignore_merges=name in _WHOLE_WORDS))
    except Exception as error:  # the library raises nothing more specific
        raise LoadError(f"{said.file.path} is damaged: its tokenizer cannot be built ({one_line(error)})") from error
    words = _words(name)
    if words is None:
        what = f"cuts words by the rule {name!r}" if name else "does not say how its tokenizer cuts words"
        raise LoadError(f"{said.file.path} {what}: use the model's folder with tokenizer.json instead")
    tokenizer.pre_tokenizer = words
    if name in ("qwen2", "deepseek-r1-qwen"):
        tokenizer.normalizer = normalizers.NFC()
    tokenizer.decoder = decoders.ByteLevel()
    _add(said, tokenizer)
    return tokenizer


def _add(said: _Said, tokenizer: Tokenizer) -> None:
    """Add tokens that are never split: control tokens as special ones, others as plain ones."""
    control, plain = (
        [AddedToken(said.tokens[index], normalized=False, special=special) for index in said.of_type(kind)]
        for kind, special in ((CONTROL, True), (USER_DEFINED, False))
    )
    tokenizer.add_special_tokens(control)
    tokenizer.add_tokens(plain)
    if tokenizer.get_vocab_size() != len(said.tokens):
        raise LoadError(f"{said.file.path} is damaged: its control tokens are not in its vocabulary")


def _words(name: str | None) -> Any:
    """How text is cut into words by the rule of that name; `None` if it is unknown."""
    from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

    gpt2 = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    spell = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    if name in _GPT2:
        return gpt2
    if name in _DIGITS:
        return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), gpt2])
    if name == "deepseek-coder":
        steps: list[Any] = [pre_tokenizers.Split(Regex(rule), "isolated") for rule in _DEEPSEEK_CODER]
        return pre_tokenizers.Sequence([*steps, pre_tokenizers.Digits(individual_digits=True), spell])
    rule = GGUF_PRE_TOKENIZER_SPLITS.get(_SAME.get(name or "", name))
    return rule and pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(rule), "isolated"), spell])


def _adds(said: _Said, end: str) -> bool:
    """The default for whether a token is put around a text."""
    return end == "bos" and (said.model == "llama" or said.get("pre") in _WHOLE_WORDS - {"lfm2"})


def _scored(said: _Said) -> Tokenizer:
    """SentencePiece's kind, by `transformers`."""
    from transformers.integrations.gguf import convert_gguf_tokenizer, get_gguf_tokenizer

    path = said.file.path
    if said.model not in ("llama", "gemma4"):
        raise LoadError(f"{path} has a tokenizer of the kind {said.model!r}: use the model's folder instead")
    try:
        architecture, found, _ = get_gguf_tokenizer(str(path))
        backend, _ = convert_gguf_tokenizer(architecture, found)
    except Exception as error:  # whatever error a file causes in the loader
        raise LoadError(f"{path} has a tokenizer that transformers cannot build: {one_line(error)}") from error
    if not isinstance(backend, Tokenizer):
        raise LoadError(f"{path} has a tokenizer that gives no tokenizer.json")
    if isinstance(backend.pre_tokenizer, pre_tokenizers.Metaspace):
        # It would confuse a text's own space with the one that is put before every text.
        prefix = bool(said.get("add_space_prefix", True))
        blank = normalizers.Replace(" ", "▁")
        backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), blank]) if prefix else blank
        backend.pre_tokenizer = None  # the library's own word for none
        steps: list[Any] = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        backend.decoder = decoders.Sequence([*steps, *([decoders.Strip(" ", 1, 0)] if prefix else [])])
    return backend
