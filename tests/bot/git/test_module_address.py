"""Addresses in `.gitmodules`: read as a repository of the same host, or refused (attack 17)."""

import pytest

from bot.errors import Refused
from bot.git.module_address import repository_at

WEB = "https://github.com"


@pytest.mark.parametrize(
    "address",
    [
        "https://github.com/olive/parts.git",
        "https://GitHub.com/olive/parts/",
        "http://github.com/olive/parts",
        "https://github.com:443/olive/parts",
        "git://github.com/olive/parts.git",
        "git@github.com:olive/parts.git",
        "ssh://git@github.com/olive/parts.git",
        "ssh://git@github.com:22/olive/parts",
        "../parts.git",
        "../../olive/parts",
        "./../parts",
    ],
)
def test_forms_that_name_a_repository_of_the_host(address: str) -> None:
    web = "https://github.com:443" if ":443" in address else WEB
    assert repository_at(address, "olive/tools", web) == "olive/parts"


def test_a_host_below_a_path() -> None:
    assert repository_at("https://x.example/git/o/n.git", "a/b", "https://x.example/git/") == "o/n"


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("", "can't be read"),
        ("https://github.com/o/n\n", "can't be read"),
        ("https://github.com/o/" + "n" * 2000, "can't be read"),
        ("https://[::1/o/n", "can't be read"),
        ("https://github.com:x/o/n", "can't be read"),
        ("https://example.com/o/n", r"not on github\.com \(it is on example\.com\)"),
        ("https://github.com.example.com/o/n", "not on github"),
        ("https://github.com@example.com/o/n", "not on github"),
        ("git@gitlab.com:o/n.git", r"it is on gitlab\.com"),
        ("https://x:s3cret@github.com/o/n", "holds credentials"),
        ("https://s3cret@github.com/o/n", "holds credentials"),
        ("ssh://git:s3cret@github.com/o/n", "holds credentials"),
        ("https://github.com:8443/o/n", "over HTTPS"),
        ("https://github.com/o/n?service=x", "over HTTPS"),
        ("file:///etc", "over HTTPS"),
        ("/etc/passwd", "over HTTPS"),
        ("ext::sh -c id", "can't be read"),
        ("ext::id", "over HTTPS"),
        ("--upload-pack=id", "over HTTPS"),
        ("-u:o/n", "not on github"),
        ("../../../x/y", "leads out"),
        ("../../..", "leads out"),
        ("../..", "names no repository"),
        ("./parts", "names no repository"),
        ("https://github.com/o", "names no repository"),
        ("https://github.com/o/n/tree/main", "names no repository"),
        ("https://github.com/o/..", "names no repository"),
        ("https://github.com/o/.git", "names no repository"),
        ("https://github.com/../n", "names no repository"),
        ("https://github.com/o/%2e%2e", "names no repository"),
    ],
)
def test_attack_17_what_names_none_is_refused_without_being_repeated(address: str, words: str) -> None:
    with pytest.raises(Refused, match=words) as caught:
        repository_at(address, "olive/tools", WEB)
    assert "s3cret" not in str(caught.value)
