import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.settings import Settings
from bot.webhook.delivery import MAX_BODY, Delivery, Refusal, receive, signature
from tests.bot.webhook.deliveries import NAMES, SECRET, payload, request

SECRETS = (SECRET.encode(),)


def _status(body: bytes, headers: dict[str, str], secrets: tuple[bytes, ...] = SECRETS) -> int:
    outcome = receive(body, headers, secrets)
    return outcome.status if isinstance(outcome, Refusal) else 202


def test_the_vector_of_githubs_documentation() -> None:
    digest = signature(SECRET.encode(), b"Hello, World!")
    assert digest == "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"


@pytest.mark.parametrize("name", NAMES)
def test_a_signed_delivery_is_received(name: str) -> None:
    event = name.partition(".")[0]
    body, headers = request(event, payload(name), guid="72d3162e-cc78-11e3-81ab-4c9367dc0958")
    received = receive(body, headers, SECRETS)
    assert isinstance(received, Delivery)
    assert (received.guid, received.event) == ("72d3162e-cc78-11e3-81ab-4c9367dc0958", event)
    assert received.action == payload(name).get("action")
    assert received.payload == payload(name)


@pytest.mark.parametrize(
    "given_signature",
    [
        None,
        "",
        "sha256=",
        "sha256=" + "0" * 64,
        "sha256=" + "é" * 64,
        "sha256=\udcff",
        "sha1=" + hmac.new(SECRET.encode(), b"{}", hashlib.sha1).hexdigest(),
        hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest(),
        "SHA256=" + hmac.new(SECRET.encode(), b"{}", hashlib.sha256).hexdigest(),
        signature(b"another", b"{}"),
        signature(b"", b"{}"),
    ],
    ids=["none", "empty", "bare", "wrong", "non-ascii", "surrogate", "sha1", "no-prefix", "case", "other", "no-secret"],
)
def test_attack_01_no_good_signature_is_401(given_signature: str | None) -> None:
    body, headers = request("ping", b"{}")
    del headers["X-Hub-Signature-256"]
    headers["X-Hub-Signature"] = "sha1=" + hmac.new(SECRET.encode(), b"{}", hashlib.sha1).hexdigest()
    if given_signature is not None:
        headers["X-Hub-Signature-256"] = given_signature
    assert _status(body, headers) == 401


def test_an_empty_secret_verifies_nothing() -> None:
    body, headers = request("ping", b"{}", secret="")
    assert _status(body, headers, (b"",)) == 401
    assert _status(body, headers, ()) == 401


def test_attack_02_a_changed_byte_is_refused_before_it_is_parsed() -> None:
    body, headers = request("issues", payload("issues.labeled"))
    for at in (0, len(body) // 2, len(body) - 1):
        changed = bytearray(body)
        changed[at] ^= 1
        # Not JSON any more in part: 401 all the same, so nothing was parsed.
        assert _status(bytes(changed), headers) == 401
    assert _status(b"[" * 100_000, headers) == 401


@pytest.mark.parametrize("opening", [b"[", b'{"a":'], ids=["arrays", "objects"])
@pytest.mark.parametrize("depth", [300, 100_000, 2_000_000])
def test_attack_03_deep_nesting_is_400(opening: bytes, depth: int) -> None:
    body, headers = request("issues", opening * depth)
    assert _status(body, headers) == 400


def test_attack_03_too_large_is_413_before_the_signature() -> None:
    body, headers = request("issues", b"{}")
    assert _status(b" " * (MAX_BODY + 1), headers) == 413
    body, headers = request("issues", b"{" + b" " * (MAX_BODY - 2) + b"}")
    assert _status(body, headers) == 202


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        ("application/json", 202),
        ("application/json; charset=utf-8", 202),
        ("Application/JSON", 202),
        ("application/x-www-form-urlencoded", 415),
        ("text/plain", 415),
        ("", 415),
        ("multipart/form-data; boundary=x", 415),
    ],
)
def test_attack_03_content_types(kind: str, status: int) -> None:
    body, headers = request("ping", payload("ping"))
    headers["Content-Type"] = kind
    assert _status(body, headers) == status


def test_a_form_says_what_to_choose() -> None:
    body, headers = request("ping", b"payload=%7B%7D")
    headers["Content-Type"] = "application/x-www-form-urlencoded"
    refusal = receive(body, headers, SECRETS)
    assert isinstance(refusal, Refusal)
    assert "choose application/json" in refusal.reason


@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"[]", b'"text"', b"{", b'{"a": NaN}', b"\xff", b'{"a": "\\ud800"}', b"1" * 10_000, b"{}x"],
    ids=["empty", "null", "list", "text", "open", "nan", "latin", "surrogate", "digits", "trailing"],
)
def test_signed_nonsense_is_400(body: bytes) -> None:
    assert _status(*request("issues", body)) == 400


@pytest.mark.parametrize("header", ["X-GitHub-Delivery", "X-GitHub-Event"])
@pytest.mark.parametrize("value", [None, "", "a b", "../x", "x" * 100, "é"])
def test_bad_headers_are_400(header: str, value: str | None) -> None:
    body, headers = request("ping", b"{}")
    del headers[header]
    if value is not None:
        headers[header] = value
    assert _status(body, headers) == 400


def test_events_have_digits_too() -> None:
    assert _status(*request("projects_v2_item", {"action": "created"})) == 202


def test_two_secrets_are_valid_while_they_rotate() -> None:
    settings = Settings(_env_file=None, webhook_secret="new", webhook_secret_previous="old")
    secrets = settings.webhook_secrets()
    assert [_status(*request("ping", b"{}", secret=s), secrets) for s in ("new", "old", "older")] == [202, 202, 401]
    assert Settings(_env_file=None).webhook_secrets() == ()


def test_headers_are_found_in_any_case() -> None:
    body, headers = request("ping", b"{}")
    assert _status(body, {name.upper(): value for name, value in headers.items()}) == 202


@given(st.binary(max_size=200), st.dictionaries(st.text(max_size=30), st.text(max_size=80), max_size=8))
def test_anything_at_all_gives_a_value(body: bytes, headers: dict[str, str]) -> None:
    assert isinstance(receive(body, headers, SECRETS), Refusal)


@given(st.binary(max_size=200), st.text(max_size=40))
def test_anything_signed_gives_a_value(body: bytes, event: str) -> None:
    signed_body, headers = request("x", body)
    headers["X-GitHub-Event"] = event
    assert isinstance(receive(signed_body, headers, SECRETS), Delivery | Refusal)
