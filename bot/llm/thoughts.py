"""Removes a model's private thoughts from its reply. Pure.

Models mark thoughts in their own ways, and a server without the right parser passes the marks on: `<think>` and tags of
like names, `[THINK]` (Mistral), `◁think▷` (Kimi), `<|START_THINKING|>` (Command), `<|begin_of_thought|>`, bars of full
width (DeepSeek), `<|inner_prefix|>` (Apertus), `<unused94>` (MedGemma), `<|think|>` up to `<|content|>` (Solar), and
the channels of OpenAI's Harmony format. Drafts of our own tags may stand in a thought; only what follows counts.
"""

import re

_WORD = (
    r"(?:think|thinks|thinking|thoughts?|reason(?:ing)?|rationale|cot|deliberation|reflection"
    r"|scratchpad|analysis|(?:inner_)?monologue)"
)
_NAME = rf"(?:[a-z]{{1,20}}[:_-])?{_WORD}(?:[_-](?:mode|process|block|trace))?"
_OPEN = (
    rf"(?:<{_NAME}(?:\s[^<>\n]{{0,80}})?>|\[{_WORD}\]|◁{_WORD}▷|<unused94>|<[|｜]inner_prefix[|｜]>"
    rf"|<[|｜](?:(?:begin|start)[_▁](?:of[_▁])?{_WORD}|{_WORD}(?:[_▁](?:begin|start))?)[|｜]>|<\|channel>{_WORD}\b)"
)
_CLOSE = (
    rf"(?:</{_NAME}>|\[/{_WORD}\]|◁/{_WORD}▷|<unused95>|<[|｜]inner_suffix[|｜]>"
    rf"|<[|｜](?:end[_▁](?:of[_▁])?{_WORD}|/{_WORD}|{_WORD}[_▁]end)[|｜]>|<channel\|>|<\|content\|>)"
)
_BLOCK = re.compile(rf"^[ \t]*{_OPEN}.*?(?:{_CLOSE}|\Z)", re.DOTALL | re.IGNORECASE | re.MULTILINE)
_BARE_END = re.compile(rf"(?<![`'\"]){_CLOSE}(?![`'\"])", re.IGNORECASE)  # the opening tag may be in the prompt

_CHANNEL = re.compile(r"<\|channel\|>\s*+(\w++)[^<]*+(?:<\|constrain\|>[^<]*+)?<\|message\|>")
_CHANNEL_END = re.compile(r"<\|(?:end|return|call|start|channel)\|>")
_BARE_CHANNEL = re.compile(r"\A\s*(?:analysis|commentary).*assistant\s*final\s*", re.DOTALL)  # its marks left out

_MARK = re.compile(rf"{_OPEN}|{_CLOSE}|<\|(?:start|channel|message|end|return)\|>", re.IGNORECASE)

_OPENER = re.compile(
    r"^[ \t>*-]*`{0,3}<(?:edit|create|test|delete|ranking|relevant|irrelevant|approve|done|choose)\b"
    r"|^[ \t]*<{4,} *SEARCH",
    re.MULTILINE,
)
_TAG = re.compile(r"<(?:delete|relevant|irrelevant|approve|done|choose)\b")  # those that may be within a line
_CLOSER = re.compile(r"^[ \t]*`{0,3}</(?:edit|create|test)\s*>|^[ \t]*>{4,} *REPLACE|^={7}[ \t]*$", re.MULTILINE)
_ELEMENTS = ("edit", "create", "test")  # they hold text of their own
_MOST_ENDS = 100  # of thoughts that are looked at, the last ones: each takes a look at the whole reply


def without_thoughts(text: str, *, ended: bool = False) -> str:
    """The reply without its thoughts; "" if it was cut off in one.

    `ended`: the model ended the reply itself. One that is all thought, since its end was not marked, is kept then.
    """
    left = _without(text)
    return left if left.strip() or not ended else _MARK.sub("", text)


def _without(text: str) -> str:
    text, channels = _final_channel(text)
    text = _without_blocks(text)
    for end in reversed(list(_BARE_END.finditer(text))[-_MOST_ENDS:]):
        before, after = text[: end.start()], text[end.end() :]
        if _within_element(text, end.start(), end.end()):
            continue
        at_edge = text[: end.start()].endswith("\n") or after.startswith("\n")
        if _holds_tags(after) or not _holds_tags(before) or (at_edge and after.strip()):
            return after.lstrip("\n")
        # else a word about thoughts after the reply, or a reply within thoughts
    return text.lstrip("\n") if channels else text


def _final_channel(text: str) -> tuple[str, bool]:
    """What a Harmony reply says in its last `final` channel, and whether it is one; "" if it has no such channel."""
    channels = list(_CHANNEL.finditer(text))
    if not channels:
        bare = _BARE_CHANNEL.match(text)
        return (text[bare.end() :], True) if bare else (text, False)
    if _within_element(text, channels[0].start(), channels[-1].end()):
        return text, False
    final = next((m for m in reversed(channels) if m[1].lower() == "final"), None)
    if final is None:
        end = _CHANNEL_END.search(text, channels[-1].end())
        return (text[end.end() :] if end and end[0] == "<|end|>" else ""), True
    end = _CHANNEL_END.search(text, final.end())
    return text[final.end() : end.start() if end else len(text)], True


def _without_blocks(text: str) -> str:
    """The text without thoughts that have an opening mark at the beginning of a line."""
    at = 0
    while (block := _BLOCK.search(text, at)) is not None:
        if _within_element(text, block.start(), block.end()):
            at = block.end()
        else:
            before, after = text[: block.start()], text[block.end() :]
            text = before + (after if before.strip() else after.lstrip("\n"))
            at = len(before)
            if not before.strip():
                text, at = text[len(before) :], 0
    return text


def _within_element(text: str, start: int, end: int) -> bool:
    """Whether the place is in an element of ours: one is open there, and the next of its marks closes it."""
    openings = ((name, f"\n<{name}{after}") for name in _ELEMENTS for after in (" ", ">"))
    lined = f"\n{text}"
    begun, name = max((lined.rfind(opening, 0, start + 1), name) for name, opening in openings)
    if begun < 0 or re.search(rf"^[ \t]*</{name}\s*>", text[begun:start], re.MULTILINE):
        return False
    closer, opener = _CLOSER.search(text, end), _OPENER.search(text, end)
    return closer is not None and (opener is None or closer.start() < opener.start())


def _holds_tags(text: str) -> bool:
    return _OPENER.search(text) is not None or _TAG.search(text) is not None
