"""Removes secrets from text that is shown, stored or posted."""

import base64
import binascii
import functools
import json
import re
from collections.abc import Collection, Iterable
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
_SHORTEST = 8  # characters; shorter secrets would match ordinary words

_TOKEN_SHAPES = re.compile(
    r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY-----|\Z)"
    r"|\bgh[pousr]_[A-Za-z0-9._-]{16,}"
    r"|\bgithub_pat_[A-Za-z0-9_]{16,}"
    r"|\bsk-[A-Za-z0-9_-]{16,}"
    r"|\bglpat-[A-Za-z0-9_-]{16,}"
    r"|\bxox[abeoprs]-[A-Za-z0-9-]{10,}"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"
    r"|(?<=://)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@)"  # user and password in an address
    r"|\beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*",
    re.DOTALL,
)


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with known secrets, and anything in the form of a token, replaced by `[redacted]`.

    A known secret is found as it is, broken by white space, in base64 (at any offset), in hex, and URL-encoded; if it
    has several lines, each line is found too. Secrets under 8 characters are ignored.
    """
    for known in sorted({part for secret in secrets for part in _parts(secret)}, key=len, reverse=True):
        for pattern in _patterns(known):
            text = pattern.sub(REDACTED, text)
    return _TOKEN_SHAPES.sub(REDACTED, text)


def redact_strings(value: Any, secrets: Collection[str]) -> Any:
    """Parsed JSON with `redact` of each string in it; keys stay."""
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {key: redact_strings(one, secrets) for key, one in value.items()}
    if isinstance(value, list):
        return [redact_strings(one, secrets) for one in value]
    return value


def redact_report(report: str, secrets: Collection[str]) -> str:
    """JSON with `redact` of each string in it, but for a `patch` without a known secret.

    A patch is published as it stands; what in it has the form of a token may be the repository's own example.
    """
    return json.dumps(_but_patches(json.loads(report), secrets))


def _but_patches(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: one if key == "patch" and _has_none(one, secrets) else _but_patches(one, secrets)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_but_patches(one, secrets) for one in value]
    return redact_strings(value, secrets)


def _has_none(patch: Any, secrets: Collection[str]) -> bool:
    return bool(redact_strings(patch, secrets) == redact_strings(patch, ()))


def plain_forms(secret: str) -> set[str]:
    """Strings one of which is in each text that holds the secret, or a line of it, unbroken: as it is, URL-encoded, in
    hex or in base64."""
    forms = set()
    for part in _parts(secret):
        raw = part.encode()
        forms |= {part, quote(part), quote(part, safe=""), raw.hex(), raw.hex().upper()}
        forms |= set(_base64_forms(raw))
    return forms


def _parts(secret: str) -> set[str]:
    lines = [line.strip() for line in secret.replace("\\n", "\n").splitlines()]
    parts = {secret.strip(), *(line for line in lines if len(line) >= 16 and not line.startswith("-----"))}
    return {part for part in parts if len(part) >= _SHORTEST}


@functools.lru_cache(maxsize=256)
def _patterns(secret: str) -> list[re.Pattern[str]]:
    raw = secret.encode()
    between = r"(?:\s|\\[nrt])*"

    def spread(characters: str, flags: int = 0, gap: str = between) -> re.Pattern[str]:
        return re.compile(gap.join(re.escape(c) for c in characters if not c.isspace()), flags)

    patterns = [spread(secret)]
    percent = "".join(f"%{byte:02X}" for byte in raw)
    patterns += [spread(form, re.IGNORECASE) for form in {quote(secret, safe=""), quote(secret), percent} - {secret}]
    patterns.append(spread(binascii.hexlify(raw).decode(), re.IGNORECASE, r"(?:\s|:|\\x|0x|,)*"))
    return patterns + [spread(form) for form in _base64_forms(raw)]


def _base64_forms(raw: bytes) -> list[str]:
    """What the bytes look like in base64, at each offset, in both alphabets."""
    forms = []
    for offset in range(3):
        encoded = base64.b64encode(b"\0" * offset + raw).decode().rstrip("=")
        # Without the characters that also encode what comes before and after the secret.
        start = (0, 2, 3)[offset]
        end = len(encoded) - ((offset + len(raw)) % 3 > 0)
        stable = encoded[start:end]
        if len(stable) >= _SHORTEST:
            forms += sorted({stable, stable.replace("+", "-").replace("/", "_")})
    return forms
