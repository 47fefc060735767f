"""The attacks that Troop is to withstand, by the numbers in the tests' names, `test_attack_07_...`: each has a test."""

import ast
from pathlib import Path

ATTACKS = {
    1: "a missing, wrong, SHA-1 or non-ASCII signature",
    2: "a signed body of which one byte is changed",
    3: "a body of 26 MB, deeply nested JSON, another content type",
    4: "one delivery fifty times at once",
    5: "a new delivery of the same label",
    6: "unlabelled before labelled; an issue that is closed or transferred",
    7: "a label by somebody who may only read or triage",
    8: "a command by an outsider; a permission that can't be asked for",
    9: "a command in our own comment or another bot's",
    10: "a command in a quote, in code, in an edited comment",
    11: "a repository that is not allowed; a suspended installation",
    12: "an issue that asks for secrets",
    13: "text that an issue's readers don't see",
    14: "an issue that is edited after the label; outsiders' comments",
    15: "orders in the repository's files for agents",
    16: "a change of workflows, code owners, lock files",
    17: "links and paths that lead out of the tree, submodules",
    18: "branches and titles that are options or commands",
    19: "output that mentions, closes issues, loads pictures, is markup",
    20: "a secret that a model writes, whole, split or encoded",
    21: "a test that looks for the host, its network and its secrets",
    22: "a fork bomb",
    23: "endless output, a full disk, a memory bomb",
    24: "a job that does not end, or leaves a daemon",
    25: "a success that is faked",
    26: "a text longer than GitHub takes",
    27: "a thousand labels in a minute",
    28: "a repository that is small until it is unpacked",
    29: "a repository's config that sets what is the server's",
    30: "a replayed or forged call-back, a forged form, another repository's pages",
    31: "a candidate beside its judge in one sandbox",
    32: "configuration, plugins and modules that steer the tests",
    33: "manifests that steer the tests",
    34: "a set-up that poisons, floods, looks around",
    35: "credentials in addresses, replies, exceptions and output",
    36: "wishes within milliseconds of each other",
    37: "a quota used up by people who may not start runs",
    38: "connections that are idle or slow, and many of them",
    39: "text that GitHub's renderer hides; a prompt's own tags",
    40: "a repository of very many files",
    41: "output that forges log records or that a terminal obeys",
    42: "numbers and dates out of range, a repository that is renamed",
    43: "pages behind a proxy on the same host",
    44: "a base branch, an issue, a repository that changes or goes meanwhile; a ruleset that refuses the push",
    45: "a tree whose attributes, names and links mislead",
}


def test_each_attack_has_a_test() -> None:
    named = set()
    for path in Path(__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_attack_"):
                named.add(int(node.name.split("_")[2]))
    assert named == set(ATTACKS)
