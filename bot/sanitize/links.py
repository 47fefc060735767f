"""Words in addresses of links, of which a reader sees nothing. Pure."""

import re
from urllib.parse import unquote

_LINK = re.compile(
    r"\]\(\s{0,20}(?:<([^<>\n]{1,2000})>|([^\s()<>]{1,2000}))|\bhref\s{0,9}=\s{0,9}([\"']?)([^\"'<>\n]{1,2000})\3",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"(?<![a-z])[a-z]{2,}+(?: [a-z]{1,}+){4,}", re.IGNORECASE)


def says_something(text: str) -> bool:
    """Whether an address, or the relative ones together, have five words or more one behind the other.

    The slug of an address elsewhere says what is to be found there, which is honest as a rule.
    """
    relative = []
    for link in _LINK.finditer(text):
        address = link[1] or link[2] or link[4]
        if _SENTENCE.search(unquote(address.replace("+", " "))):
            return True
        if "/" not in address or not re.match(r"[a-z]+:|//", address, re.IGNORECASE):
            relative.append(re.sub(r"[-_#/]+", " ", address))
    return _SENTENCE.search(" ".join(relative)) is not None
