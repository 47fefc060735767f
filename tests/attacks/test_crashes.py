"""Errors that nobody expects, which end a process: their tracebacks tell no secret (attack 35)."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

KEY = "a-canary-of-the-tests-0123456789"
PASSWORD = "hunter2secretpw"
SECRETS = {
    "TROOP_WEBHOOK_SECRET": KEY,
    "TROOP_TOKEN": f"the-token-{KEY}",
    "TROOP_MAIN_API_KEY": f"the-key-{KEY}",
    "TROOP_ENGINE_API_KEY": f"of-the-engine-{KEY}",
    "TROOP_MAIN_BASE_URL": f"http://user:{PASSWORD}@127.0.0.1:1/v1",
    "TROOP_DATABASE_URL": "sqlite:///x.sqlite3",
}
# What breaks says all secrets, as an error of a library may that was given an address or a header.
BREAKS = """
import os, sys, threading
import bot.cli.main
from bot.cli.start import main

def fail(**given):
    raise RuntimeError(f"can't use {[value for name, value in os.environ.items() if name.startswith('TROOP_')]}")

def in_a_thread(**given):
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    return 1

class Doomed:
    def __del__(self):
        fail()

def where_no_caller_is(**given):
    Doomed()
    return 1

bot.cli.main.cli.main = WAY
main()
"""


@pytest.mark.parametrize("arguments", [["doctor"], ["solve", ".", "--json"]], ids=["for people", "for programs"])
@pytest.mark.parametrize("way", ["fail", "in_a_thread", "where_no_caller_is"])
def test_attack_35_a_traceback_tells_no_secret(tmp_path: Path, arguments: list[str], way: str) -> None:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("TROOP_")}
    done = subprocess.run(
        [sys.executable, "-c", BREAKS.replace("WAY", way), *arguments],
        cwd=tmp_path,
        env=plain | SECRETS,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: can't use" in done.stderr
    if "--json" in arguments and way == "fail":
        assert "can't use" in json.loads(done.stdout)["error"]
    for secret in (KEY, PASSWORD):
        assert secret not in done.stdout + done.stderr
