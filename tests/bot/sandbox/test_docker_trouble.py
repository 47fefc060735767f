"""Each reason why Docker does not answer is told apart, on real sockets."""

import contextlib
import errno
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import docker
import pytest
import requests

from bot.errors import SandboxUnavailable
from bot.sandbox import docker_engine, docker_trouble


@pytest.fixture(autouse=True)
def _plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH"):
        monkeypatch.delenv(name, raising=False)


def said(monkeypatch: pytest.MonkeyPatch, address: str) -> str:
    monkeypatch.setenv("DOCKER_HOST", address)
    with pytest.raises(SandboxUnavailable) as error:
        docker_engine.connect()
    return str(error.value)


@contextlib.contextmanager
def answering(reply: bytes, family: socket.AddressFamily, address: str | tuple[str, int]) -> Iterator[socket.socket]:
    """A server that answers each connection with those bytes."""
    with socket.socket(family) as server:
        server.bind(address)
        server.listen()

        def serve() -> None:
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                with connection, contextlib.suppress(OSError):
                    if connection.recv(65_536):
                        connection.sendall(reply)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = said(monkeypatch, f"unix://{tmp_path}/none.sock")
    assert "no Docker daemon answers; install Docker" in words
    assert "there is no socket" in words


@pytest.mark.parametrize("address", ["unix://", "tcp://", "tcp:127.0.0.1:2375", "/var/run/docker.sock", "npipe:"])
def test_what_is_no_address(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    assert f"DOCKER_HOST={address} can't be used: set unix:///PATH or tcp://HOST:PORT" in said(monkeypatch, address)


def test_no_permission_names_the_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"

    def denied(self: socket.socket, address: object) -> None:
        raise PermissionError(13, "Permission denied")

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        monkeypatch.setattr(socket.socket, "connect", denied)  # root, as which tests may run, may open every socket
        words = said(monkeypatch, f"unix://{path}")
    assert "may not open Docker's socket" in words
    assert f"DOCKER_GID={path.stat().st_gid}" in words
    assert "install Docker" not in words


def test_a_socket_without_a_daemon(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        assert "the Docker daemon is down" in said(monkeypatch, f"unix://{path}")


def test_what_is_no_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    assert "is a folder, not Docker's socket" in said(monkeypatch, f"unix://{tmp_path}")
    assert "is not a socket" in said(monkeypatch, f"unix://{tmp_path}/file")


def test_a_daemon_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_engine, "_KNOCKING", 0.2)
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        assert "hangs" in said(monkeypatch, f"unix://{path}")


def test_somebody_else_at_the_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with answering(b"SSH-2.0-x\r\n", socket.AF_UNIX, str(tmp_path / "docker.sock")):
        assert "does not answer as a Docker daemon" in said(monkeypatch, f"unix://{tmp_path}/docker.sock")


def test_a_host_that_nobody_is_at(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    words = said(monkeypatch, f"tcp://127.0.0.1:{port}")
    assert "nobody listens at" in words
    assert "DOCKER_HOST" in words


def test_a_host_that_is_not_known(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    assert "a host that is not known, docker.example" in said(monkeypatch, "tcp://docker.example:2375")


@pytest.mark.parametrize("address", ["docker.example:2375x", "ftp://host:1", "tcp://", "unixx:///run/docker.sock"])
def test_an_address_that_is_none(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"DOCKER_HOST={address} can't be used" in said(monkeypatch, address)


def test_tls_that_is_wanted_and_not_spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    body = b"Client sent an HTTP request to an HTTPS server.\n"
    reply = b"HTTP/1.0 400 Bad Request\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with answering(reply, socket.AF_INET, ("127.0.0.1", 0)) as server:
        words = said(monkeypatch, f"tcp://127.0.0.1:{server.getsockname()[1]}")
    assert "wants TLS: set DOCKER_TLS_VERIFY=1" in words


def test_tls_that_is_spoken_and_not_wanted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    address = "tcp://127.0.0.1:2376"
    assert "DOCKER_CERT_PATH names the folder" in said(monkeypatch, address)
    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", lambda *_, **__: None)
    monkeypatch.setattr(ssl.SSLContext, "load_verify_locations", lambda *_, **__: None)
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).touch()
    with answering(b"HTTP/1.1 400 Bad Request\r\n\r\n", socket.AF_INET, ("127.0.0.1", 0)) as server:
        words = said(monkeypatch, f"tcp://127.0.0.1:{server.getsockname()[1]}")
    assert "speaks no TLS" in words


ASKED = "500 Server Error for http+docker://localhost/v1.41/commit?container=ea5c&changes=LABEL+troop.owner%3D%22x"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (  # as a daemon answers whose disk is full
            docker.errors.APIError(ASKED, explanation="Error processing tar file: write /x: no space left on device"),
            "the disk of the Docker daemon is full or takes no more files, free some of it: Error processing tar file: "
            "write /x: no space left on device",
        ),
        (
            OSError(errno.ENOSPC, "No space left on device", "/tmp/troop-sandbox-1/base"),
            "the disk of this server's temporary files is full or takes no more files, free some of it: No space left "
            "on device",
        ),
        (docker.errors.APIError(ASKED, explanation="layer does not exist"), "layer does not exist"),
        (requests.exceptions.ReadTimeout("Read timed out."), "Read timed out."),
    ],
)
def test_what_a_daemon_answered_is_told_without_the_request(error: Exception, words: str) -> None:
    assert docker_trouble.said(error) == words
