"""`python -m tests.github --port 0 --data DIR`: serve until interrupted; the first line printed is JSON."""

import argparse
import json
import signal
import threading
from pathlib import Path

from tests.github.server import GitHubServer


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.github", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--data", type=Path, required=True, help="folder of the bare repositories")
    parser.add_argument("--public-url", default="", help="address in links, where it is not http://HOST:PORT")
    parser.add_argument("--private-key-file", type=Path, help="the App's key; made up and written there if missing")
    parser.add_argument("--app-id", type=int, default=1)
    parser.add_argument("--hook", default="", help="where webhooks go")
    parser.add_argument("--secret", default="", help="that signs them")
    options = parser.parse_args()
    key_file: Path | None = options.private_key_file
    key = key_file.read_text() if key_file and key_file.exists() else ""
    server = GitHubServer(
        options.data,
        host=options.host,
        port=options.port,
        private_key=key,
        app_id=options.app_id,
        public_url=options.public_url,
    )
    if key_file and not key:
        key_file.touch(mode=0o600)
        key_file.write_text(server.private_key)
    server.set_hook(options.hook, options.secret)
    print(json.dumps({"url": server.url, "api_url": server.api_url, "app_id": server.app_id}), flush=True)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    server.close()


if __name__ == "__main__":
    main()
