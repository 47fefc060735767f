"""Signed deliveries, without I/O: bytes and headers in, a verified `Delivery` or a `Refusal` out.

The signature is checked over the raw bytes before they are parsed as JSON. Source of the rules:
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
_SIGNATURE = re.compile(r"sha256=[0-9a-f]{64}")
_EVENT = re.compile(r"[a-z][a-z0-9_]{0,63}")  # e.g. `projects_v2_item`


class Delivery(Record):
    """A delivery with a valid signature. `payload` is the parsed object, not yet validated."""

    guid: str  # the same for a redelivery
    event: str  # `issues`, `issue_comment`, `ping`, ...
    action: str | None
    payload: dict[str, Any]

    @property
    def number(self) -> int:
        """A number of its own, of 63 bits, for what GitHub does not number."""
        return int.from_bytes(hashlib.sha256(self.guid.encode()).digest()[:8]) >> 1


class Refusal(Record):
    """Why a request is refused, and with which HTTP status."""

    status: int
    reason: str


def signature(secret: bytes, body: bytes) -> str:
    """The value of `X-Hub-Signature-256` for the body."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()


def receive(body: bytes, headers: Mapping[str, str], secrets: Sequence[bytes]) -> Delivery | Refusal:
    """Verify one request. Never raises; Header names may be in any case.

    Refusals: 413 (larger than `MAX_BODY`), 401 (no valid signature), 415 (not JSON), 400 (all else).
    """
    lower = {name.lower(): value for name, value in headers.items()}
    if len(body) > MAX_BODY:
        return Refusal(status=413, reason=f"the body has {len(body):,} bytes; at most {MAX_BODY:,} are allowed")
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
        return Refusal(status=400, reason="X-GitHub-Delivery is missing or not a GUID")
    if not _EVENT.fullmatch(event):
        return Refusal(status=400, reason="X-GitHub-Event is missing or not the name of an event")
    try:
        # This parser refuses nesting of over 200 levels, before recursion can overflow.
        payload = from_json(body, allow_inf_nan=False)
    except ValueError as error:
        return Refusal(status=400, reason=f"the body can't be parsed as JSON: {error}")
    if not isinstance(payload, dict):
        return Refusal(status=400, reason="the body is JSON but not an object")
    action = payload.get("action")
    known = isinstance(action, str) and _EVENT.fullmatch(action)
    return Delivery(guid=guid, event=event, action=action if known else None, payload=payload)


def check_form(given: str | None) -> Refusal | None:
    """The refusal of an `X-Hub-Signature-256` that no body can match; None for one that may."""
    if given is None:
        return Refusal(
            status=401, reason="X-Hub-Signature-256 is missing; set the webhook's secret (SHA-1 is not accepted)"
        )
    if not _SIGNATURE.fullmatch(given):
        return Refusal(status=401, reason="X-Hub-Signature-256 does not match the body: it is no SHA-256 in hex")
    return None


def _check_signature(body: bytes, given: str | None, secrets: Sequence[bytes]) -> Refusal | None:
    refusal = check_form(given)
    if refusal is not None or given is None:
        return refusal
    # Bytes, since compare_digest raises TypeError for a str that is not ASCII.
    given_bytes = given.encode("utf-8", "replace")
    # Every secret is compared, so that timing does not show which one matches.
    matches = [hmac.compare_digest(signature(secret, body).encode(), given_bytes) for secret in secrets if secret]
    if not any(matches):
        return Refusal(status=401, reason="X-Hub-Signature-256 does not match the body; compare the webhook's secret")
    return None
