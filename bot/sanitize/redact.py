"""Removes secrets from text that is shown, stored or posted."""

import base64
import binascii
import functools
import itertools
import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any
from urllib.parse import quote

REDACTED = "[redacted]"
_SHORTEST = 8  # characters; shorter secrets would match ordinary words

_IN_ADDRESS = re.compile(r"(?<=//)[^\s/@:]{0,200}:[^\s/@]{1,200}(?=@)")  # user and password
_KEY = r"[A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_KEY_BLOCK = re.compile(rf"-----BEGIN {_KEY}.*?(?:-----END {_KEY}|\Z)", re.DOTALL)
_HEX = r"[a-fA-F0-9]{32,}(?:-[A-Za-z0-9]{16})?"
# By what each begins with, which is in every text that holds one; to look for these takes a hundredth of the time.
_TOKENS = {
    **dict.fromkeys(("ghp_", "gho_", "ghu_", "ghs_", "ghr_"), r"[A-Za-z0-9._-]{16,}"),
    **dict.fromkeys(("github_pat_", "sk_live_", "sk_test_", "rk_live_", "rk_test_"), r"[A-Za-z0-9_]{16,}"),
    **dict.fromkeys(("sk-", "gldt-", "glrt-", "glcbt-", "glptt-", "glagent-"), r"[A-Za-z0-9_-]{16,}"),
    **dict.fromkeys(("xoxa-", "xoxb-", "xoxe-", "xoxo-", "xoxp-", "xoxr-", "xoxs-", "xapp-"), r"[A-Za-z0-9-]{10,}"),
    **dict.fromkeys(("AKIA", "ASIA"), r"[A-Z0-9]{16}\b"),
    **dict.fromkeys(("hf_", "npm_", "gsk_", "xai-", "r8_", "lin_api_", "sbp_"), r"[A-Za-z0-9]{30,}"),
    **dict.fromkeys(
        ("nvapi-", "dckr_pat_", "dckr_oat_", "figd_", "glsa_", "sntrys_", "hvs."), r"[A-Za-z0-9_+/=-]{20,}"
    ),
    **dict.fromkeys(("shpat_", "shpca_", "shppa_", "shpss_", "dop_v1_", "rubygems_", "dapi"), r"[a-fA-F0-9]{32,}"),
    **dict.fromkeys(("pypi-", "ya29.", "ATATT3", "tskey-", "PMAK-"), r"[A-Za-z0-9_=-]{24,}"),
    "AIza": r"[A-Za-z0-9_-]{35}",
    "AGE-SECRET-KEY-1": r"[A-Z0-9]{40,}",
    "SG.": r"[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "eyJ": r"[A-Za-z0-9_-]{8,}\.(?:eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*|(?:[A-Za-z0-9_-]{8,}\.){3}[A-Za-z0-9_-]{8,})",
    **dict.fromkeys(("doo_v1_", "dor_v1_", "squ_", "sqp_", "sqa_", "sntryu_", "bkua_", "gloas-", "pul-", "e2b_"), _HEX),
    **dict.fromkeys(
        ("dp.pt.", "dp.st.", "dp.sa.", "dp.ct.", ".atlasv1.", "snyk_uat.", "glpat-"), r"[A-Za-z0-9_.-]{16,}"
    ),
    **dict.fromkeys(("CLOJARS_", "xkeysib-", "fc-"), _HEX),
    **dict.fromkeys(("ABIA", "ACCA", "A3T"), r"[A-Z0-9]{16,17}\b"),
    **dict.fromkeys(("/services/T", "/api/webhooks/"), r"[A-Za-z0-9]{6,}/(?:[A-Za-z0-9]{6,}/)?[A-Za-z0-9_-]{20,}"),
}
# What is random by itself, after a prefix (`whsec_`), or as the value of what is named for it.
_RUN = re.compile(r"[_-]([A-Za-z0-9]{20,}+)")
_PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9]{0,15}(?:[_.-][A-Za-z0-9]{1,10}){0,2}[_-]\Z")
_NO_PREFIX = re.compile(r"(?:\A|[^A-Za-z])(?:sha\d{1,3}|md5|blake\w{0,4})-\Z", re.IGNORECASE)
# By what each begins with, as `_TOKENS`.
_NAMES = {
    "passw": r"(?:or)?d",
    "passphrase": "",
    "session": "(?:id)?",
    "pwd": r"(?<!\wpwd)",
    "secret": "",
    "token": "",
    "credential": "",
    "auth": r"(?!or(?!iz))(?:orization)?",
    "signature": "",
    "sig": r"(?<!\wsig)",
    **dict.fromkeys(("api", "access", "account", "admin", "private"), "[_-]?key"),
}
_NAMED = re.compile(
    # Not the address by which the operator begins, which the log is to tell.
    rf"(?<!/setup\?)(?:{'|'.join(start + rest for start, rest in _NAMES.items())})"
    r"[\w.-]{0,20}[\"']?\s{0,3}(?:=>|:=|[=:\s])\s{0,3}"
    r"(?:[\"']|(?:basic|bearer|token)\s)?\s{0,3}([A-Za-z0-9+/=_~.%-]{12,}+)(?![(\[])",
    re.IGNORECASE,
)
_AS_ADDRESS = re.compile(r"//([A-Za-z0-9_-]{20,200})(?=@)")
_HASH = re.compile(r"[0-9a-f]{32,}|[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@functools.lru_cache(maxsize=256)
def _shapes(marks: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(re.escape(mark) + _TOKENS[mark] for mark in marks)})")


def _without_tokens(text: str) -> str:
    """Without what has the form of a token, or is a password in an address."""
    if "://" in text:
        text = _IN_ADDRESS.sub(REDACTED, text)
    if "-----BEGIN " in text:
        text = _KEY_BLOCK.sub(REDACTED, text)
    marks = tuple(mark for mark in _TOKENS if mark in text)
    if marks:
        text = _sub_where(_shapes(marks), marks, lambda _: REDACTED, text, text)
    return _without_random(text)


def _without_random(text: str) -> str:
    """Without random characters after a prefix, after a name that says that they are secret, or before an `@`."""

    def after_prefix(found: re.Match[str]) -> str:
        before = found.string[max(0, found.start(1) - 40) : found.start(1)]
        if not _PREFIX.search(before) or _NO_PREFIX.search(before) or not _is_random(found[1]):
            return found[0]
        return found[0][0] + REDACTED

    def value(found: re.Match[str]) -> str:
        secret = _is_random(found[1], kinds=2) or _HASH.fullmatch(found[1])
        return found[0].removesuffix(found[1]) + REDACTED if secret else found[0]

    text = _sub_where(_NAMED, _NAMES, value, text, _lower(text))
    return _RUN.sub(after_prefix, _AS_ADDRESS.sub(value, text))


def _lower(text: str) -> str:
    """The text, as long as it is, in the small letters of patterns that ignore case."""
    for letter, small in (("\u0130", "i"), ("\u0131", "i"), ("\u017f", "s")):
        text = text.replace(letter, small)
    return text.lower()


def _sub_where(
    pattern: re.Pattern[str], starts: Iterable[str], shown: Callable[[re.Match[str]], str], text: str, searched: str
) -> str:
    """`pattern.sub(shown, text)` for a pattern that matches only where one of `starts` is in `searched`.

    Faster than that by what it does not look at: a text of which nearly no place can match.
    """
    parts, end = [], 0
    for place in sorted({place for start in starts for place in _places(start, searched)}):
        if place >= end and (found := pattern.match(text, place)):
            parts += [text[end:place], shown(found)]
            end = found.end()
    return "".join([*parts, text[end:]])


def _places(start: str, text: str) -> Iterator[int]:
    place = text.find(start)
    while place >= 0:
        yield place
        place = text.find(start, place + 1)


def _is_random(text: str, kinds: int = 3) -> bool:
    """Whether so many kinds of characters, of capitals, small letters and digits, follow each other as in no word."""
    found = ["a" if c.islower() else "A" if c.isupper() else "0" for c in text if c.isalnum()]
    changes = sum(one != next_one for one, next_one in itertools.pairwise(found))
    return len(set(found)) >= kinds and changes >= 0.4 * len(found)


def redact(text: str, secrets: Iterable[str]) -> str:
    """The text with known secrets, and anything in the form of a token, replaced by `[redacted]`.

    A known secret is found as it is, broken by white space, in base64 (at any offset), in hex, and URL-encoded; if it
    has several lines, each line is found too. Secrets under 8 characters are ignored.
    """
    all_known = _all_known(frozenset(secrets))
    if all_known:
        bare = _bare(text)
        for known in all_known:
            if known.may_be_in(bare):
                for pattern in known.patterns:
                    text = pattern.sub(REDACTED, text)
                bare = _bare(text)
    return _without_tokens(text)


def holds_secret(value: Any, secrets: Collection[str]) -> bool:
    """Whether a text, or a string of parsed JSON, has one of the secrets, in any form in which `redact` finds it.

    To compare what `redact` makes of the text with and without the secrets would not do: what has the form of a token
    is gone from both.
    """
    known = _all_known(frozenset(secrets))
    if not known:
        return False
    return any(
        one.may_be_in(bare) and any(pattern.search(text) for pattern in one.patterns)
        for text, bare in ((text, _bare(text)) for text in _strings([value]))
        for one in known
    )


def redact_strings(value: Any, secrets: Collection[str]) -> Any:
    """Parsed JSON with `redact` of each string in it; keys stay."""
    known = _all_known(frozenset(secrets))
    bare = _bare("\0".join(_strings(value))) if known else ""
    return _each(value, secrets if any(one.may_be_in(bare) for one in known) else ())


def _each(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, str):
        return redact(value, secrets)
    if isinstance(value, dict):
        return {key: _each(one, secrets) for key, one in value.items()}
    if isinstance(value, list):
        return [_each(one, secrets) for one in value]
    return value


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            if isinstance(one, str | dict | list):
                yield from _strings(one)


def redact_known(text: str, secrets: Collection[str]) -> str:
    """`redact` of a text that holds a known secret. Others stay: what has the form of a token may be an example."""
    return redact(text, secrets) if holds_secret(text, secrets) else text


def redact_report(report: str, secrets: Collection[str]) -> str:
    """JSON with `redact` of each string in it, but for a `patch` without a known secret.

    A patch is published as it stands; what in it has the form of a token may be the repository's own example.
    """
    return json.dumps(_but_patches(json.loads(report), secrets))


def _but_patches(value: Any, secrets: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: one if key == "patch" and not holds_secret(one, secrets) else _but_patches(one, secrets)
            for key, one in value.items()
        }
    if isinstance(value, list):
        return [_but_patches(one, secrets) for one in value]
    return redact_strings(value, secrets)


def plain_forms(secret: str) -> set[str]:
    """Strings one of which is in each text that holds the secret, or a line of it, unbroken: as it is, URL-encoded, in
    hex or in base64."""
    forms = set()
    for part in _parts(secret):
        raw = part.encode()
        percent = "".join(f"%{byte:02x}" for byte in raw)
        forms |= {part, quote(part), quote(part, safe=""), percent, percent.upper(), raw.hex(), raw.hex().upper()}
        forms |= set(_base64_forms(raw))
    return forms


def _parts(secret: str) -> set[str]:
    lines = [line.strip() for line in secret.replace("\\n", "\n").splitlines()]
    parts = {secret.strip(), *(line for line in lines if len(line) >= 16 and not line.startswith("-----"))}
    return {part for part in parts if len(part) >= _SHORTEST}


class _Known:
    """A known secret, or a line of one, in all forms in which it may be printed."""

    def __init__(self, secret: str) -> None:
        raw = secret.encode()
        percent = "".join(f"%{byte:02X}" for byte in raw)
        self._secret = secret
        self._quoted = sorted({quote(secret, safe=""), quote(secret), percent} - {secret})
        self._dump = binascii.hexlify(raw).decode()
        self._encoded = _base64_forms(raw)
        self._bare = {_bare(form) for form in (secret, *self._quoted, self._dump, *self._encoded)}

    def may_be_in(self, bare: str) -> bool:
        """Whether a pattern may be found in a text, of which this is the bare form."""
        return any(form in bare for form in self._bare)

    @functools.cached_property
    def patterns(self) -> list[re.Pattern[str]]:
        """Made where they are wanted: those of an App's key take more than a second."""
        patterns = [_spread(self._secret), *(_spread(form, re.IGNORECASE) for form in self._quoted)]
        patterns.append(_spread(self._dump, re.IGNORECASE, r"(?:\s|:|\\x|0x|,)*"))
        return patterns + [_spread(form) for form in self._encoded]


@functools.lru_cache(maxsize=32)
def _all_known(secrets: frozenset[str]) -> tuple[_Known, ...]:
    """The longest first."""
    parts = {part for secret in secrets for part in _parts(secret)}
    return tuple(_known(part) for part in sorted(parts, key=len, reverse=True))


@functools.lru_cache(maxsize=256)
def _known(secret: str) -> _Known:
    return _Known(secret)


def _spread(characters: str, flags: int = 0, gap: str = r"(?:\s|\\[nrt])*") -> re.Pattern[str]:
    return re.compile(gap.join(re.escape(c) for c in characters if not c.isspace()), flags)


def _bare(text: str) -> str:
    """The text without case, and without all characters that the patterns pass over between those of a secret.

    Character by character, so that where a pattern is found in a text, what it was made of is in the bare text as one
    piece. The reverse isn't so.
    """
    text = "".join(text.casefold().split())
    for character in "\\nrtx0:,":
        text = text.replace(character, "")
    return text


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
