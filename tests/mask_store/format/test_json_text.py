from typing import Any

import pytest

from mask_store import BundleTooLargeError, Limits
from mask_store.format.json_text import parse_json


def parse(text: str, *, fields: int = 3, values: int = 100) -> Any:
    return parse_json(text, Limits(values=values, objects=100), fields=fields)


def test_reads_what_a_bundle_holds() -> None:
    text = '{"a":[1,-9223372036854775807,0.5,1e-05],"b":{"c":null,"d":true},"e":"\\u00fc"}'
    assert parse(text) == {"a": [1, -(2**63) + 1, 0.5, 1e-05], "b": {"c": None, "d": True}, "e": "ü"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "found an error at character 0"),
        ('{"a":1', "at character 6"),
        ('{"a":1}x', "at character 7"),
        ("[NaN]", "finite numbers, found NaN"),
        ('{"a":-Infinity}', "found -Infinity"),
        ("1" * 21, "integers of 64 bits, found one of 21 digits"),
        ("-" + "9" * 100_000, "found one of 100001 digits"),
        ('{"a":1,"a":1}', "a name that occurs twice"),
        ('[{"b":{"a":1,"c":2,"a":1}}]', "a name that occurs twice"),
        ('{"a":1,"b":2,"c":3,"d":4}', "at most 3 fields in an object, found 4"),
    ],
)
def test_refuses(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse(text)


def test_refuses_deep_nesting() -> None:
    with pytest.raises(ValueError, match="nested too deep"):
        parse("[" * 100_000 + "]" * 100_000, values=1_000_000)


@pytest.mark.parametrize(
    ("text", "limit"), [("[" * 101, "values"), ("[" + "1," * 100 + "1]", "values"), ("{" * 101, "objects")]
)
def test_refuses_more_than_the_limits_before_it_parses(text: str, limit: str) -> None:
    with pytest.raises(BundleTooLargeError, match=f"over the {limit} limit of 100 {limit}"):
        parse(text)
