"""What a failing build needs, told from its log."""

import pytest

from bot.recipe.advice import advise, disk_full, missing, outage


@pytest.mark.parametrize(
    ("log", "why", "setup"),
    [
        ("Error: pg_config executable not found.", "the headers of PostgreSQL are missing", "libpq-dev"),
        ("error: command 'gcc' failed: No such file or directory", "a C compiler is missing", "build-essential"),
        ("[Errno 2] No such file or directory: 'x86_64-linux-gnu-gcc'", "a C compiler is missing", "build-essential"),
        ("WARNING: The C extension could not be compiled", "a C compiler is missing", "build-essential"),
        ("ERROR: Unknown compiler(s): [['cc'], ['gcc']]", "a C compiler is missing", "build-essential"),
        ("error: linker `cc` not found", "a C compiler is missing", "build-essential"),
        ("sh: 1: make: not found", "a C compiler is missing", "build-essential"),
        ("fatal error: Python.h: No such file or directory", "the headers of Python are missing", "python3-dev"),
        ("meson.build:5:10: ERROR: Python dependency not found", "the headers of Python are missing", "python3-dev"),
        ("ERROR: Cannot find command 'git' - do you have 'git' installed", "git is missing", "git"),
        ("error: can't find Rust compiler", "a Rust compiler is missing", "cargo"),
        ("npm ERR! code ERESOLVE", "npm finds no versions that suit each other", "npm install --legacy-peer-deps"),
        ("ERR_PNPM_OUTDATED_LOCKFILE  Cannot install", "package.json and its lock", "--no-frozen-lockfile"),
        ("error Your lockfile needs to be updated, but", "package.json and its lock", "yarn install"),
        ("YN0028: The lockfile would have been modified by this install", "package.json and its", "--no-immutable"),
        ("npm error code EUSAGE\n`npm ci` can only install packages when", "package.json and its lock", "npm install"),
    ],
)  # fmt: skip
def test_a_known_cause_has_a_line_to_try(log: str, why: str, setup: str) -> None:
    found = advise(f"before\n{log}\nafter")
    assert found.why.startswith(why)
    assert setup in found.setup


@pytest.mark.parametrize(
    ("log", "image"),
    [
        ("ERROR: Package 'x' requires a different Python: 3.11.2 not in '>=3.12'", "python:3.12-slim"),
        ("ERROR: Package 'x' requires a different Python: 3.13.0 not in '<3.11,>=3.8'", "python:3.8-slim"),
        ("go: go.mod requires go >= 1.23 (running go 1.19; GOTOOLCHAIN=local)", "golang:1.23"),
        ("error: package `x v1` cannot be built because it requires rustc 1.80 or newer", "rust:1.80"),
        ("  this version of Cargo is older than the `2024` edition, and only supports `2015`", "rust:1"),
        ("error: failed to parse lock file\ncargo: lock file version `4` was found", "rust:1"),
    ],
)
def test_a_toolchain_that_is_too_old_names_an_image(log: str, image: str) -> None:
    assert advise(log).image == image


@pytest.mark.parametrize(
    "line",
    [
        "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
        "npm ERR! code ENOSPC",
        "tar: x: Cannot write: Disk quota exceeded",
    ],
)
def test_a_full_disk_is_known_by_its_words(line: str) -> None:
    assert disk_full(f"Collecting x\n{line}\nmore")
    assert not disk_full("\n".join([line, *["later"] * 30]))


def test_an_unknown_cause_is_not_guessed() -> None:
    assert advise("AssertionError") == advise("") == type(advise(""))("")


@pytest.mark.parametrize("program", ["go", "cargo", "npm", "python3", "pip", "bundle", "mvn", "gradle", "java", "node"])
def test_every_toolchain_that_a_recipe_wants_can_be_had(program: str) -> None:
    found = missing(program, "plain:1")
    assert found.why == f"the image plain:1 has no `{program}`"
    assert found.image
    assert found.setup.startswith("apt-get update && apt-get install -y")


@pytest.mark.parametrize(
    "line",
    [
        "WARNING: Retrying: NewConnectionError: [Errno -3] Temporary failure in name resolution",
        "npm ERR! network request to https://x failed, reason: getaddrinfo EAI_AGAIN x",
        "go: y@v1: Get https://x: dial tcp: lookup x: i/o timeout",
        "warning: spurious network error (2 tries remaining): [7] Couldn't connect to server",
        "ERROR: HTTP error 503 while getting https://x",
        "E: Could not connect to deb.debian.org:80",
        "npm http fetch GET https://registry.npmjs.org/is-number attempt 1 failed with EAI_AGAIN",
        "Could not reach host index.rubygems.org. Check your network connection and try",
        ": php_network_getaddresses: getaddrinfo for repo.packagist.org failed: Temp",
        "dial tcp: lookup proxy.golang.org on 10.0.0.2:53: no such host",
        "dial tcp: lookup proxy.golang.org on 10.0.0.2:53: dial udp 10.0.0.2:53: connect: network is unreachable",
        "failed to resolve address for github.com: Temporary failure in name resolution; class=Net (12)",
        "Could not transfer artifact a:b:pom:1 from/to central: transfer failed: Unknown host repo.maven.apache.org",
        'Exception in thread "main" java.net.UnknownHostException: services.gradle.org',  # Gradle's wrapper
        "> Could not GET 'https://repo.maven.apache.org/maven2/a.pom'. > Read timed out",
        "Err:1 http://deb.debian.org/debian bookworm InRelease  Temporary failure resolving 'deb.debian.org'",
    ],
)
def test_a_registry_that_is_down(line: str) -> None:
    assert line in outage(f"Collecting x\n{line}\nERROR: No matching distribution found for x")


def test_of_a_long_line_the_part_is_told_that_says_what_failed() -> None:
    asked = "[ERROR] Plugin a:b:2.6 or one of its dependencies could not be resolved: " + "because it could not, " * 20
    said = outage(f"{asked}https://repo.maven.apache.org: Name or service not known and more")
    assert "https://repo.maven.apache.org: Name or service not known)" in said
    assert len(said) < 400


@pytest.mark.parametrize(
    "log",
    [
        "error: command 'gcc' failed",
        "dial tcp 10.1.2.3:443: connect: no route to host i/o timeout",
        "curl: (7) Failed to connect to 169.254.169.254 port 80: No route to host",
        "Connection refused\n" + "line\n" * 40,
    ],
)
def test_what_is_no_failure_of_a_registry(log: str) -> None:
    assert not outage(log)


@pytest.mark.parametrize(
    "line",
    [
        "npm http fetch GET https://registry.npmjs.org/is-number attempt 3 failed with SELF_SIGNED_CERT_IN_CHAIN",
        "(SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed')))",
        "fatal: unable to access 'https://h.example/': SSL certificate problem: self-signed certificate",
        'Get "https://proxy.golang.org/x": x509: certificate signed by unknown authority',
        "Could not transfer artifact a:b:pom:1: PKIX path building failed",
    ],
)
def test_a_certificate_that_the_image_does_not_trust_is_no_fault_of_the_repository(line: str) -> None:
    found = outage(f"{line}\nnpm error Exit handler never called!")
    assert line in found
    assert "update-ca-certificates" in found


def test_a_private_address_is_named_with_the_setting() -> None:
    found = advise("Failed to connect to 10.0.0.7 port 443: No route to host")
    assert "10.0.0.7" in found.why
    assert "TROOP_SANDBOX_BUILD_ALLOWED_NETWORKS" in found.why
