"""A signed delivery, without I/O: bytes and headers in, a verified `Delivery` or a `Refusal` out.

The signature is checked over the raw bytes before anything reads them as JSON. Source of the rules:
https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
"""

import hashlib
import hmac
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic_core import from_json

from bot.records import Record

MAX_BODY = 25 * 1024 * 1024  # bytes; GitHub doesn't send more

_GUID = re.compile(r"[0-9A-Za-z-]{1,72}")
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")  # e.g. `projects_v2_item`


class Delivery(Record):
    """A delivery whose signature is good. `payload` is the parsed object, as yet unchecked."""

    guid: str  # the same when GitHub delivers again
    event: str  # `issues`, `issue_comment`, `ping`, ...
    action: str | None
    payload: dict[str, Any]


class Refusal(Record):
    """Why a request is no delivery, with the HTTP status that says so."""

    status: int
    reason: str


def signature(secret: bytes, body: bytes) -> str:
    """What `X-Hub-Signature-256` must hold for the body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def receive(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes]) -> Delivery | Refusal:
    """Verify one request. Never raises; `headers` are looked up in any case.

    Refusals: 413 (larger than `MAX_BODY`), 401 (no or no good signature), 415 (not JSON), 400 (all else).
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if len(body) > MAX_BODY:
        return Refusal(status=413, reason=f"the body has {len(body):,} bytes; at most {MAX_BODY:,} are taken")
    refusal = _check_signature(body, lower.get("x-hub-signature-256"), secrets)
    if refusal is not None:
        return refusal
    kind = lower.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        return Refusal(
            status=415,
            reason=f"content type {kind[:100] or 'missing'!r}: choose application/json in the webhook's settings",
        )
    guid, event = lower.get("x-github-delivery", ""), lower.get("x-github-event", "")
    if not _GUID.fullmatch(guid):
        return Refusal(status=400, reason="X-GitHub-Delivery is missing or is no GUID")
    if not _EVENT.fullmatch(event):
        return Refusal(status=400, reason="X-GitHub-Event is missing or is no event's name")
    try:
        # This parser refuses deep nesting (over 200 levels) by itself, before any recursion can overflow.
        payload = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        return Refusal(status=400, reason=f"the body is not JSON that can be read: {error}")
    if not isinstance(payload, dict):
        return Refusal(status=400, reason="the body is JSON but not an object")
    action = payload.get("action")
    known = isinstance(action, str) and _EVENT.fullmatch(action)
    return Delivery(guid=guid, event=event, action=action if known else None, payload=payload)


def _check_signature(body: bytes, given: str | None, secrets: Sequence[bytes]) -> Refusal | None:
    if given is None:
        return Refusal(
            status=401, reason="X-Hub-Signature-256 is missing; set the webhook's secret (SHA-1 isn't taken)"
        )
    # Bytes, since compare_digest raises TypeError for a str that is not ASCII.
    given_bytes = given.encode("utf-8", "replace")
    # Every secret is tried, so that the time tells nothing about which one is in use.
    matches = [hmac.compare_digest(signature(secret, body).encode(), given_bytes) for secret in secrets if secret]
    if not any(matches):
        return Refusal(status=401, reason="X-Hub-Signature-256 doesn't fit the body; compare the webhook's secret")
    return None
