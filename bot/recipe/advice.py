"""What a failing build needs, told from the end of its log: pure."""

import re
from typing import NamedTuple

_APT = "apt-get update && apt-get install -y --no-install-recommends"


class Mend(NamedTuple):
    """`why`: a sentence; `image`: one that holds what is missing; `setup`: what to run before everything else, or
    `instead` of it; `packages`: of Debian, which a build may install by itself."""

    why: str
    image: str = ""
    setup: str = ""
    instead: bool = False
    packages: str = ""


def installing(packages: str) -> str:
    """The command that installs Debian's packages, in an image that is of Debian's kind."""
    return f"if command -v apt-get >/dev/null; then {_APT} {packages}; fi"


class Toolchain(NamedTuple):
    image: str  # a well-known one
    packages: str  # of Debian


TOOLCHAINS = {
    "python3": Toolchain("python:3.12", "python3 python3-pip python3-venv"),
    "pip": Toolchain("python:3.12", "python3-pip"),
    "node": Toolchain("node:22", "nodejs npm"),
    "npm": Toolchain("node:22", "npm"),
    "go": Toolchain("golang:1", "golang-go"),
    "cargo": Toolchain("rust:1", "cargo"),
    "bundle": Toolchain("ruby:3", "ruby-bundler ruby-dev build-essential"),
    "composer": Toolchain("composer:2", "composer php-cli php-mbstring php-xml"),
    "java": Toolchain("eclipse-temurin:21", "default-jdk"),
    "mvn": Toolchain("maven:3", "maven"),
    "gradle": Toolchain("gradle:8", "gradle"),
}

# What a log says, and which of Debian's packages mend it.
_SYSTEM = (
    (r"pg_config (executable )?(not found|is required)|libpq-fe\.h", "the headers of PostgreSQL are", "libpq-dev"),
    (r"mysql_config|mysql\.h", "the headers of MySQL are", "default-libmysqlclient-dev pkg-config"),
    (r"Python\.h: No such file|Python dependency not found", "the headers of Python are",
     "python3-dev build-essential"),
    (r"ffi\.h: No such file", "the headers of libffi are", "libffi-dev build-essential"),
    (r"openssl/[a-z]+\.h: No such|Could not find directory of OpenSSL", "the headers of OpenSSL are",
     "libssl-dev pkg-config"),
    (r"libxml/\w+\.h|xslt-config|libxml2 and libxslt", "the headers of libxml2 are", "libxml2-dev libxslt1-dev"),
    (r"autoreconf: (command )?not found", "autotools are", "autoconf automake libtool build-essential"),
    (r"cmake: (command )?not found|CMake must be installed", "CMake is", "cmake build-essential"),
    (r"can't find Rust compiler|rustc: (command )?not found|cargo, the Rust package manager, is not installed",
     "a Rust compiler is", "cargo"),
    (r"(gcc|cc|g\+\+|make)['\"]?(: (command )?not found| failed: No such file)"
     r"|No such file or directory: '(?:[\w.]+-)*(gcc|cc|g\+\+)'|linker `cc` not found|C compiler cannot"
     r"|\"gcc\": executable file not found|Unable to find a compiler"
     r"|extension could not be compiled|Unknown compiler\(s\)|No CMAKE_\w+_COMPILER could be found",
     "a C compiler is", "build-essential"),
    (r"(git['\"]?: (command )?not found|Cannot find command 'git'|\"git\": executable file not found|spawn git ENOENT)",
     "git is", "git"),
    (r"pkg-config['\"]?: (command )?not found", "pkg-config is", "pkg-config"),
)  # fmt: skip

# What says that a lock file does not agree with package.json, and what installs all the same.
_DISAGREEING = (
    ("code EUSAGE", "npm install"),
    ("ERR_PNPM_OUTDATED_LOCKFILE", "npm install -g pnpm && pnpm install --no-frozen-lockfile"),
    ("Your lockfile needs to be updated", "npm install -g yarn && yarn install"),
    (
        "lockfile would have been modified by this install",
        "npm install -g @yarnpkg/cli-dist && yarn install --no-immutable",
    ),
)

# A registry or the network that failed: the same build may work later. As npm, yarn, pnpm, pip, Bundler, Composer, go,
# cargo, Maven, Gradle, apt and git say it.
_NETWORK = re.compile(
    r"Temporary failure (?:in name resolution|resolving)|Could not (?:resolve|reach) host|Name or service not known"
    r"|NameResolutionError|php_network_getaddresses|failed to resolve address|Unknown host\b|no such host"
    r"|UnknownHostException|EAI_AGAIN|ENOTFOUND|ECONNRESET|ETIMEDOUT|ESOCKETTIMEDOUT|ECONNREFUSED|socket hang up"
    r"|ReadTimeoutError|ConnectTimeoutError|Connection (?:refused|reset by peer|timed out|broken)"
    r"|(?:read|connect|operation) timed out|Network is unreachable|No route to host|i/o timeout"
    r"|TLS handshake timeout|RemoteDisconnected|IncompleteRead|\b50[234] (Bad Gateway|Service Unavailable|Gateway Time)"
    r"|HTTP error 5\d\d|Could not connect to|Failed to fetch .* 50\d|spurious network error|429 Too Many Requests",
    re.IGNORECASE,
)
_CERTIFICATE = re.compile(
    r"SELF_SIGNED_CERT|UNABLE_TO_GET_ISSUER_CERT|UNABLE_TO_VERIFY_LEAF_SIGNATURE|CERTIFICATE_VERIFY_FAILED"
    r"|self[- ]signed certificate|certificate verif(?:y|ication) failed|unable to get local issuer certificate"
    r"|certificate signed by unknown authority|PKIX path building failed|SSL certificate problem",
    re.IGNORECASE,
)
_RESOLVER = re.compile(r"\b(?:on|udp) \d+\.\d+\.\d+\.\d+:53\b")  # that Go asked for a name
_PRIVATE = re.compile(
    r"\b(?:10\.\d+|192\.168|172\.(?:1[6-9]|2\d|3[01])|169\.254|100\.(?:6[4-9]|[7-9]\d|1[01]\d|12[0-7]))\.\d+\.\d+\b"
)
_QUOTED = 300  # characters of a line
_TAIL = 30  # lines in which a failure of the network, or of the disk, must be


def outage(log: str) -> str:
    """What the end of the log tells of a registry or a network that failed, with the line that says so; "" for nothing.

    An address of a private network, which a build can never reach, is no such failure.
    """
    lines = [line.strip() for line in _end_of(log).splitlines()]
    if any(_PRIVATE.search(_RESOLVER.sub("", line)) for line in lines):
        return ""
    if untrusted := next(filter(_CERTIFICATE.search, lines), ""):
        return (
            f"the image does not trust the certificate of a package registry ({_at(_CERTIFICATE, untrusted)}): have an "
            "image whose list of authorities has the one that signed it (update-ca-certificates)"
        )
    failed = next(filter(_NETWORK.search, lines), "")
    return f"a package registry can't be reached ({_at(_NETWORK, failed)})" if failed else ""


def _at(pattern: re.Pattern[str], line: str) -> str:
    """The part of a long line with what the pattern finds at its end."""
    found = pattern.search(line)
    end = max(_QUOTED, found.end() if found else 0)
    return line[end - _QUOTED : end]


def disk_full(log: str) -> bool:
    """Whether the end of the log tells of a disk that was full: the daemon's, since a build writes nowhere else."""
    return (
        re.search(r"\b(No space left on device|Disk quota exceeded|ENOSPC)\b", _end_of(log), re.IGNORECASE) is not None
    )


def _end_of(log: str) -> str:
    return "\n".join(log.splitlines()[-_TAIL:])


def missing(program: str, image: str) -> Mend:
    """What to do where the image has no such program."""
    tools = TOOLCHAINS.get(program)
    if tools is None:
        return Mend(f"the image {image} has no {program}")
    return Mend(f"the image {image} has no `{program}`", tools.image, f"{_APT} {tools.packages}")


def advise(log: str) -> Mend:
    """What the end of a failing build's log asks for; an empty `why` where nothing is known."""
    for pattern, what, packages in _SYSTEM:
        if re.search(pattern, log):
            return Mend(f"{what} missing in the image", setup=f"{_APT} {packages}", packages=packages)
    if found := re.search(r"requires a different Python: (\S+) not in '([^']+)'", log):
        return Mend(f"the image has Python {found[1]}, and the project wants {found[2]}", image=_python_image(found[2]))
    if found := re.search(r"go\.mod requires go >= (\d+\.\d+)", log) or re.search(
        r"invalid go version '(\d+\.\d+)", log
    ):
        return Mend(f"the project wants Go {found[1]}", image=f"golang:{found[1]}")
    if found := re.search(r"requires rustc (\d+\.\d+)", log):
        return Mend(f"the project wants Rust {found[1]}", image=f"rust:{found[1]}")
    if re.search(r"lock file version|older than the `\d+` edition", log) and "cargo" in log.lower():
        return Mend("the project is of a newer Cargo than the image's", image="rust:1")
    for words, setup in _DISAGREEING:
        if words in log:
            return Mend("package.json and its lock file do not agree", setup=setup, instead=True)
    if "ERESOLVE" in log:
        return Mend("npm finds no versions that suit each other", setup="npm install --legacy-peer-deps", instead=True)
    if "externally-managed-environment" in log:
        return Mend("the image's Python is managed by its system", setup="rm -f /usr/lib/python3*/EXTERNALLY-MANAGED")
    if re.search(r"\bKilled\b|signal 9|Cannot allocate memory|JavaScript heap out of memory", log):
        return Mend("it took more memory than a build may have (TROOP_SANDBOX_BUILD_MEMORY)")
    if found := _PRIVATE.search(log):
        return Mend(
            f"it wanted to reach {found[0]}, an address of a private network, which builds can't reach unless the "
            "operator lists it in TROOP_SANDBOX_BUILD_ALLOWED_NETWORKS"
        )
    return Mend("")


def _python_image(wanted: str) -> str:
    """An image with the oldest Python that suits, or an older one where newer ones do not."""
    least = re.search(r">=?\s*3\.(\d{1,3})(?!\d)", wanted)
    most = re.search(r"<\s*3\.(\d{1,3})(?!\d)", wanted)
    minor = int(least[1]) if least else int(most[1]) - 1 if most else 12
    return f"python:3.{minor}-slim"
