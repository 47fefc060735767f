"""The App's private key, as text that can sign; whatever is wrong with it is said in words."""

import base64
import binascii
import functools
import hashlib
import re
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from github import Auth

from bot.errors import SettingsError
from bot.settings import Settings
from bot.settings.files import text_of

CLOCK_TOLERANCE = 20.0  # seconds by which the clocks may differ; a token is dated back by 60
_BLOCK = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----(.*?)-----END \1-----", re.DOTALL)
_BEGIN = re.compile(r"-----BEGIN ([A-Z0-9 ]+)-----")
_GET_ONE = "generate a private key in the App's settings on GitHub, and use the .pem file that it gives"


def app_key(settings: Settings) -> str:
    """The key as PEM. Raises `SettingsError`, which names the variable, what is wrong with the key, and what to do."""
    text = settings.private_key.get_secret_value()
    variable = "TROOP_PRIVATE_KEY"
    if not text.strip():
        if settings.private_key_file is None:
            raise SettingsError(f"set TROOP_PRIVATE_KEY_FILE (or TROOP_PRIVATE_KEY): {_GET_ONE}")
        variable = "TROOP_PRIVATE_KEY_FILE"
        text = text_of(settings.private_key_file, variable)
        if not text.strip():
            raise SettingsError(f"{variable}: {settings.private_key_file} is empty: {_GET_ONE}")
    return _checked(text, variable)


def app_auth(settings: Settings, ahead: float = 0.0) -> Auth.AppAuth:
    """The App, as it signs its requests. `ahead`: seconds by which GitHub's clock is ahead. Raises as `app_key`."""
    key = _load(app_key(settings))

    def sign(claims: dict[str, Any]) -> str:
        moments = {name: claims[name] + int(ahead) for name in ("iat", "exp")}
        return jwt.encode(claims | moments, key, algorithm="RS256")

    return Auth.AppAuth(settings.app_id, sign_func=sign)


def fingerprint(pem: str) -> str:
    """As GitHub lists the App's keys: `SHA256:` and the hash of the public key."""
    return f"SHA256:{base64.b64encode(hashlib.sha256(_public(_load(pem))).digest()).decode()}"


def _checked(text: str, variable: str) -> str:
    pem = _normal(text)
    if pem is None:
        begun = _BEGIN.search(text)
        what = "is cut off: its end is missing" if begun else "is not a private key: it has no line -----BEGIN"
        raise SettingsError(f"{variable}: the text {what}; {_GET_ONE}")
    kind = _BEGIN.match(pem)
    assert kind is not None, "it is written by `_normal`"
    if kind[1] not in ("RSA PRIVATE KEY", "PRIVATE KEY", "ENCRYPTED PRIVATE KEY"):
        raise SettingsError(f"{variable}: this is a {kind[1].lower()}, not the App's private key; {_GET_ONE}")
    if "ENCRYPTED" in pem:
        raise SettingsError(f"{variable}: the key has a passphrase, which can't be used here; {_GET_ONE}")
    try:
        key = _load(pem)
    except (ValueError, TypeError):
        raise SettingsError(f"{variable}: the key is garbled or cut off; {_GET_ONE}") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise SettingsError(f"{variable}: the key is not an RSA key, as those of Apps are; {_GET_ONE}")
    return pem


def _normal(text: str) -> str | None:
    """The first PEM block with lines as they should be: many hosts keep a key in one line, with `\\n`, blanks or in
    base64. None where there is none."""
    text = text.replace("\\r", "").replace("\\n", "\n")
    found = _BLOCK.search(text) or _BLOCK.search(_decoded(text))
    if found is None:
        return None
    headers, _, body = found[2].rpartition("\n\n") if ":" in found[2] else ("", "", found[2])
    words = "".join(body.split())
    lines = [words[i : i + 64] for i in range(0, len(words), 64)]
    return "\n".join(
        [
            f"-----BEGIN {found[1]}-----",
            *([headers.strip(), ""] if headers else []),
            *lines,
            f"-----END {found[1]}-----",
            "",
        ]
    )


def _decoded(text: str) -> str:
    try:
        return base64.b64decode("".join(text.split()), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return ""


@functools.lru_cache(maxsize=2)
def _load(pem: str) -> Any:
    """The key, once for each text: its numbers are checked as it is read, which takes longer than to sign."""
    return serialization.load_pem_private_key(pem.encode(), None)


def _public(key: object) -> bytes:
    assert isinstance(key, rsa.RSAPrivateKey)
    public = key.public_key()
    return public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
