"""What the parts of requests share: their base, and types of fields."""

from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field


def _number(value: Any) -> Any:
    """Refuse what pydantic accepts as a number but JSON does not."""
    if isinstance(value, bool | str):
        raise ValueError("a number is needed")
    return value


T = TypeVar("T")
Listed = Annotated[list[T], Field(fail_fast=True)]  # millions of wrong items are one error, not millions
Whole = Annotated[int, BeforeValidator(_number)]
BiasedToken = Annotated[str, Field(pattern=r"^(0|[1-9][0-9]{0,9})$")]
Bias = Annotated[float, BeforeValidator(_number), Field(ge=-100, le=100)]
Stop = Annotated[str, Field(min_length=1, max_length=1024)]
TokenId = Annotated[int, Field(strict=True, ge=0, le=2**31 - 1)]  # checked without Python code: there may be millions
Number = Annotated[float, BeforeValidator(_number), Field(allow_inf_nan=False)]


class Closed(BaseModel):
    """A part of a request that has no other fields than its own."""

    model_config = ConfigDict(extra="forbid")
