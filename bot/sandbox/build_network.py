"""The network of builds: the internet, but no private, shared or link-local address.

A container of its own holds the network that all containers of a build join. Before the first of them starts, a
second one, with the capability NET_ADMIN and nothing else, changes the routes there: those ranges become unreachable,
and so do the host's end of the bridge and its other containers. A build has no capability to change them back. The
name servers, and what the operator allows, get routes of their own.

Not closed by routes: the host's own public addresses, and on a name server all its ports.
"""

import ipaddress
import re
import struct
from collections.abc import Sequence

import docker

from bot.errors import SandboxUnavailable
from bot.sandbox import docker_engine
from bot.settings import SandboxSettings

Network = ipaddress.IPv4Network

BLOCKED: tuple[Network, ...] = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),  # private, RFC 1918
            "100.64.0.0/10",  # shared by carriers, RFC 6598; some clouds have services there
            "169.254.0.0/16",  # link-local, RFC 3927: clouds' metadata
            *("192.0.0.0/24", "198.18.0.0/15"),  # protocols' own, benchmarks
            *("224.0.0.0/4", "240.0.0.0/4"),  # multicast, reserved
        ),
    )
)

# IPv6 is off, on the interfaces that are there and on any to come: there are no routes for its ranges.
SYSCTLS = {"net.ipv6.conf.all.disable_ipv6": "1"}

# Sends prepared netlink messages, with what is in most images; the last words of each attempt say what went wrong.
_SEND_PERL = (
    'perl -e \'socket(S,16,3,0) or die "socket: $!"; for (@ARGV) { send(S, pack("H*",$_), 0) or die "send: $!"; '
    'recv(S, $a, 4096, 0); my $e = -unpack("l", substr($a,16,4)); $! = $e; '
    'die "route: $!" if $e && $e != 17 && $e != 3 }\''
)
_SEND_PYTHON = (
    "python3 -c 'import socket, struct, sys\n"
    "s = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)\n"
    "for m in sys.argv[1:]:\n"
    '    s.send(bytes.fromhex(m)); e = struct.unpack_from("=i", s.recv(4096), 16)[0]\n'
    '    if e not in (0, -17, -3): raise SystemExit("route: error %d" % -e)\''
)


def routes(subnet: str, reachable: Sequence[str]) -> list[tuple[str, str]]:
    """What is done to the routes, in order, as (verb, destination): `default`, `unlink`, `block`, `via`. Pure."""
    found = [("default", "0.0.0.0/0"), ("unlink", subnet)]
    found += [("block", str(network)) for network in BLOCKED]
    for word in reachable:
        network = ipaddress.ip_network(word, strict=False)
        if isinstance(network, Network) and any(network.subnet_of(blocked) for blocked in BLOCKED):
            found.append(("via", str(network)))
    return found


def script(gateway: str, device: tuple[str, int], wanted: Sequence[tuple[str, str]]) -> str:
    """A shell script that changes the routes of the network namespace that it runs in."""
    name, index = device
    by_ip = []
    for verb, network in wanted:
        match verb:
            case "default":
                by_ip.append(f"ip route replace default via {gateway} dev {name} onlink")
            case "unlink":
                by_ip.append(f"{{ ip route del {network} dev {name} 2>/dev/null || true; }}")
            case "block":
                by_ip.append(f"ip route replace unreachable {network}")
            case _:
                by_ip.append(f"ip route replace {network} via {gateway} dev {name} onlink")
    messages = " ".join(message(verb, network, gateway, index).hex() for verb, network in wanted)
    return (
        f"if command -v perl >/dev/null 2>&1; then {_SEND_PERL} {messages}\n"
        f"elif command -v python3 >/dev/null 2>&1; then {_SEND_PYTHON} {messages}\n"
        f"elif command -v ip >/dev/null 2>&1; then {' && '.join(by_ip)}\n"
        "else echo 'neither perl, python3 nor ip is there'; exit 1; fi\n"
    )


def message(verb: str, network: str, gateway: str, index: int) -> bytes:
    """One request of rtnetlink(7), answered by an error message that may say 0.

    It is `struct nlmsghdr`, `struct rtmsg`, then attributes, all in the byte order of the machine, which is little on
    every platform that Docker Engine has images for in practice.
    """
    target = ipaddress.IPv4Network(network)
    kind = {"default": _UNICAST, "via": _UNICAST, "unlink": _UNICAST, "block": _UNREACHABLE}[verb]
    scope = _LINK if verb == "unlink" else _UNIVERSE
    on_link = _ONLINK if verb in ("default", "via") else 0
    route = struct.pack("<8BI", _AF_INET, target.prefixlen, 0, 0, _MAIN_TABLE, _BOOT, scope, kind, on_link)
    if target.prefixlen:
        route += _attribute(_DESTINATION, target.network_address.packed)
    if verb in ("default", "via"):
        route += _attribute(_GATEWAY, ipaddress.IPv4Address(gateway).packed)
    if verb != "block":
        route += _attribute(_DEVICE, struct.pack("<I", index))
    if verb == "unlink":
        head, flags = _DELETE, _REQUEST | _ACKNOWLEDGE
        route = route[:5] + bytes([0]) + route[6:]  # whoever made it
    else:
        head, flags = _NEW, _REQUEST | _ACKNOWLEDGE | _CREATE | _REPLACE
    return struct.pack("<IHHII", 16 + len(route), head, flags, 1, 0) + route


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("<HH", 4 + len(value), kind) + value


# linux/netlink.h and linux/rtnetlink.h
_NEW, _DELETE = 24, 25
_REQUEST, _ACKNOWLEDGE, _REPLACE, _CREATE = 0x1, 0x4, 0x100, 0x400
_AF_INET, _MAIN_TABLE, _BOOT = 2, 254, 3
_UNIVERSE, _LINK = 0, 253
_UNICAST, _UNREACHABLE = 1, 7
_DESTINATION, _DEVICE, _GATEWAY = 1, 4, 5
_ONLINK = 4


class BuildNetwork:
    """What containers of one build join: `mode` is theirs."""

    def __init__(
        self, client: docker.APIClient, image_id: str, settings: SandboxSettings, labels: dict[str, str]
    ) -> None:
        """Open it. Raises `SandboxUnavailable` where it can't be guarded, and what the SDK raises."""
        self._client = client
        self._holder = ""
        if settings.build_network != "guarded":
            self.mode = "none" if settings.build_network == "none" else "bridge"
            return
        self._holder = client.create_container(
            image_id,
            entrypoint=["sleep"],
            command=[str(int(settings.setup_timeout + 600))],
            user="65534:65534",
            labels=labels,
            host_config=client.create_host_config(
                network_mode="bridge",
                cap_drop=["ALL"],
                security_opt=["no-new-privileges:true"],
                sysctls=SYSCTLS,
                read_only=True,
                mem_limit="64m",
                pids_limit=16,
                init=True,
            ),
        )["Id"]
        try:
            client.start(self._holder)
            self._guard(image_id, settings, labels)
        except BaseException:
            self.close()
            raise
        self.mode = f"container:{self._holder}"

    def _guard(self, image_id: str, settings: SandboxSettings, labels: dict[str, str]) -> None:
        holder = self._client.inspect_container(self._holder)
        if not holder["State"]["Running"]:
            raise SandboxUnavailable("the image can't run jobs: it needs sh, cp, rm, tar, sleep and timeout")
        found = holder["NetworkSettings"]
        gateway, address, length = found["Gateway"], found["IPAddress"], found["IPPrefixLen"]
        if not gateway:
            raise SandboxUnavailable("the Docker network `bridge` has no gateway, so builds have no network")
        subnet = str(ipaddress.IPv4Network(f"{address}/{length}", strict=False))
        asked = ["cat", "/sys/class/net/eth0/ifindex", "/etc/resolv.conf"]
        code, told = self._inside(image_id, labels, asked)
        first, _, resolvers = told.partition("\n")
        if code != 0 or not first.isdigit():
            raise SandboxUnavailable(f"the image can't tell what network a build has: {told[-300:]}")
        index = int(first)
        servers = re.findall(r"^[ \t]*nameserver[ \t]+(\d+\.\d+\.\d+\.\d+)\s*$", resolvers, re.MULTILINE)
        wanted = routes(subnet, [*servers, *settings.build_allowed_networks])
        code, said = self._inside(image_id, labels, ["sh", "-c", script(gateway, ("eth0", index), wanted)], "NET_ADMIN")
        if code != 0:
            raise SandboxUnavailable(
                f"private addresses can't be blocked for the build ({said[-300:] or f'exit code {code}'}): it needs "
                "perl, python3 or ip in the image, and a runtime that lets routes be changed; "
                "TROOP_SANDBOX_BUILD_NETWORK=open builds without the block, TROOP_SANDBOX_BUILD=never builds nothing"
            )

    def _inside(self, image_id: str, labels: dict[str, str], argv: list[str], *capabilities: str) -> tuple[int, str]:
        """How a command ended that ran in the network as root, and what it printed.

        That is read from a log: of a quick command in an `exec` the SDK loses what arrives with the head of the answer.
        """
        container = self._client.create_container(
            image_id,
            entrypoint=argv,
            command=[],
            user="0:0",
            labels=labels,
            host_config=self._client.create_host_config(
                network_mode=f"container:{self._holder}",
                cap_drop=["ALL"],
                cap_add=list(capabilities),
                security_opt=["no-new-privileges:true"],
                read_only=True,
                mem_limit="128m",
                pids_limit=16,
            ),
        )["Id"]
        try:
            self._client.start(container)
            code = int(self._client.wait(container, timeout=60)["StatusCode"])
            return code, self._client.logs(container).decode("utf-8", "replace").strip()
        finally:
            docker_engine.destroy(self._client, container)

    def close(self) -> None:
        """Never raises."""
        if self._holder:
            docker_engine.destroy(self._client, self._holder)
