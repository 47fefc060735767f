import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.records import Command, CommandName, Option
from bot.webhook.mention import find
from bot.webhook.slash_command import MAX_WORDS, parse
from tests.growth import grows_evenly

STOP = Command(name=CommandName.STOP)
HELP = Command(name=CommandName.HELP)
RETRY_WITH_CODE = Command(name=CommandName.RETRY, words="keep zero\n\n```py\nf(0)\n```")


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ("/troop help", HELP),
        ("/troop", HELP),
        ("/troop status", Command(name=CommandName.STATUS)),
        ("/troop alternatives", Command(name=CommandName.ALTERNATIVES)),
        ("/troop use 2", Command(name=CommandName.USE, argument=2)),
        ("/troop use #2", Command(name=CommandName.USE, argument=2)),
        ("/troop more", Command(name=CommandName.MORE)),
        ("/troop More 12", Command(name=CommandName.MORE, argument=12)),
        ("/troop retry", Command(name=CommandName.RETRY)),
        ("/troop stop", STOP),
        ("/TROOP Stop", STOP),
        ("/Troop status", Command(name=CommandName.STATUS)),
        ("/Troop Use #2", Command(name=CommandName.USE, argument=2)),
        ("> /Troop stop", None),
        ("/troop STOP", STOP),
        ("/troop\tstop  ", STOP),
        ("/troop stop\r\n", STOP),
        ("/troop\u00a0stop", STOP),
        ("/troop, stop!", STOP),
        ("/troop: Stop.", STOP),
        ("/troop:stop", STOP),
        ("please /troop stop", STOP),
        ("**Please, /troop stop!**", STOP),
        ("/troop:retry keep zero\nand one", Command(name=CommandName.RETRY, words="keep zero\nand one")),
        ("/troop\r\nplease", HELP),
        ("/troop answer A.", Command(name=CommandName.ANSWER, option=Option.A)),
        ("/troop use 2.", Command(name=CommandName.USE, argument=2)),
        ("/troop-stop", None),
        ("Thanks!\r\n/troop stop\r\nBye", STOP),
        ("> quoted\n\n/troop stop", STOP),
        ("```\ncode\n```\n/troop stop", STOP),
        ("<!-- note -->\n\n/troop stop", STOP),
        ("/troop stop\n/troop retry", Command(name=CommandName.STOP, further=1)),
        ("/troop retry be short\n/troop stop", Command(name=CommandName.RETRY, words="be short", further=1)),
        (
            "/troop use 2\n\n> /troop stop\n\n/troop help\n/troop more",
            Command(name=CommandName.USE, argument=2, further=2),
        ),
        (
            "/troop retry see:\n```\n/troop stop\n```",
            Command(name=CommandName.RETRY, words="see:\n```\n/troop stop\n```"),
        ),
        ("/troop retry keep `zero`, *please*", Command(name=CommandName.RETRY, words="keep `zero`, *please*")),
        ("Hm.\r\n/troop  Retry\tkeep zero\r\n\r\n```py\nf(0)\n```", RETRY_WITH_CODE),
        ("/troop retry\n\nkeep zero\0", Command(name=CommandName.RETRY, words="keep zero")),
        ("/troop retry --base release/1.x", Command(name=CommandName.RETRY, base="release/1.x")),
        ("/troop Retry --base=`develop` be short", Command(name=CommandName.RETRY, base="develop", words="be short")),
        (
            "/troop retry --base develop\r\n\r\nbe short",
            Command(name=CommandName.RETRY, base="develop", words="be short"),
        ),
        ("/troop retry --base 'develop'", Command(name=CommandName.RETRY, base="develop")),
        ("/troop retry --based on this", Command(name=CommandName.RETRY, words="--based on this")),
        ("/troop retry use --base x", Command(name=CommandName.RETRY, words="use --base x")),
        ("/troop retry --base troop/issue-1", Command(name=CommandName.HELP, misread="retry --base troop/issue-1")),
        ("/troop retry --base -f", Command(name=CommandName.HELP, misread="retry --base -f")),
        ("/troop retry --base\nwords", Command(name=CommandName.HELP, misread="retry --base")),
        (f"/troop retry {'x' * 9_000}", Command(name=CommandName.RETRY, words="x" * MAX_WORDS)),
    ],
)
def test_commands(body: str, command: Command | None) -> None:
    assert parse(body) == command


@pytest.mark.parametrize(
    "words",
    [
        "dance",
        "use",
        "use Two",
        "use 0",
        "use -1",
        "use 1 2",
        "stop it later",
        "answer A or B",
        "answer A, or B",
        "answer a list",
        "answer C",
        "use 99999",
        "more five",
        "more 0",
        "more 1 2",
        "x" * 500,
    ],
)
def test_unknown_words_ask_for_help(words: str) -> None:
    assert parse(f"/troop {words}") == Command(name=CommandName.HELP, misread=words[:100])


def test_markup_in_a_command_is_dropped_from_what_is_repeated() -> None:
    assert parse("/troop `stop`") == Command(name=CommandName.HELP, misread="code_inline")


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no command",
        "say please /troop stop",
        "> please /troop stop",
        "see /troop:stop",
        "/troop://stop",
        "/trooper stop",
        "/ troop stop",
        "\\/troop stop",
        "> /troop stop",
        "> text\n/troop stop",  # a lazy line: GitHub shows it within the quote
        "> > /troop stop",
        ">\n> /troop stop",
        "```\n/troop stop\n```",
        "```\n/troop stop",  # never closed: code to the end
        "~~~sh\n/troop stop\n~~~",
        "````\n```\n/troop stop\n```\n````",
        "```\n~~~\n/troop stop\n```",
        "    /troop stop",
        "\t/troop stop",
        "`code\n/troop stop\n`",
        "``a ` b\n/troop stop\n``",
        "<!--\n/troop stop\n-->",
        "<!-- \n\n/troop stop\n\n-->",
        "text <!--\n/troop stop\n-->",
        "<pre>\n\n/troop stop\n</pre>",
        "<div>\n/troop stop\n</div>",
        "- /troop stop\n- /troop retry",
        "1. wait\n2. /troop stop",
        "- [ ] /troop stop",
        "> - /troop stop",
        "- > /troop stop",
        "- - /troop stop",
        "-     /troop stop",
        "- `/troop stop`",
        "`/troop stop`",
        "**`/troop stop`**",
        "- ```\n  /troop stop\n  ```",
        "# /troop stop",
        "| a |\n|---|\n| /troop stop |\n/troop stop",
        "[a]: /url '\n/troop stop\n'",
        "/tro\u200bop stop",
    ],
)
def test_attack_10_quotes_code_and_comments_give_no_command(body: str) -> None:
    assert parse(body) is None


def _answer(words: str = "", option: Option = Option.A) -> Command:
    return Command(name=CommandName.ANSWER, option=option, words=words)


@pytest.mark.parametrize(
    ("body", "command"),
    [
        ("- /troop stop", STOP),
        ("1. /troop stop", STOP),
        ("Thanks.\n\n* /troop stop\n\nBye", STOP),
        ("> quoted\n\n- /troop stop", STOP),
        ("- /troop retry keep zero", Command(name=CommandName.RETRY, words="keep zero")),
        ("**/troop stop**", STOP),
        ("**/troop** stop", STOP),
        ("_/troop stop_", STOP),
        ("**/troop retry keep zero**", Command(name=CommandName.RETRY, words="keep zero")),
        ("/troop stop please", STOP),
        ("/troop please stop", STOP),
        ("/troop stop now, thanks!", STOP),
        ("/troop stop, please \U0001f64f", STOP),
        ("/troop: retry", Command(name=CommandName.RETRY)),
        ("/troop retry please", Command(name=CommandName.RETRY)),
        ("/troop please retry keep zero", Command(name=CommandName.RETRY, words="keep zero")),
        ("/troop retry please keep zero", Command(name=CommandName.RETRY, words="please keep zero")),
        ("/troop use 2 please", Command(name=CommandName.USE, argument=2)),
        ("/troop answer A please", _answer()),
        ("/troop answer A because B loses zero.", _answer("because B loses zero.")),
        ("/troop answer B, it is older\n\nand shorter", _answer("it is older\n\nand shorter", Option.B)),
        ("/troop answer a because it is older", _answer("because it is older")),
        ("/troop answer **A**", _answer()),
    ],
)
def test_forms_in_which_people_write_what_they_clearly_mean(body: str, command: Command) -> None:
    assert parse(body) == command


@pytest.mark.parametrize("part", ["[", "![", "`", "<!--", ">", "*a ", "_a_ ", "&", "<a ", "- ", "\\`", "``` "])
def test_nothing_takes_long(part: str) -> None:
    assert grows_evenly(lambda text: parse(text + "\n/troop stop"), part, 65_000)


@given(st.text())
def test_any_text_gives_a_value(text: str) -> None:
    parse(text)
    parse(f"/troop {text}")


@given(st.text(alphabet="`~> -\n/troop us2<!-\\[]()|#*\t", max_size=120))
def test_whatever_stands_in_a_quote_is_no_command(text: str) -> None:
    assert parse("\n".join(f"> {line}" for line in text.split("\n"))) is None


QUOTED = "> **Draft ready**: #2\n> \n> /troop stop\n"


@pytest.mark.parametrize(
    ("below", "words"),
    [
        ("", "keep zero"),
        ("-- \nAnn\nSent from my phone", "keep zero"),
        (f"On Mon, 1 Jan 2026 at 10:00, troop[bot] <notifications@github.com> wrote:\n\n{QUOTED}", "keep zero"),
        (f"On Mon, 1 Jan 2026 at 10:00, troop[bot] <\nnotifications@github.com> wrote:\n{QUOTED}", "keep zero"),
        (f"Am Mo., 1. Jan. 2026 um 10:00 Uhr schrieb troop[bot] <***@***.***>:\r\n{QUOTED}", "keep zero"),
        (f"Le lun. 1 janv. 2026, troop[bot] a écrit :\n{QUOTED}\n--\nAnn", "keep zero"),
        (f"-- \nAnn\n\n2026年1月1日 troop[bot] <a@b.example>：\n{QUOTED}", "keep zero"),
        ("as is said here:\n> f(0) is 0", "keep zero\n\nas is said here:\n> f(0) is 0"),
        ("> f(0) is 0\n\nnot 1", "keep zero\n\n> f(0) is 0\n\nnot 1"),
    ],
)
def test_words_of_a_mail_end_where_its_own_do(below: str, words: str) -> None:
    assert parse(f"/troop retry keep zero\n\n{below}") == Command(name=CommandName.RETRY, words=words)


@pytest.mark.parametrize("mark", ["\ufeff", "\u200f", "\u200e", "\u061c"])
def test_a_mark_of_direction_before_a_command_is_no_part_of_it(mark: str) -> None:
    assert parse(f"{mark}/troop stop") == STOP
    assert parse(f"شكرا\n{mark}/troop stop") == STOP
    found = find(f"{mark}@troop stop", "troop")
    assert found is not None
    assert found.command == STOP
    assert parse(f"/{mark}troop stop") is None


def test_a_mail_of_one_long_line_takes_no_long() -> None:
    assert grows_evenly(lambda text: parse(f"/troop retry x\n\n{text}\n> y"), "@", 60_000)
