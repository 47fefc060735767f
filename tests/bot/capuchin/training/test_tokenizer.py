from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.capuchin.exercises.turns import right, said, wrong
from bot.capuchin.training import tokenizer as tok

CHECKPOINT = Path(__file__).parents[4] / "engine" / "checkpoints" / "capuchin"
TOKENIZER = tok.load(CHECKPOINT)


CODE = st.text(alphabet=" \n\t()_=<>'\"`.,:[]{}0189abXYé…", max_size=60)


@given(st.text() | CODE)
def test_text_comes_back_exactly(text: str) -> None:
    ids = TOKENIZER.encode(text, add_special_tokens=False).ids
    assert TOKENIZER.decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("marker", tok.MARKERS)
def test_markers_are_one_token_each(marker: str) -> None:
    assert len(TOKENIZER.encode(marker, add_special_tokens=False).ids) == 1


def test_digits_stand_alone() -> None:
    assert len(TOKENIZER.encode("12345", add_special_tokens=False).ids) == 5


def test_an_identifier_is_the_same_tokens_wherever_it_stands() -> None:
    name = TOKENIZER.encode("parse_zorkel2", add_special_tokens=False).ids
    for text in (
        "`parse_zorkel2(1)`",
        "x = parse_zorkel2(1)",
        "import parse_zorkel2\n",
        "    return parse_zorkel2",
        "a, parse_zorkel2",
    ):
        ids = TOKENIZER.encode(text, add_special_tokens=False).ids
        assert any(ids[i : i + len(name)] == name for i in range(len(ids))), text


def test_encoding_for_training_is_what_the_chat_template_writes() -> None:
    from transformers import AutoTokenizer

    wrapped = AutoTokenizer.from_pretrained(str(CHECKPOINT))
    turns = [said("a\nWrite an edit."), wrong("bad\nedit"), said("no <edit> found\nTry again."), right("<done/>")]
    ids, classes = tok.encode(TOKENIZER, turns)
    messages = [{"role": turn.role, "content": turn.content} for turn in turns]
    text = wrapped.apply_chat_template(messages, tokenize=False)
    assert ids == wrapped(text, add_special_tokens=False).input_ids
    learned = [i for i, kind in zip(ids, classes, strict=True) if kind == tok.REPLY]
    assert TOKENIZER.decode(learned, skip_special_tokens=False) == "<done/><|end|>"
    prompt = wrapped.apply_chat_template(messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|user|>\na\nWrite an edit.<|end|>\n<|assistant|>\n"


def test_an_empty_system_message_is_left_out() -> None:
    from transformers import AutoTokenizer

    wrapped = AutoTokenizer.from_pretrained(str(CHECKPOINT))
    messages = [{"role": "system", "content": ""}, {"role": "user", "content": "hi"}]
    assert wrapped.apply_chat_template(messages, tokenize=False) == "<|user|>\nhi<|end|>\n"


def test_the_token_that_mends_is_marked() -> None:
    old, new = "    return low < high", "    return low <= high"
    edit = f'<edit path="a.py">\n<<<<<<< SEARCH\n{old}\n=======\n{new}\n>>>>>>> REPLACE\n</edit>'
    ids, classes = tok.encode(TOKENIZER, [said("a\nWrite an edit."), right(edit)])
    marked = [i for i, kind in zip(ids, classes, strict=True) if kind == tok.CHANGE]
    assert TOKENIZER.decode(marked, skip_special_tokens=False).strip() == "<="
    same = edit.replace(new, old)
    _, classes = tok.encode(TOKENIZER, [said("a\nWrite an edit."), wrong(edit), said("no"), right(same)])
    assert tok.CHANGE not in classes
