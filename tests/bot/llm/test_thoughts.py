"""Thoughts are dropped in whatever way a model marks them."""

import pytest

from bot.llm.thoughts import without_thoughts

EDIT = '<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\ny\n>>>>>>> REPLACE\n</edit>'
DRAFT = EDIT.replace("a.py", "draft.py")


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("<think>hm <test>draft</test></think>\n\n<done/>", "<done/>"),
        ("\n<thinking>a</thinking><done/>", "<done/>"),
        ("hm, well\n</think>\n\n<done/>", "<done/>"),
        ("<think>never ends <done/>", ""),
        ("no thoughts at all", "no thoughts at all"),
        ('<edit path="a.py">\n<<<<<<< SEARCH\nx\n=======\n</think>\n>>>>>>> REPLACE\n</edit>', None),
    ],
)
def test_thoughts_are_dropped(said: str, left: str | None) -> None:
    assert without_thoughts(said) == (said if left is None else left)


@pytest.mark.parametrize("reply", [EDIT, "<done/>", "<irrelevant/>", "<ranking>\na.py\n</ranking>"])
@pytest.mark.parametrize(
    "thought",
    [
        f"First\n{DRAFT}\nNo, that is wrong.\n</think>\n",  # the opening tag is in the prompt
        f"First\n{DRAFT}\nNo.</think>\n\n",
        '<test path="draft.py">\nnever closed\n</think>\n',
        f"{DRAFT}\n<approve/>\n</thinking>",
        "It isn't <done/> yet.</think>",
        f"<think>a</think>\n<think>{DRAFT}</think>\n",  # several
        f"<think>a <think>b</think>\n{DRAFT}\n</think>\n",  # nested
        f"[THINK]hm\n{DRAFT}\n[/THINK]",
        f"◁think▷hm\n{DRAFT}◁/think▷",
        f"<|START_THINKING|>\n{DRAFT}<|END_THINKING|>",
        f"<|begin_of_thought|>\n{DRAFT}\n<|end_of_thought|>\n\n",
        f"<seed:think>\n{DRAFT}</seed:think>\n",
        f"<reasoning>\n{DRAFT}\n</reasoning>\n",
        f"<|channel>thought\n{DRAFT}\n<channel|>",
        f"<cot>\n{DRAFT}\n</cot>\n",
        f"<|channel|>analysis<|message|>Well.\n{DRAFT}<|end|>",
        f"<scratchpad>\n{DRAFT}\n</scratchpad>\n",
        f"<｜begin▁of▁thinking｜>\n{DRAFT}\n<｜end▁of▁thinking｜>",
        f"<|inner_prefix|>\n{DRAFT}\n<|inner_suffix|>",
        f"<unused94>thought\n{DRAFT}\n<unused95>",
        f"<|thinking_start|>\n{DRAFT}\n<|thinking_end|>",
        f"<|START_OF_THINKING|>\n{DRAFT}\n<|END_OF_THINKING|>",
        f"<|think|>\n{DRAFT}\n<|end|><|begin|>assistant<|content|>",
        f'<think time="3">\n{DRAFT}\n</think>\n',
        f"<|channel|>analysis<|message|>Well.\n{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>",
        f"<|start|>assistant<|channel|>analysis<|message|>{DRAFT}<|end|>"
        f"<|start|>assistant<|channel|>commentary<|message|>{DRAFT}<|end|><|start|>assistant<|channel|>final<|message|>",
        f"analysisWe need to edit.\n{DRAFT}\nassistantfinal",  # as a tokenizer leaves it that skips special tokens
    ],
)
def test_only_what_follows_a_thought_counts(thought: str, reply: str) -> None:
    assert without_thoughts(thought + reply) == reply


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (f"Let me see.\n<think>\n{DRAFT}\n</think>\n{EDIT}", f"Let me see.\n\n{EDIT}"),
        (f"{EDIT}\n<think>was that all?</think>\n", f"{EDIT}\n\n"),
        (f"{DRAFT}\n</think>\n\nRelevant: it is", "Relevant: it is"),
        (f"{EDIT}\n</think>", None),  # nothing but a thought: better than nothing
        (f"{EDIT}\nThe mark </think> is now read.", None),
        (f"I mend how `</think>` is read.\n{EDIT}", None),
        (f"{EDIT}\n<think>never ends\n{DRAFT}", f"{EDIT}\n"),
        (f"<|channel|>final<|message|>{EDIT}<|return|>", EDIT),
        (f"<|channel|>analysis<|message|>cut off in it\n{DRAFT}", ""),
        ("[THINK]never ends <done/>", ""),
        (EDIT.replace("\nx\n", "\n<think>\nx\n</think>\n"), None),
        (EDIT.replace("\nx\n", "\ns = '<|channel|>final<|message|>'\n"), None),
        ('<test path="t.py">\ns = """\n<think>\na\n</think>\n"""\n</test>', None),
        ("analysis of the fault: it is final", None),
    ],
)
def test_what_is_no_thought_stays(said: str, left: str | None) -> None:
    assert without_thoughts(said) == (said if left is None else left)


@pytest.mark.parametrize(
    ("said", "left"),
    [
        (f"<think>hm\n\n{EDIT}", f"hm\n\n{EDIT}"),
        (f"<|channel|>analysis<|message|>{EDIT}<|return|>", f"analysis{EDIT}"),
        (f"<think>{DRAFT}</think>{EDIT}", EDIT),
    ],
)
def test_a_thought_that_the_model_ended_without_its_mark_is_better_than_nothing(said: str, left: str) -> None:
    assert without_thoughts(said, ended=True) == left
