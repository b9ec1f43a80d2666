"""JSON text of others: parsing with limits on what a few bytes may ask for.

A value takes some tens of times its text in memory, and an integer of thousands of digits, or an object with
a field twice, has no place in a bundle.
"""

import json
from functools import partial
from typing import Any

from mask_store.format.limits import Limits

_LONGEST_INTEGER = 20  # characters: the longest integer of 64 bits, with its sign


def parse_json(text: str, limits: Limits, *, fields: int) -> Any:
    """Parse JSON strictly.

    Args:
        text: The JSON.
        limits: Say how many values and objects it may have.
        fields: How many fields an object in it may have.

    Raises:
        BundleTooLargeError: If it may have too many of either.
        ValueError: If it is not JSON, holds NaN, infinity or an integer of more than 64 bits, or has an
            object with a field twice or with too many fields.
    """
    check_json(text, limits)
    try:
        return json.loads(
            text, object_pairs_hook=partial(_object, fields), parse_int=_integer, parse_constant=_constant
        )
    except RecursionError:
        raise ValueError("expected JSON, found one that is nested too deep") from None
    except json.JSONDecodeError as error:
        raise ValueError(f"expected JSON, found an error at character {error.pos}: {error.msg}") from None


def check_json(text: str, limits: Limits) -> None:
    """Refuse JSON that may have too many values or objects.

    Raises:
        BundleTooLargeError: Names the limit.
    """
    limits.check("values", "JSON", text.count(",") + text.count("["), unit="values")
    limits.check("objects", "JSON", text.count("{"), unit="objects")


def _object(limit: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > limit:
        raise ValueError(f"expected at most {limit} fields in an object, found {len(pairs)}")
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("expected each name once in an object, found a name that occurs twice")
    return fields


def _integer(digits: str) -> int:
    if len(digits) > _LONGEST_INTEGER:
        raise ValueError(f"expected integers of 64 bits, found one of {len(digits)} digits")
    return int(digits)


def _constant(name: str) -> float:
    raise ValueError(f"expected finite numbers, found {name}")
