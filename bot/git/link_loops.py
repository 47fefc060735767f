"""Symbolic links to folders that never end for who follows them: pytest and other tools do.

Two links to their own folder make 2^40 paths, since the kernel follows 40 links in a path.
"""

import graphlib
import itertools
from collections import Counter
from collections.abc import Collection, Mapping

MOST = 100_000  # files that who follows links may meet, beyond the files that there are
_CYCLES = 100  # that are looked for one by one; where there are more, no link to a folder stays


def endless(folders: Collection[str], links: Mapping[str, str], files: Mapping[str, int]) -> set[str]:
    """The links to leave out, so that who follows the others comes to an end, after a bounded number of files. Pure.

    `folders`: all paths, "" for the root; `links`: path of each link to the folder that it leads to; `files`: how many
    files are directly in each folder.
    """
    out: set[str] = set()
    if not links:
        return out
    for _ in range(_CYCLES):
        below = _below(folders, links, out)
        try:
            order = [*graphlib.TopologicalSorter(below).static_order()]
            break
        except graphlib.CycleError as error:
            cycle = error.args[1]
            steps = {(folder, inner) for inner, folder in itertools.pairwise(cycle)}
            out |= {link for link, folder in links.items() if (_parent(link), folder) in steps}
    else:
        return set(links)
    met: dict[str, int] = {}
    for folder in order:
        met[folder] = files.get(folder, 0) + sum(met[each] * times for each, times in below[folder].items())
    return out if met[""] <= sum(files.values()) + MOST else set(links)


def _below(folders: Collection[str], links: Mapping[str, str], out: set[str]) -> dict[str, Counter[str]]:
    """How many ways lead from each folder to which others, by itself and by its links."""
    below: dict[str, Counter[str]] = {folder: Counter() for folder in folders}
    for folder in folders:
        if folder:
            below[_parent(folder)][folder] += 1
    for link, folder in links.items():
        if link not in out:
            below[_parent(link)][folder] += 1
    return below


def _parent(path: str) -> str:
    return path.rpartition("/")[0]
