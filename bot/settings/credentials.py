"""Credentials in addresses: names and passwords, also where a password's `/`, `#` or `@` is not written as %XX."""

import re
from collections.abc import Iterable
from urllib.parse import unquote

MASK = "***"
# What a person who sees that a port is no number has to know; the address itself is not repeated.
WRITE_SO = "in a name or a password write / as %2F, # as %23, ? as %3F and @ as %40"
_SECRET_NAME = re.compile(r"key|token|secret|passw|pwd|\bsig\b|signature|credential|auth", re.IGNORECASE)
_QUERY = re.compile(r"[?&;]([^=&;#]{1,100})=([^&;#\s]+)")
_PIECES = re.compile(r"[/?#@\[\]\s]")
_TOKENS = re.compile(r"https?|rediss?")  # whose name alone is a token; databases have users
_SHORTEST_MASKED = 4  # characters; shorter ones would be found in ordinary words


def credentials_in(address: str) -> tuple[str, ...]:
    """The passwords of an address, tokens in the place of a name, and secrets in its query; as they are, and unquoted.

    The longest first.
    """
    scheme, marked, rest = address.partition("://")
    if not marked:
        scheme, rest = "http", address
    userinfo, marked, _ = rest.rpartition("@")
    name, colon, password = userinfo.partition(":")
    found = [password] if colon else [name] if marked and _TOKENS.fullmatch(scheme.lower()) else []
    found += _PIECES.split(password)  # of which parsers take one where these are not written as %XX
    found += [value for asked, value in _QUERY.findall(rest) if _SECRET_NAME.search(asked)]
    both = {form for each in found for form in (each, unquote(each)) if form}
    return tuple(sorted(both, key=lambda each: (-len(each), each)))


def masked(text: str, addresses: Iterable[str]) -> str:
    """The text without the credentials of these addresses."""
    for address in addresses:
        for secret in credentials_in(address):
            if len(secret) >= _SHORTEST_MASKED:
                text = text.replace(secret, MASK)
    return text


def masked_address(address: str) -> str:
    """The address without its credentials, however short they are."""
    scheme, marked, rest = address.rpartition("://") if "://" in address else ("", "", address)
    userinfo, at, place = rest.rpartition("@")
    if at:
        name, colon, _ = userinfo.partition(":")
        token = not colon and (not marked or _TOKENS.fullmatch(scheme.lower()))
        rest = f"{MASK if token else name}{f':{MASK}' if colon else ''}@{place}"
    hidden = _QUERY.sub(
        lambda found: found[0].replace(found[2], MASK) if _SECRET_NAME.search(found[1]) else found[0], rest
    )
    return f"{scheme}{marked}{hidden}"


def secret_assignment(word: str) -> tuple[str, ...]:
    """What of `NAME=VALUE` is secret: the value by its name, or what is in an address."""
    name, _, value = word.partition("=")
    return (value,) if _SECRET_NAME.search(name) else credentials_in(value) if "://" in value else ()
