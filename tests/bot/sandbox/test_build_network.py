"""Which addresses a build can't reach: the very script, in network namespaces of the test's own.

One namespace stands for the build, the other for everything else: it has private, link-local and public addresses, on
which somebody listens. No packet leaves the two.
"""

import contextlib
import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest

from bot.sandbox import build_network
from tests.patience import PATIENCE, until

pytestmark = pytest.mark.service

GATEWAY, SUBNET = "172.30.9.1", "172.30.0.0/16"
SERVER = "10.9.9.53"  # stands for a name server
ALLOWED = "192.168.7.0/24"
PRIVATE = ("169.254.169.254", "10.1.2.3", "192.168.8.8", "172.17.0.1", "100.100.1.1", GATEWAY, "172.30.9.7")
PUBLIC = ("203.0.113.5", SERVER, "192.168.7.7")
_LISTEN = """
import socket
held = []
for address in ADDRESSES:
    one = socket.create_server((address, 8080))
    held.append(one)
print("ready", flush=True)
import time
time.sleep(LONG)
"""
_REACH = """
import socket, sys
for address in sys.argv[1:]:
    try:
        socket.create_connection((address, 8080), timeout=LONG).close()
        print(address, "reached")
    except OSError as error:
        print(address, error.errno)
"""


def sh(*argv: str, namespace: int = 0) -> str:
    inside = ("nsenter", "--target", str(namespace), "--net") if namespace else ()
    done = subprocess.run([*inside, *argv], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert done.returncode == 0, f"{' '.join(argv)[:200]}: {done.stdout}{done.stderr}"
    return done.stdout


@contextlib.contextmanager
def namespace() -> Iterator[int]:
    """A process with a network of its own, which goes with it."""
    process = subprocess.Popen(["unshare", "--net", "sleep", str(int(10 * PATIENCE))])
    try:
        here = os.readlink("/proc/self/ns/net")
        until(lambda: os.readlink(f"/proc/{process.pid}/ns/net") != here)
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def build() -> Iterator[int]:
    """The build's namespace, whose gateway has every address of the test."""
    if os.geteuid() != 0 or not all(map(shutil.which, ("ip", "unshare", "nsenter"))):
        message = "network namespaces need root, ip, unshare and nsenter"
        pytest.fail(message) if os.environ.get("CI") == "true" else pytest.skip(message)
    with namespace() as build, namespace() as rest:
        near, far = f"tn{build}", f"tf{build}"
        sh("ip", "link", "add", near, "netns", str(build), "type", "veth", "peer", "name", far, "netns", str(rest))
        for pid, device, address in ((build, near, "172.30.9.2"), (rest, far, GATEWAY)):
            for words in (f"addr add {address}/16 dev {device}", f"link set {device} up", "link set lo up"):
                sh("ip", *words.split(), namespace=pid)
        sh("ip", "route", "add", "default", "via", GATEWAY, namespace=build)
        everywhere = (*PRIVATE, *PUBLIC)
        for address in set(everywhere) - {GATEWAY}:
            sh("ip", "addr", "add", f"{address}/32", "dev", far, namespace=rest)
        text = _LISTEN.replace("ADDRESSES", repr(everywhere)).replace("LONG", str(10 * PATIENCE))
        listening = subprocess.Popen(
            ["nsenter", "--target", str(rest), "--net", sys.executable, "-c", text], stdout=subprocess.PIPE
        )
        try:
            assert listening.stdout is not None
            assert listening.stdout.readline() == b"ready\n"
            yield build
        finally:
            listening.kill()
            listening.communicate()


def reached(build: int) -> set[str]:
    """The addresses at which somebody answers the build. All others are refused at once by its own routes."""
    argv = [sys.executable, "-c", _REACH.replace("LONG", str(PATIENCE)), *PRIVATE, *PUBLIC]
    lines = [line.split() for line in sh(*argv, namespace=build).splitlines()]
    assert {what for _, what in lines} <= {"reached", str(errno.EHOSTUNREACH)}
    return {address for address, what in lines if what == "reached"}


@pytest.mark.parametrize("program", ["perl", "python3", "ip"])
def test_attack_34_a_build_reaches_no_private_address(build: int, program: str) -> None:
    assert reached(build) == {*PRIVATE, *PUBLIC}, "without the guard all answer"
    device = f"tn{build}"
    index = int(sh("ip", "-o", "link", "show", device, namespace=build).split(":")[0])
    wanted = build_network.routes(SUBNET, [SERVER, ALLOWED, "8.8.8.8"])
    script = build_network.script(GATEWAY, (device, index), wanted)
    for other in {"perl", "python3", "ip"} - {program}:
        script = script.replace(f"command -v {other} ", f"command -v no-{other} ")
    for _ in range(2):  # whatever was there before
        sh("sh", "-c", script, namespace=build)
    assert reached(build) == set(PUBLIC)


LOCAL = "fe80::9:1"
SITE = "fd00:9::1"


@pytest.fixture
def build6(build: int) -> int:
    """The build's namespace with IPv6 addresses at both ends."""
    if not os.path.exists("/proc/sys/net/ipv6"):
        pytest.skip("this kernel has no IPv6")
    return build


def test_attack_34_ipv6_does_not_lead_round_the_guard(build6: int) -> None:
    device = f"tn{build6}"
    for address in (f"{SITE}/64", f"{LOCAL}/64"):
        sh("ip", "addr", "add", address, "dev", device, "nodad", namespace=build6)
    assert SITE in sh("ip", "-6", "addr", "show", "dev", device, namespace=build6)
    index = int(sh("ip", "-o", "link", "show", device, namespace=build6).split(":")[0])
    script = build_network.script(GATEWAY, (device, index), build_network.routes(SUBNET, []))
    sh("sh", "-c", script, namespace=build6)
    for name, value in build_network.SYSCTLS.items():
        sh("sh", "-c", f"echo {value} > /proc/sys/{name.replace('.', '/')}", namespace=build6)
    later = f"tl{build6}"
    sh("ip", "link", "add", later, "type", "veth", "peer", "name", f"tm{build6}", namespace=build6)
    sh("ip", "link", "set", later, "up", namespace=build6)
    assert "inet6" not in sh("ip", "-6", "addr", namespace=build6), "nor does a new interface have an address"
    mapped = [f"::ffff:{address}" for address in PRIVATE]
    ways = [*mapped, SITE, f"{LOCAL}%{device}", "64:ff9b::a9fe:a9fe", "::1", "2002:a9fe:a9fe::1"]
    argv = [sys.executable, "-c", _REACH.replace("LONG", str(PATIENCE)), *ways]
    answers = dict(line.split() for line in sh(*argv, namespace=build6).splitlines())
    assert "reached" not in answers.values()
    assert {answers[way] for way in mapped} == {str(errno.EHOSTUNREACH)}


@pytest.mark.parametrize("written", ["0251.0376.0251.0376", "0xa9fea9fe", "2852039166", "169.254.43518", "10.66051"])
def test_attack_34_another_way_to_write_an_address_is_the_same_address(build: int, written: str) -> None:
    index = int(sh("ip", "-o", "link", "show", f"tn{build}", namespace=build).split(":")[0])
    script = build_network.script(GATEWAY, (f"tn{build}", index), build_network.routes(SUBNET, []))
    sh("sh", "-c", script, namespace=build)
    argv = [sys.executable, "-c", _REACH.replace("LONG", str(PATIENCE)), written]
    assert sh(*argv, namespace=build).split() == [written, str(errno.EHOSTUNREACH)]


def test_without_a_program_that_changes_routes_the_guard_says_so(build: int) -> None:
    script = build_network.script(GATEWAY, ("x", 1), build_network.routes(SUBNET, [])).replace("command -v ", "false ")
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "neither perl, python3 nor ip is there" in done.stdout


def test_a_route_that_is_refused_fails_the_guard(build: int) -> None:
    """No device has that number."""
    script = build_network.script(GATEWAY, ("none", 99_999), build_network.routes(SUBNET, []))
    done = subprocess.run(
        ["nsenter", "--target", str(build), "--net", "sh", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode != 0
    assert "route" in done.stderr


def test_only_what_is_blocked_needs_a_route_of_its_own() -> None:
    verbs = build_network.routes(SUBNET, ["8.8.8.8", "10.0.0.53", "fd00::1", "10.2.0.0/16"])
    assert [network for verb, network in verbs if verb == "via"] == ["10.0.0.53/32", "10.2.0.0/16"]
