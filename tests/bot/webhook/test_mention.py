import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.records import Command, CommandName
from bot.webhook.mention import Mention, find
from tests.growth import grows_evenly

RUN = Mention(addressed=True)
IN_PASSING = Mention(addressed=False)
STOP = Mention(addressed=True, command=Command(name=CommandName.STOP))
KEEP_ZERO = Mention(addressed=True, command=Command(name=CommandName.RETRY, words="keep `zero`\n\nand one"))


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("@troop", RUN),
        ("@troop.", RUN),
        ("@Troop[bot] please", RUN),
        ("@troop, fix this", RUN),
        ("Hm.\r\n\r\n@troop\r\n", RUN),
        ("> what @other wrote\n\n@troop", RUN),
        ("@troop stop", STOP),
        ("@troop: stop.", STOP),
        ("@troop retry keep `zero`\r\n\r\nand one", KEEP_ZERO),
        ("@troop use 2", Mention(addressed=True, command=Command(name=CommandName.USE, argument=2))),
        ("@troop stop now", STOP),
        ("@troop stop,", STOP),
        ("@troop please stop", STOP),
        ("@troop stop it", Mention(addressed=True, command=Command(name=CommandName.HELP, misread="stop it"))),
        ("Hey @troop, can you?", IN_PASSING),
        ("(@troop)", IN_PASSING),
        ("- @troop", RUN),
        ("* @troop stop", STOP),
        ("- @troop stop\n- @troop", IN_PASSING),
        ("- [ ] @troop stop", IN_PASSING),
        ("**@troop** stop", STOP),
        ("thanks @troop stop", IN_PASSING),
        ("text @troop\n\n@troop stop", STOP),
    ],
)
def test_mentions(body: str, found: Mention) -> None:
    assert find(body, "troop") == found


@pytest.mark.parametrize(
    "body",
    [
        "",
        "troop",
        "`@troop`",
        "`` @troop ``",
        "```\n@troop stop\n```",
        "~~~\n@troop",
        "    @troop",
        "> @troop stop",
        "> text\n@troop stop",  # a lazy line: GitHub shows it within the quote
        "- > @troop",
        "<!-- @troop -->",
        "<!--\n\n@troop stop\n\n-->",
        "text <!-- \n@troop stop\n--> more",
        "<details>@troop stop</details>",
        "<pre>\n\n@troop\n</pre>",
        "[read @troop here](https://example.com)",
        "![ @troop ](https://example.com/a.png)",
        "\\@troop",
        "`@troop` and \\@troop",
        "`` @troop `` and x &#64;troop stop",
        "&#64;troop stop",
        "&commat;troop",
        "@troop-fake stop",
        "@troops",
        "@troop_",
        "@troop/maintainers",
        "@troop.example.com",
        "me@troop",
        "me@troop.example.com",
        "https://example.com/@troop",
        "@tr\u043e\u043ep stop",  # Cyrillic
        "@troop\u0440 stop",
        "\uff20troop stop",
        "@troop\u200b stop",
        "@tro\u200bop stop",
        "@\u212a",
    ],
)
def test_attack_10_code_quotes_comments_and_lookalikes_mention_nobody(body: str) -> None:
    assert find(body, "troop") is None


def test_a_login_is_no_pattern_and_its_letters_are_ascii() -> None:
    assert find("@tro.p", "troop") is None
    assert find("@xkcd", "x.cd") is None
    assert find("@\u212ate", "kte") is None
    assert find("@KTE", "kte") == RUN


@pytest.mark.parametrize("part", ["[", "`", "<!--", "> ", "*a ", "@troop ", "@troop\n", "- ", "\\`", "``` "])
def test_nothing_takes_long(part: str) -> None:
    assert grows_evenly(lambda text: find(text + "\n@troop stop", "troop"), part, 65_000)


@given(st.text(alphabet="`~> -\n@trop2<!-\\[]()|#*\t", max_size=120))
def test_whatever_stands_in_a_quote_mentions_nobody(text: str) -> None:
    assert find("\n".join(f"> {line}" for line in text.split("\n")), "troop") is None
