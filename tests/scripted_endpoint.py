"""The scripted model of `tests.scripted` as an OpenAI-compatible HTTP server.

The key arrives percent-encoded in the header `X-Troop-Call`, which `bot.llm.client` sends; it is "" for clients that do
not. Run by hand:

    python -m tests.scripted_endpoint --script FILE.py [--port 8200] [--mode garbage] [--name NAME] [--context-window N]

where FILE.py defines `reply(key, messages)`; a FILE.json holds `[["pattern", "reply" or ["first", "second"]], ...]`.
"""

import argparse
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from bot.records import Message, Reply
from tests.patience import PATIENCE
from tests.scripted import Mode, Script, answer, estimate, load


class ScriptedEndpoint(ThreadingHTTPServer):
    """The server. `requests` holds the bodies of chat calls; `next_modes` are used first, one a call, then `mode`."""

    daemon_threads = True
    block_on_close = False  # a hanging call must not keep the test from ending
    request_queue_size = 256

    def __init__(
        self,
        reply: Script,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        mode: Mode = Mode.NORMAL,
        name: str = "scripted",
        context_window: int | None = 131_072,
        api_key: str | None = None,
        refuses: Sequence[str] = (),
        tokenize: bool = True,
        retry_after: float = 0.01,
        latency: float = 0.0,
    ) -> None:
        """`refuses`: parameters answered with a 400 that names them. `context_window` None: not told by /v1/models."""
        super().__init__((host, port), _Handler)
        self.script = reply
        self.mode = mode
        self.next_modes: list[Mode] = []
        self.model_name = name
        self.context_window = context_window
        self.api_key = api_key
        self.refusals = {name: f"Unsupported parameter: '{name}' is not supported." for name in refuses}
        self.refuse_when: Callable[[dict[str, Any]], str] = lambda body: ""  # the message of a 400, or ""
        self.listed: dict[str, Any] = {}  # more fields of the model at /v1/models
        self.answer: Callable[[dict[str, Any]], tuple[int, Any] | None] = lambda body: None  # status and body instead
        self.away: Callable[[], int] = lambda: 0  # the status that a proxy answers with while this is away, else 0
        self.reads: int | None = None  # tokens of a prompt that are read at most; the rest is silently cut
        self.message: dict[str, Any] | None = None  # instead of the reply's own message
        self.together: threading.Barrier | None = None  # calls wait until as many have arrived
        self.tokenize = tokenize
        self.retry_after = retry_after
        self.latency = latency
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.counted: list[str] = []  # texts that /tokenize was asked about
        self.lock = threading.Lock()
        self.stopped = threading.Event()
        self.under_way = 0
        self.most_under_way = 0
        self._prefixes: set[str] = set()

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def take_mode(self) -> Mode:
        with self.lock:
            return self.next_modes.pop(0) if self.next_modes else self.mode

    def cached_tokens(self, messages: Sequence[Message]) -> int:
        """Tokens of the leading messages that an earlier call began with too."""
        digest, cached, fresh = hashlib.sha256(), 0, False
        with self.lock:
            for message in messages:
                digest.update(f"{message.role}\0{message.content}\0".encode("utf-8", "surrogatepass"))
                fresh = fresh or digest.hexdigest() not in self._prefixes
                cached += 0 if fresh else estimate(message.content)
                self._prefixes.add(digest.hexdigest())
        return cached

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that hang up are part of the tests; nothing is printed."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: ScriptedEndpoint

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _json(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "text/event-stream" if raw.startswith(b"data:") else "application/json")
        self.send_header("content-length", str(len(raw)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(raw)

    def _error(self, status: int, message: str, headers: dict[str, str] | None = None, **more: Any) -> None:
        self._json(status, {"error": {"message": message, "type": "invalid_request_error", **more}}, headers)

    def _authorised(self) -> bool:
        if self.server.api_key is None or self.headers.get("authorization") == f"Bearer {self.server.api_key}":
            return True
        self._error(401, "incorrect API key provided")
        return False

    def _away(self) -> bool:
        if status := self.server.away():
            self._json(status, b"<html><h1>nginx</h1></html>", {"content-type": "text/html"})
        return bool(status)

    def do_GET(self) -> None:
        if self.path == "/health":
            return self._json(200, {"status": "ok"})
        if self._away() or not self._authorised():
            return None
        if self.path != "/v1/models":
            return self._error(404, f"no such page: {self.path}")
        model: dict[str, Any] = {"id": self.server.model_name, "object": "model", "owned_by": "tests"}
        model |= self.server.listed
        if self.server.context_window is not None:
            model["max_model_len"] = self.server.context_window
        return self._json(200, {"object": "list", "data": [model]})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        if self._away() or not self._authorised():
            return None
        if self.path in ("/tokenize", "/v1/tokenize") and self.server.tokenize:
            self.server.counted.append(body["prompt"])
            return self._json(200, {"count": estimate(body["prompt"]), "max_model_len": self.server.context_window})
        if self.path not in ("/v1/chat/completions", "/v1/completions"):
            return self._error(404, f"no such page: {self.path}")
        with self.server.lock:
            self.server.requests.append(body)
            self.server.headers.append({name.lower(): value for name, value in self.headers.items()})
            self.server.under_way += 1
            self.server.most_under_way = max(self.server.most_under_way, self.server.under_way)
        try:
            return self._chat(body)
        finally:
            with self.server.lock:
                self.server.under_way -= 1

    def _chat(self, body: dict[str, Any]) -> None:
        server = self.server
        if body["model"] != server.model_name:
            return self._error(404, f"the model `{body['model']}` does not exist", code="model_not_found")
        if server.together is not None:
            server.together.wait(PATIENCE)
        for name, message in server.refusals.items():
            if name in body:
                return self._error(400, message, param=name)
        if message := server.refuse_when(body):
            return self._error(400, message)
        if (instead := server.answer(body)) is not None:
            return self._json(*instead)
        mode = server.take_mode()
        if server.latency:
            server.stopped.wait(server.latency)
        if mode is Mode.HANG:
            server.stopped.wait()
            self.close_connection = True
            return None
        if mode is Mode.DROP:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return None
        if mode is Mode.ERROR:
            return self._error(500, "internal server error")
        if mode is Mode.RATE_LIMITED:
            return self._error(429, "rate limit reached", {"retry-after": str(server.retry_after)})
        if mode is Mode.MALFORMED:
            return self._json(200, b'{"choices": [{"mess')
        if mode is Mode.OVERFLOW:
            message = f"This model's maximum context length is {server.context_window} tokens. Shorten the messages."
            return self._error(400, message, code="context_length_exceeded")
        said = body.get("messages") or [{"role": "user", "content": body["prompt"]}]
        messages = [Message.model_validate({"role": m["role"], "content": m["content"]}) for m in said]
        reply = answer(server.script, mode, unquote(self.headers.get("x-troop-call", "")), messages)
        prompt = min(reply.usage.prompt_tokens, server.reads or reply.usage.prompt_tokens)
        usage = {
            "prompt_tokens": prompt,
            "completion_tokens": reply.usage.completion_tokens,
            "total_tokens": prompt + reply.usage.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": server.cached_tokens(messages)},
        }
        head = {"id": f"chatcmpl-{len(server.requests)}", "created": int(time.time()), "model": server.model_name}
        if body.get("stream") or mode is Mode.SLOW:
            return self._stream(head, reply, usage, mode, streaming=bool(body.get("stream")))
        choice = {"index": 0, "finish_reason": reply.finish_reason, "message": {"role": "assistant"}}
        choice["message"]["content"] = None if mode is Mode.NULL else reply.text  # type: ignore[index]
        choice["message"] = server.message or choice["message"]
        if "prompt" in body:
            choice["text"] = choice.pop("message")["content"]  # type: ignore[index]
        choices = [] if mode is Mode.NULL and len(server.requests) % 2 else [choice]
        return self._json(200, {**head, "object": "chat.completion", "choices": choices, "usage": usage})

    def _stream(self, head: Any, reply: Reply, usage: Any, mode: Mode, *, streaming: bool) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream" if streaming else "application/json")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        while mode is Mode.SLOW and not self.server.stopped.wait(0.02):
            self.wfile.write(self._event(head, {"content": "."}) if streaming else b" ")
        for start in range(0, len(reply.text), 16):
            self.wfile.write(self._event(head, {"content": reply.text[start : start + 16]}))
        self.wfile.write(self._event(head, {}, finish_reason=reply.finish_reason))
        self.wfile.write(b"data: " + json.dumps({**head, "choices": [], "usage": usage}).encode() + b"\n\n")
        self.wfile.write(b"data: [DONE]\n\n")

    @staticmethod
    def _event(head: Any, delta: dict[str, str], finish_reason: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
        return (
            b"data: " + json.dumps({**head, "object": "chat.completion.chunk", "choices": [choice]}).encode() + b"\n\n"
        )


@contextlib.contextmanager
def scripted_endpoint(reply: Script, **options: Any) -> Iterator[ScriptedEndpoint]:
    """A running endpoint on a free loopback port; options as of `ScriptedEndpoint`."""
    endpoint = ScriptedEndpoint(reply, **options)
    thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.stopped.set()
        endpoint.shutdown()
        endpoint.server_close()
        thread.join()


def main() -> None:
    parser = argparse.ArgumentParser(description="an OpenAI-compatible endpoint whose replies come from a script")
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8200)
    parser.add_argument("--mode", type=Mode, choices=list(Mode), default=Mode.NORMAL)
    parser.add_argument("--name", default="scripted")
    parser.add_argument("--context-window", type=int, default=131_072)
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each reply")
    options = vars(parser.parse_args())
    endpoint = ScriptedEndpoint(load(options.pop("script")), **options)
    print(f"scripted model at {endpoint.base_url}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        endpoint.serve_forever()


if __name__ == "__main__":
    main()
