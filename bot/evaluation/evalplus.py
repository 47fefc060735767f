"""The check of a function whose tests are inputs alone, in the form that EvalPlus (arXiv 2305.01210) releases. Pure.

What is right on an input is what the task's own solution gives on it, as EvalPlus has it: floats may differ by `atol`,
and by a millionth where that is 0. Of `find_zero` the root itself is looked at, since a polynomial may have several.
"""

import json
from collections.abc import Sequence

_CHECK = """
def check(candidate):
    import copy, json, math

    def alike(found, right):
        if isinstance(found, float) or isinstance(right, float):
            if math.isnan(right):
                return math.isnan(found)
            return math.isclose(found, right, rel_tol=1e-7, abs_tol={atol!r} or 1e-6)
        if isinstance(right, (list, tuple)):
            return type(found) is type(right) and len(found) == len(right) and all(map(alike, found, right))
        if isinstance(right, dict):
            return found.keys() == right.keys() and all(alike(found[key], right[key]) for key in right)
        return found == right

    own = {{"__name__": "solution"}}
    exec({solution!r}, own)
    for given in json.loads({inputs!r}):
        found = candidate(*copy.deepcopy(given))
        if {name!r} == "find_zero":
            assert abs(own["poly"](*copy.deepcopy(given), found)) <= ({atol!r} or 1e-4), given
        else:
            assert alike(found, own[{name!r}](*copy.deepcopy(given))), given
"""


def check_of(name: str, solution: str, inputs: Sequence[object], atol: float) -> str:
    """Python that defines `check(candidate)`. `inputs`: the arguments of each call; `solution`: the whole module."""
    return _CHECK.format(name=name, solution=solution, inputs=json.dumps(inputs), atol=atol)
