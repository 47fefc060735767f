"""Why Docker does not answer, told apart, each reason with its remedy."""

import os
import socket
import ssl
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

LOCAL = "unix:///var/run/docker.sock"


def why(error: BaseException, address: str) -> str:
    """In words, for the operator and the issue."""
    if address.startswith("unix://") and address != "unix://":
        return _of_socket(error, Path(address.removeprefix("unix://")))
    return _of_host(error, address)


def said(error: BaseException) -> str:
    """What a daemon that answered said, or what failed on this side, for the operator and the issue; without the
    request, which has names and labels, and without paths."""
    explained = getattr(error, "explanation", None)  # of the SDK's `APIError`
    words = explained or getattr(error, "strerror", None) or error
    short = _short(words.decode("utf-8", "replace") if isinstance(words, bytes) else words)
    if "no space left on device" not in short.lower():
        return short
    where = "the Docker daemon" if explained else "this server's temporary files"
    return f"the disk of {where} is full or takes no more files, free some of it: {short}"


def _of_socket(error: BaseException, path: Path) -> str:
    causes = list(_causes(error))
    inside = Path("/.dockerenv").exists()
    if any(isinstance(cause, PermissionError) for cause in causes):
        return _forbidden(path, inside)
    kind = _kind(path)
    if kind == "nothing":
        mounted = "mount the socket into this container, or " if inside else ""
        return (
            f"no Docker daemon answers; install Docker and start it (`systemctl start docker`), {mounted}set "
            f"DOCKER_HOST to where it is: there is no socket {path}"
        )
    if kind == "folder":
        return (
            f"{path} is a folder, not Docker's socket: it was mounted while the daemon was down; remove the folder, "
            "start the daemon, and make the container anew"
        )
    if kind != "socket":
        return f"{path} is not a socket; set DOCKER_HOST to Docker's"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return (
            f"the Docker daemon is down: nobody listens at {path}; start it (`systemctl start docker`) and see its log"
        )
    if any(isinstance(cause, TimeoutError) or "timed out" in str(cause).lower() for cause in causes):
        return f"the Docker daemon hangs: it takes connections at {path} but does not answer; restart it"
    return f"what listens at {path} does not answer as a Docker daemon ({_short(error)}); see its log"


def _forbidden(path: Path, inside: bool) -> str:
    group = _group(path)
    number = "GID" if group is None else str(group)
    owner = "" if group is None else f", which is group {group}'s"
    mend = f"set DOCKER_GID={number} (`stat -c %g {path}`) for compose, or give the container that group"
    if not inside:
        mend = (
            f"add this user to the socket's group (`usermod -aG docker $USER`, then log in again); for compose {mend}"
        )
    return f"this user ({os.geteuid()}) may not open Docker's socket {path}{owner}: {mend}"


def _of_host(error: BaseException, address: str) -> str:
    causes = list(_causes(error))
    text = " ".join(map(str, causes))
    parts = urlsplit(address)
    local = parts.scheme in ("npipe", "fd")
    if not (local and parts.path) and not (parts.scheme in ("tcp", "http", "https", "ssh") and parts.netloc):
        return f"DOCKER_HOST={address} can't be used: set unix:///PATH or tcp://HOST:PORT"
    if parts.scheme == "ssh":
        return (
            f"DOCKER_HOST={address} can't be used ({_short(error)}): ssh:// needs the package paramiko; forward the "
            "socket instead (`ssh -L`), and set unix:///PATH"
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return f"DOCKER_HOST names a host that is not known, {parts.hostname}: correct it"
    if "TLS configuration" in text or ("tls" in text.lower() and "path" in text.lower()):
        return (
            f"Docker's certificates can't be read ({_short(error)}): DOCKER_CERT_PATH names the folder of ca.pem, "
            "cert.pem and key.pem"
        )
    if "HTTP request to an HTTPS server" in text:
        return f"the daemon at {address} wants TLS: set DOCKER_TLS_VERIFY=1 and DOCKER_CERT_PATH"
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return f"the daemon at {address} speaks no TLS: unset DOCKER_TLS_VERIFY, or name its port with TLS (2376)"
    if any(isinstance(cause, ssl.SSLError) for cause in causes) or "certificate" in text.lower():
        return f"the TLS of the daemon at {address} fails ({_innermost(causes)}): check DOCKER_CERT_PATH's certificates"
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return f"the Docker daemon is down, or DOCKER_HOST is wrong: nobody listens at {address}"
    if any(isinstance(cause, TimeoutError) or "timed out" in str(cause).lower() for cause in causes):
        return f"the Docker daemon at {address} does not answer in time: is DOCKER_HOST right, and no firewall between?"
    return f"the Docker daemon at {address} can't be reached ({_innermost(causes)}): check DOCKER_HOST"


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and all that it wraps: as causes, contexts, arguments, or urllib3's `reason`."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        one = waiting.pop(0)
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = (one.__cause__, one.__context__, getattr(one, "reason", None), *one.args)
        waiting += [cause for cause in inner if isinstance(cause, BaseException)]


def _kind(path: Path) -> str:
    try:
        mode = path.stat().st_mode
    except OSError:
        return "nothing"
    return "socket" if stat.S_ISSOCK(mode) else "folder" if stat.S_ISDIR(mode) else "file"


def _group(path: Path) -> int | None:
    try:
        return path.stat().st_gid
    except OSError:
        return None


def _innermost(causes: list[BaseException]) -> str:
    return _short(causes[-1])


def _short(error: object) -> str:
    return " ".join(str(error).split())[:200]
