"""Payloads of `tests/data/webhooks`, written after GitHub's documented shapes, and their signed requests."""

import copy
import json
import uuid
from pathlib import Path
from typing import Any

from bot.webhook.delivery import Delivery, signature

FOLDER = Path(__file__).parents[2] / "data" / "webhooks"
SECRET = "It's a Secret to Everybody"
NAMES = sorted(path.stem for path in FOLDER.glob("*.json"))


def payload(name: str, **changes: Any) -> dict[str, Any]:
    """The payload, with changes by dotted path written as `issue__state="closed"`."""
    data = copy.deepcopy(json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))
    for path, value in changes.items():
        *parents, last = path.split("__")
        at = data
        for parent in parents:
            at = at[parent]
        if value is ...:
            del at[last]
        else:
            at[last] = value
    return data


def delivery(name: str, **changes: Any) -> Delivery:
    data = payload(name, **changes)
    return Delivery(guid=str(uuid.uuid4()), event=name.partition(".")[0], action=data.get("action"), payload=data)


def request(
    event: str, data: dict[str, Any] | bytes, *, guid: str | None = None, secret: str = SECRET
) -> tuple[bytes, dict[str, str]]:
    """Body and headers as GitHub sends them."""
    body = data if isinstance(data, bytes) else json.dumps(data).encode()
    return body, {
        "Content-Type": "application/json",
        "User-Agent": "GitHub-Hookshot/044aadd",
        "X-GitHub-Delivery": guid or str(uuid.uuid4()),
        "X-GitHub-Event": event,
        "X-GitHub-Hook-ID": "321",
        "X-Hub-Signature": "sha1=0000000000000000000000000000000000000000",
        "X-Hub-Signature-256": signature(secret.encode(), body),
    }
