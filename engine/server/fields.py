"""What the parts of requests share: their base, and types of fields."""

from collections.abc import Callable
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WrapValidator

PIECE = 1 << 14  # token ids that are checked at once


def _number(value: Any) -> Any:
    """Refuse what pydantic accepts as a number but JSON does not."""
    if isinstance(value, bool | str):
        raise ValueError("a number is needed")
    return value


def _in_pieces(value: Any, check: Callable[[Any], Any]) -> Any:
    """Check a list piece by piece: pydantic lets no other thread run meanwhile."""
    try:
        for at in range(0, len(value) if isinstance(value, list) else 0, PIECE):
            check(value[at : at + PIECE])
    except ValidationError:
        return check(value)  # as a whole, for the place of what is wrong
    return value if isinstance(value, list) else check(value)


T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]  # millions of wrong items are one error, not millions
Whole = Annotated[int, BeforeValidator(_number)]
BiasedToken = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$")]
Bias = Annotated[float, BeforeValidator(_number), Field(ge=-100, le=100)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
TokenId = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]  # checked without Python code: there may be millions
TokenIds = Annotated[list[TokenId], Field(fail_fast=True), WrapValidator(_in_pieces)]
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class Closed(BaseModel):
    """A part of a request that has no other fields than its own."""

    model_config = ConfigDict(extra="forbid")
