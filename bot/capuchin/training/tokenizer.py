"""The tokenizer: byte-level BPE of 4,096 tokens, in which an identifier has the same tokens wherever it occurs.

Spaces belong to operators, punctuation and frequent words, never to the start of an identifier. Digits are single
tokens, underscores split, a newline includes the indentation after it, and the markers of the reply formats are one
token each. Decoding restores any text exactly.
"""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from bot.capuchin.exercises.turns import Turn

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = 4096
FILES = ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "special_tokens_map.json")
PAD, USER, ASSISTANT, END = "<|pad|>", "<|user|>", "<|assistant|>", "<|end|>"
MARKERS = (
    "<<<<<<< SEARCH",
    "=======",
    ">>>>>>> REPLACE",
    '<edit path="',
    "</edit>",
    '<test path="',
    "</test>",
    '<file path="',
    "</file>",
    "<issue>",
    "</issue>",
    "<relevant>",
    "</relevant>",
    "<irrelevant/>",
    "<ranking>",
    "</ranking>",
    "<approve/>",
    "<done/>",
    "<choose>",
    "</choose>",
    "Write a test.",
    "Write an edit.",
    "Approve or revise.",
    "Done, edit or test?",
    "Relevant?",
    "Rank the files.",
    "Choose or write a test.",
    "Try again.",
    "test_issue.py",
    "Traceback (most recent call last):",
    "<candidate ",
    "AssertionError",
    "diff --git a/",
    "raise AssertionError",
)
_WORDS = (
    "return|if|for|in|not|and|or|import|from|assert|def|is|else|elif|while|with|as|raise|except|class|lambda|yield|del|the|a|an|to|of|it|be|"
    "this|that|but|should|when|are|on|I|get|got|returns|gives|raises|expected|instead|was|has|by|at|no|does|line|File|value|result|can|"
    "The|It|This|For|If|In|Return|Returns|A|we|you|have|which|will|must|all|only|one|its|used|use|same|than|then|so"
)
PATTERN = (
    rf"\n *| ?(?:{_WORDS}) |[A-Z]?[a-z]+|[A-Z]+|[0-9]|_+"
    r"| ?(?:>>>|\.\.\.|->|[-+*/%&|^<>=!@]+) ?|[,:;.?!\)\]\}`'\"] (?! )|[^\sA-Za-z0-9_]| +|\s"
)
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['content'] or message['role'] != 'system' %}"
    "{{ '<|' + ('user' if message['role'] == 'system' else message['role']) + '|>\n' }}"
    "{{ message['content'] + '<|end|>\n' }}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\n' }}{% endif %}"
)


def learn(texts: Iterable[str]) -> "Tokenizer":
    """Train the tokenizer on texts."""
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PATTERN), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [PAD, USER, ASSISTANT, END]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(MARKERS),
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        min_frequency=2,
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_tokens([AddedToken(marker, normalized=False, special=False) for marker in MARKERS])
    return tokenizer


def save(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write it with the chat template, so that `AutoTokenizer.from_pretrained(folder)` loads it."""
    from transformers import PreTrainedTokenizerFast

    wrapped = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
        model_max_length=4096,
    )
    wrapped.chat_template = CHAT_TEMPLATE
    folder.mkdir(parents=True, exist_ok=True)
    wrapped.save_pretrained(str(folder))


def copy(source: Path, folder: Path) -> None:
    """Copy the tokenizer and the chat template of a checkpoint's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        if (source / name).exists():
            shutil.copy(source / name, folder / name)


def load(folder: Path) -> "Tokenizer":
    """The tokenizer of a checkpoint's folder."""
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(folder / "tokenizer.json"))


PROMPT, REPLY, QUOTED, SILENT, CHANGE = 0, 1, 2, 3, 4  # classes of tokens, by the weight of their predictions


def encode(tokenizer: "Tokenizer", turns: list[Turn]) -> tuple[list[int], list[int]]:
    """Token ids of a conversation as the chat template writes it, and the class of each.

    REPLY: learned. QUOTED: a right test in an edit's prompt, which also teaches writing tests. SILENT: a wrong attempt,
    not learned. CHANGE: where an edit's new lines first differ from the old ones. PROMPT: everything else.
    """
    ids: list[int] = []
    classes: list[int] = []

    def put(text: str, kind: int) -> None:
        new = tokenizer.encode(text, add_special_tokens=False).ids
        ids.extend(new)
        classes.extend([kind] * len(new))

    quotable = turns[-1].loss and turns[1].loss and not any(turn.content.startswith("<test") for turn in turns)
    for index, turn in enumerate(turns):
        if turn.role == "user":
            content, quoted = turn.content, ""
            if index == 0 and quotable and "\n<test path=" in content:
                at = content.rindex("\n<test path=") + 1
                content, quoted = content[:at], content[at:]
            put(f"{USER}\n{content}", PROMPT)
            if quoted:
                shown, _, rest = quoted.rpartition("\n")
                put(shown, QUOTED)
                put("\n" + rest, PROMPT)
            put(f"{END}\n", PROMPT)
        else:
            put(f"{ASSISTANT}\n", PROMPT)
            began = len(ids)
            put(turn.content + END, REPLY if turn.loss else SILENT)
            change = _change(tokenizer, ids[began:]) if turn.loss else None
            if change is not None:
                classes[began + change] = CHANGE
            put("\n", PROMPT)
    return ids, classes


def _change(tokenizer: "Tokenizer", ids: list[int]) -> int | None:
    """Where in a reply's tokens the REPLACE part first differs from the SEARCH part; None if there is no edit."""
    first, middle, last = (tokenizer.token_to_id(MARKERS[index]) for index in range(3))
    if middle not in ids or first not in ids or last not in ids:
        return None
    start, between, end = ids.index(first), ids.index(middle), ids.index(last)
    old, new = ids[start + 1 : between], ids[between + 1 : end]
    return next((between + 1 + k for k, token in enumerate(new) if k >= len(old) or old[k] != token), None)
