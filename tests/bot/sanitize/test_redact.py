"""Secrets are found in every form in which they may be printed; other text is kept."""

import base64
import sys
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.sanitize import REDACTED, redact
from bot.sanitize.redact import redact_strings
from tests.growth import grows_evenly

SECRET = "t0p-S3cret/value+with=signs&more"
PEM = (
    "-----BEGIN RSA PRIVATE KEY-----\n" + "\n".join("QUJD" * 16 for _ in range(4)) + "\n-----END RSA PRIVATE KEY-----\n"
)


def _forms(secret: str) -> dict[str, str]:
    raw = secret.encode()
    wrapped = base64.b64encode(raw).decode()
    return {
        "whole": secret,
        "split": "\n".join(secret),
        "halves": f"{secret[:10]}\n  {secret[10:]}",
        "escaped": f"{secret[:10]}\\n{secret[10:]}",
        "base64": wrapped,
        "base64-1": base64.b64encode(b"x" + raw + b"t").decode(),
        "base64-2": base64.b64encode(b"xy" + raw + b"t").decode(),
        "base64-url": base64.urlsafe_b64encode(raw).decode(),
        "base64-wrapped": "\n".join(wrapped[i : i + 10] for i in range(0, len(wrapped), 10)),
        "url": quote(secret, safe=""),
        "percent": "".join(f"%{byte:02x}" for byte in raw),
        "hex": raw.hex(),
        "HEX": raw.hex().upper(),
        "hex-dump": raw.hex(" "),
        "hex-colons": raw.hex(":"),
        "hex-python": "".join(f"\\x{byte:02x}" for byte in raw),
    }


@pytest.mark.parametrize("form", _forms(SECRET))
def test_attack_20_a_known_secret_is_found_in_every_form(form: str) -> None:
    shown = _forms(SECRET)[form]
    out = redact(f"before {shown} after", [SECRET, ""])
    assert REDACTED in out
    assert out.startswith("before ")
    assert out.endswith(" after")
    # At most what lies at an encoding's edges is left; never six characters of it in a row.
    left = out.removeprefix("before ").removesuffix(" after").replace(REDACTED, "\0")
    assert not any(shown[i : i + 6] in left for i in range(len(shown) - 5)), left


@pytest.mark.parametrize("form", _forms(SECRET))
def test_attack_20_a_known_secret_is_found_in_a_report(form: str) -> None:
    shown = _forms(SECRET)[form]
    out = redact_strings({"a": ["x", {"b": f"before {shown} after"}], "n": 1}, [PEM, SECRET])
    assert out == {"a": ["x", {"b": redact(f"before {shown} after", [SECRET])}], "n": 1}
    assert REDACTED in out["a"][1]["b"]


@pytest.mark.parametrize("secret", ["xxxxxxxx", "n0t:n0t,", r"C:\new\table", "00000000", "İstanbul", "straße-straße"])
def test_attack_20_a_secret_of_what_may_break_secrets_is_found(secret: str) -> None:
    """Its characters are those that are passed over between others, or change their number with their case."""
    for form, shown in _forms(secret).items():
        if not form.startswith("base64"):  # of a short one's, little enough is left to be taken for words
            assert REDACTED in redact(f"before {shown} after", [secret]), form


def test_no_pattern_is_made_for_secrets_that_are_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of an App's key take more than a second, which the first page of a run would wait for."""
    key = PEM.replace("QUJD", "WFla")
    monkeypatch.setattr(sys.modules["bot.sanitize.redact"], "_spread", lambda *_: pytest.fail("a pattern was made"))
    assert redact_strings(["some words " * 100], [key]) == ["some words " * 100]
    assert redact("some words", [key]) == "some words"


@pytest.mark.parametrize(
    "token",
    [
        "ghp_" + "a1B2" * 9,
        "ghs_" + "a1B2" * 9,
        "gho_" + "a1B2" * 9,
        "github_pat_" + "a1B2_" * 12,
        "sk-" + "a1B2" * 12,
        "sk-proj-" + "a1_-" * 12,
        "glpat-" + "a1B2" * 5,
        "xoxb-" + "123456789012-abc",
        "AKIA" + "A1B2" * 4,
        "eyJhbGciOiJI.eyJzdWIiOiIx.c2lnbmF0dXJl",
        PEM.strip(),
        PEM[:60],
    ],
    ids=lambda token: token[:12],
)
def test_attack_20_token_shapes_are_found(token: str) -> None:
    assert redact(f"x {token}", []) == f"x {REDACTED}"


def test_attack_20_a_secret_of_several_lines_is_found_by_its_lines() -> None:
    key = "\n".join(["-----BEGIN KEY-----", "first line of the key", "second line of the key", "-----END KEY-----"])
    out = redact("see: second line of the key!", [key])
    assert out == f"see: {REDACTED}!"
    assert redact(repr(key), [key]) == f"'{REDACTED}'"


@pytest.mark.parametrize(
    "text", ["", "sk-learn and ghp_ are words", "a task-runner", "risk-assessment-of-everything-here"]
)
def test_ordinary_text_is_left_alone(text: str) -> None:
    assert redact(text, ["", "short", SECRET]) == text


@given(st.text(min_size=8, max_size=40).filter(lambda s: len(s.strip()) >= 8), st.text(), st.text())
def test_attack_20_no_known_secret_is_left(secret: str, before: str, after: str) -> None:
    assert secret.strip() not in redact(before + secret + after, [secret])


def test_redacting_does_not_take_long() -> None:
    secrets = [SECRET, PEM, *(f"another-secret-{n:08}" for n in range(2))]
    assert grows_evenly(lambda text: redact(text, secrets), "t0p-S3cret/valu ", 200_000)
