"""Which repository of the host a submodule's address names. Pure.

The address is the repository's own text, and so hostile: nothing of it is ever given to git. It is read as owner and
name, or refused; what git is given is the host's own address with that name.
"""

import re
from urllib.parse import urlsplit

from bot.errors import Refused

NAME = re.compile(r"[A-Za-z0-9_-]{1,100}/(?!\.{1,2}$)[A-Za-z0-9_.-]{1,100}")  # owner/name
_LONGEST = 1000  # characters
_BY_SSH = re.compile(r"(?:[\w.-]+@)?([\w.-]+):(?!/|:)([^:]+)")  # git@github.com:owner/name.git
_OVER_HTTP = frozenset(("https", "http"))
_ELSEHOW = frozenset(("ssh", "git", "git+ssh", "git+https"))


def repository_at(address: str, within: str, web: str) -> str:
    """owner/name of the repository at `address`, as `.gitmodules` of the repository `within` has it.

    `web`: the host's own address. An address by SSH or git's protocol names the same repository, which is fetched over
    HTTPS nevertheless. Raises `Refused`, in words that say nothing of what the address may hold.
    """
    if not address or len(address) > _LONGEST or not address.isprintable() or " " in address:
        raise Refused("its address in .gitmodules can't be read")
    if address.startswith(("./", "../")):
        return _checked(_relative(address, within))
    if found := _BY_SSH.fullmatch(address):
        _check_host(found[1], web)
        return _checked(found[2])
    try:
        parts, own = urlsplit(address), urlsplit(web)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise Refused("its address in .gitmodules can't be read") from None
    if parts.scheme not in _OVER_HTTP | _ELSEHOW:
        raise Refused("its address in .gitmodules is not one of a repository over HTTPS")
    _check_host(host, web)
    if parts.password is not None or (parts.username and parts.scheme in _OVER_HTTP):
        raise Refused("its address in .gitmodules holds credentials, which are not used")
    if parts.query or parts.fragment or (port not in (None, own.port) and parts.scheme in _OVER_HTTP):
        raise Refused("its address in .gitmodules is not one of a repository over HTTPS")
    return _checked(parts.path.removeprefix(own.path.rstrip("/")))


def _relative(address: str, within: str) -> str:
    """As git resolves it against the address of the repository that has it."""
    parts = [part for part in within.split("/") if part]
    for part in address.split("/"):
        if part == "..":
            if not parts:
                raise Refused("its address in .gitmodules leads out of the host")
            parts.pop()
        elif part not in (".", ""):
            parts.append(part)
    return "/".join(parts)


def _check_host(host: str, web: str) -> None:
    own = urlsplit(web).hostname or ""
    if host.lower() != own:
        named = f" (it is on {host})" if re.fullmatch(r"[\w.-]{1,100}", host) else ""
        raise Refused(f"its repository is not on {own}{named}")


def _checked(path: str) -> str:
    name = path.strip("/").removesuffix(".git")
    if not NAME.fullmatch(name):
        raise Refused("its address in .gitmodules names no repository; names look like owner/name")
    return name
