"""What the sections of a recipe are made of: their base class, and kinds of values that several of them use."""

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationInfo

from motif_lite import own_code
from motif_lite.recipe.spelling import nearest

Auto = Literal["auto"]
"""The memory plan decides (`planning.planner`)."""

PositiveInt = Annotated[int, Field(ge=1, le=1_000_000)]

Finite = Field(allow_inf_nan=False)


def one_of(kind: str, *, own: bool = False) -> AfterValidator:
    """A name in the table of its kind or, with ``own``, of something in a file of the user's (`own_code`)."""

    def check(name: str, info: ValidationInfo) -> str:
        known = list((info.context or {})[kind])
        if name not in known and not (own and own_code.is_own(name)):
            more = f", and FILE.py:NAME for a {kind} of your own" if own else ""
            raise ValueError(f"there is no {kind} {name!r}{nearest(name, known)}; known: {', '.join(known)}{more}")
        return name

    return AfterValidator(check)


class Section(BaseModel):
    """A table of a recipe: frozen, strict, and without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, use_attribute_docstrings=True)
