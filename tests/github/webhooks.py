"""Webhook deliveries: signed, in order, logged, redelivered with the same GUID; as GitHub, never repeated by itself."""

import hashlib
import hmac
import json
import queue
import threading
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import httpx

from tests.github.payloads import Payloads, stamp
from tests.github.world import Comment, Issue, Repository, World
from tests.patience import PATIENCE

TIMEOUT = PATIENCE  # seconds; GitHub's own are 10, which a busy machine may take


@dataclass
class Delivery:
    id: int
    guid: str
    event: str
    action: str
    body: bytes
    delivered_at: datetime
    redelivery: bool = False
    status: int = 0  # of the answer; 0: not delivered (yet)
    answer: str = ""
    done: threading.Event = field(default_factory=threading.Event, repr=False)


class Webhooks:
    """Delivers to `url` from a thread of its own. Without a URL deliveries are only logged."""

    def __init__(self, world: World, payloads: Payloads) -> None:
        self.world = world
        self.payloads = payloads
        self.url = ""
        self.secret = ""
        self.events = {"pull_request", "installation", "installation_repositories", "ping", *world.app.events}
        self.deliveries: list[Delivery] = []
        self._queue: queue.Queue[Delivery | None] = queue.Queue()
        self._thread = threading.Thread(target=self._run, name="webhooks", daemon=True)
        self._thread.start()
        world.listener = self.happened

    def happened(
        self,
        event: str,
        action: str,
        repository: Repository,
        issue: Issue,
        comment: Comment | None,
        sender: str,
        extra: dict[str, Any],
    ) -> None:
        body = self.payloads.event(event, action, repository, issue, comment, sender, extra)
        self.send(event, action, body)

    def send(self, event: str, action: str, body: dict[str, Any]) -> Delivery | None:
        if event not in self.events:
            return None
        raw = json.dumps(body).encode()
        delivery = Delivery(self.world.next_id(), str(uuid.uuid4()), event, action, raw, self.world.now())
        self._enqueue(delivery)
        return delivery

    def redeliver(self, guid: str) -> Delivery:
        """Send the delivery's very bytes again, under the same GUID."""
        old = next(d for d in reversed(self.deliveries) if d.guid == guid)
        now = self.world.now()
        delivery = Delivery(self.world.next_id(), guid, old.event, old.action, old.body, now, redelivery=True)
        self._enqueue(delivery)
        return delivery

    def headers(self, delivery: Delivery) -> dict[str, str]:
        key = self.secret.encode()
        headers = {
            "content-type": "application/json",
            "user-agent": "GitHub-Hookshot/0000000",
            "x-github-event": delivery.event,
            "x-github-delivery": delivery.guid,
            "x-github-hook-id": "1",
            "x-github-hook-installation-target-id": str(self.world.app.id),
            "x-github-hook-installation-target-type": "integration",
        }
        if self.secret:
            headers["x-hub-signature"] = "sha1=" + hmac.new(key, delivery.body, hashlib.sha1).hexdigest()
            headers["x-hub-signature-256"] = "sha256=" + hmac.new(key, delivery.body, hashlib.sha256).hexdigest()
        return headers

    def settle(self, timeout: float = PATIENCE) -> None:
        """Wait until all that happened so far has been delivered. Raises `TimeoutError`."""
        for delivery in list(self.deliveries):
            if not delivery.done.wait(timeout):
                raise TimeoutError(f"delivery {delivery.guid} was not answered within {timeout} s")

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()  # a delivery under way ends with its time-out

    def summary(self, delivery: Delivery) -> dict[str, Any]:
        """As `GET /app/hook/deliveries` lists it."""
        return {
            "id": delivery.id,
            "guid": delivery.guid,
            "delivered_at": stamp(delivery.delivered_at),
            "redelivery": delivery.redelivery,
            "status": "OK" if 200 <= delivery.status < 300 else "failed",
            "status_code": delivery.status,
            "event": delivery.event,
            "action": delivery.action,
        }

    def _enqueue(self, delivery: Delivery) -> None:
        self.deliveries.append(delivery)
        if self.url:
            self._queue.put(delivery)
        else:
            delivery.done.set()

    def _run(self) -> None:
        with httpx.Client(timeout=TIMEOUT, trust_env=False) as client:
            while (delivery := self._queue.get()) is not None:
                try:
                    response = client.post(self.url, content=delivery.body, headers=self.headers(delivery))
                    delivery.status, delivery.answer = response.status_code, response.text
                except httpx.HTTPError as error:
                    delivery.answer = str(error)
                delivery.done.set()
