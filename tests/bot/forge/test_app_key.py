"""The App's key: in every form in which it is kept, and refused in words where it can't sign."""

import base64
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr

from bot.errors import SettingsError
from bot.forge.app_key import app_key, fingerprint
from bot.settings import Settings
from tests.github.fixtures import KEY
from tests.github.server import public_key_of

_PEM, _PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def of_text(text: str) -> Settings:
    return Settings(_env_file=None, app_id=1, private_key=SecretStr(text))


def of_file(path: Path) -> Settings:
    return Settings(_env_file=None, app_id=1, private_key_file=path)


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.replace("\n", "\r\n"),
        KEY.replace("\n", "\\n"),
        KEY.replace("\n", "\\r\\n"),
        KEY.replace("\n", " "),
        "\ufeff" + KEY,
        f'"{KEY}"',
        f"  {KEY}\n\n",
        base64.b64encode(KEY.encode()).decode(),
    ],
    ids=["plain", "crlf", "one line", "one line crlf", "blanks", "mark", "quotes", "white space", "base64"],
)
def test_however_it_is_kept(text: str, tmp_path: Path) -> None:
    assert app_key(of_text(text)) == KEY
    path = tmp_path / "app.pem"
    path.write_text(text, newline="")
    assert app_key(of_file(path)) == KEY


def encrypted(kind: serialization.PrivateFormat) -> str:
    key = serialization.load_pem_private_key(KEY.encode(), None)
    return key.private_bytes(_PEM, kind, serialization.BestAvailableEncryption(b"passphrase")).decode()


def elliptic() -> str:
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(_PEM, _PKCS8, serialization.NoEncryption()).decode()


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("garbage", "is not a private key"),
        ("\0\0", "is not a private key"),
        (KEY[: len(KEY) // 2], "is cut off"),
        (KEY.replace(KEY[100:400], ""), "garbled or cut off"),
        (public_key_of(KEY), "is a public key"),
        ("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n", "is a certificate"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", "is a openssh private key"),
        (encrypted(_PKCS8), "passphrase"),
        (encrypted(serialization.PrivateFormat.TraditionalOpenSSL), "passphrase"),
        (elliptic(), "not an RSA key"),
    ],
    ids=["garbage", "zeros", "half", "gap", "public", "certificate", "openssh", "pkcs8", "traditional", "elliptic"],
)
def test_what_can_not_sign_is_said(text: str, why: str, tmp_path: Path) -> None:
    path = tmp_path / "app.pem"
    path.write_text(text)
    for settings, variable in ((of_text(text), "TROOP_PRIVATE_KEY"), (of_file(path), "TROOP_PRIVATE_KEY_FILE")):
        with pytest.raises(SettingsError, match=why) as error:
            app_key(settings)
        assert str(error.value).startswith(f"{variable}: ")
        assert "MII" not in str(error.value)


def test_files_that_can_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> str:
        with pytest.raises(SettingsError, match="TROOP_PRIVATE_KEY_FILE") as error:
            app_key(of_file(path))
        return str(error.value)

    folder, empty, binary = tmp_path / "app.pem", tmp_path / "empty", tmp_path / "binary"
    folder.mkdir()
    empty.write_bytes(b" \r\n")
    binary.write_bytes(b"\xff\xfe\x00")
    assert "is a folder" in refused(folder)
    assert "is empty" in refused(empty)
    assert "is not text" in refused(binary)
    assert "is not there" in refused(tmp_path / "none")
    assert "is not there" in refused(tmp_path / "none" / "app.pem")
    real = Path.open

    def denied(self: Path, *arguments: object, **more: object) -> object:
        if self == empty:
            raise PermissionError(13, "Permission denied")
        return real(self, *arguments, **more)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", denied)  # root, as which tests may run, reads everything
    assert "chown" in refused(empty)
    with pytest.raises(SettingsError, match="set TROOP_PRIVATE_KEY_FILE"):
        app_key(Settings(_env_file=None, app_id=1))


def test_the_fingerprint_is_github_s() -> None:
    assert fingerprint(KEY).startswith("SHA256:")
    assert len(fingerprint(KEY)) == len("SHA256:") + 44
