"""Git LFS by GitHub's batch API, without git-lfs: https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md

The repository's `.lfsconfig` is not read: only the host itself is asked where content is. The token goes to the host
alone; whatever other server it names gets the headers that the host gives for it, and nothing else.
"""

import asyncio
import contextlib
import json
import operator
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from bot.git.command import Remote
from bot.records import StoredFile

_TYPE = "application/vnd.git-lfs+json"
_BATCH = 100  # objects that are asked for at once, as GitHub's own client does
_AT_ONCE = 6
_ATTEMPTS = 3
_SECONDS = 30.0  # until an answer begins or goes on
_ANSWER = 4_000_000  # bytes of one about a batch


async def download(
    remote: Remote, wanted: Sequence[StoredFile], folder: Path, *, seconds: float, max_bytes: int
) -> str:
    """Fetch the content of these files into `folder`, named by their hashes; why some are not there, "" where all are.

    The smallest come first, until all of them take `max_bytes`.
    """
    sizes = {one.oid: one.size for one in wanted}
    chosen, total = [], 0
    for oid, size in sorted(sizes.items(), key=operator.itemgetter(1)):
        total += size
        if total <= max_bytes:
            chosen.append(oid)
    why = [] if total <= max_bytes else [f"together they take more than {max_bytes:,} bytes (TROOP_CHECKOUT_LFS_BYTES)"]
    plain = {"Accept-Encoding": "identity"}
    async with httpx.AsyncClient(timeout=_SECONDS, follow_redirects=False, headers=plain) as client:
        try:
            async with asyncio.timeout(seconds):
                for begin in range(0, len(chosen), _BATCH):
                    why += await _batch(client, remote, {oid: sizes[oid] for oid in chosen[begin:][:_BATCH]}, folder)
        except TimeoutError:
            why.append(f"it took more than {seconds:g} s (TROOP_CHECKOUT_TIMEOUT)")
    return "; ".join(dict.fromkeys(why))


async def _batch(client: httpx.AsyncClient, remote: Remote, sizes: Mapping[str, int], folder: Path) -> list[str]:
    objects = [{"oid": oid, "size": size} for oid, size in sizes.items()]
    asked = {"operation": "download", "transfers": ["basic"], "objects": objects, "hash_algo": "sha256"}
    headers = {"Accept": _TYPE, "Content-Type": _TYPE}
    if remote.token:
        headers["Authorization"] = remote.authorization
    url = f"{remote.url}/info/lfs/objects/batch"

    async def ask() -> tuple[int, bytes]:
        async with client.stream("POST", url, json=asked, headers=headers) as answer:
            return answer.status_code, await _bytes_of(answer, _ANSWER)

    try:
        status, body = await _tried(ask)
        found = json.loads(body) if status == 200 else None
    except (httpx.HTTPError, ValueError, RecursionError) as error:
        return [f"the host did not tell where they are ({type(error).__name__})"]
    if not isinstance(found, dict) or not isinstance(found.get("objects"), list):
        return [f"the host does not tell where they are (status {status})"]
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(item: Mapping[str, Any]) -> str:
        async with limit:
            return await _object(client, remote, item, sizes, folder)

    told = await asyncio.gather(*(one(item) for item in found["objects"] if isinstance(item, dict)))
    return [words for words in told if words]


async def _object(
    client: httpx.AsyncClient, remote: Remote, item: Mapping[str, Any], sizes: Mapping[str, int], folder: Path
) -> str:
    """Fetch one; why not, or "". Sizes and hashes are checked by who reads the folder."""
    oid = item.get("oid")
    if not isinstance(oid, str) or oid not in sizes:
        return ""
    action = _inner(_inner(item, "actions"), "download")
    href, headers = action.get("href"), _inner(action, "header")
    if not isinstance(href, str):
        code = _inner(item, "error").get("code")
        return f"the host does not have them ({code})" if isinstance(code, int) else "the host does not have them"
    if not is_safe(href, remote.url):
        return "the host names an address for them that is not HTTPS"
    given = {str(name): str(value) for name, value in headers.items()}
    path = folder / oid

    async def fetch() -> tuple[int, bytes]:
        async with client.stream("GET", href, headers=given) as answer:
            if answer.status_code == 200:
                await _write(answer, path, sizes[oid])
            return answer.status_code, b""

    try:
        status, _ = await _tried(fetch)
    except httpx.HTTPError as error:
        return f"where the host keeps them did not answer ({type(error).__name__})"
    except (ValueError, TypeError, httpx.InvalidURL):
        return "the host names an address for them that can't be read"
    return "" if status == 200 else f"where the host keeps them answers with status {status}"


def _inner(item: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = item.get(name)
    return found if isinstance(found, dict) else {}


def is_safe(href: str, own: str) -> bool:
    """Whether it is HTTPS, or as the host itself is reached."""
    try:
        there, here = urlsplit(href), urlsplit(own)
    except ValueError:
        return False
    return there.scheme == "https" or (there.scheme, there.netloc) == (here.scheme, here.netloc)


async def _tried(act: Callable[[], Awaitable[tuple[int, bytes]]]) -> tuple[int, bytes]:
    """Status and body; again where the other side fails for now. Raises `httpx.HTTPError`."""
    for _ in range(_ATTEMPTS - 1):
        with contextlib.suppress(httpx.TransportError):
            found = await act()
            if found[0] < 500:
                return found
    return await act()


async def _bytes_of(answer: httpx.Response, most: int) -> bytes:
    """The body. Raises `ValueError` where it is longer."""
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) > most:
            raise ValueError("the answer is too long")
    return bytes(body)


async def _write(answer: httpx.Response, path: Path, size: int) -> None:
    """The body as a file, up to one byte more than was announced."""
    left = size + 1
    with path.open("wb") as file:
        async for part in answer.aiter_bytes():
            await asyncio.to_thread(file.write, part[:left])
            left -= len(part)
            if left <= 0:
                return
