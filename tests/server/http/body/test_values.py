import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import BodyTooLargeError
from server.http.body import check_values, values

TEXTS = st.text('",:[{}]\\é \n', max_size=12)
JSON = st.recursive(
    st.none() | st.integers() | TEXTS,
    lambda one: st.lists(one, max_size=8) | st.dictionaries(TEXTS, one, max_size=8),
    max_leaves=40,
)


def accepts(text: bytes, most: int) -> bool:
    try:
        check_values(text, most)
    except BodyTooLargeError:
        return False
    return True


def count(value: Any) -> int:
    """Commas, colons and opening brackets outside of texts."""
    if isinstance(value, dict):
        return 1 + max(0, len(value) - 1) + sum(1 + count(item) for item in value.values())
    if isinstance(value, list):
        return 1 + max(0, len(value) - 1) + sum(count(item) for item in value)
    return 0


@given(JSON, st.integers(2, 9), st.booleans())
def test_values_are_counted_outside_of_texts(value: object, piece: int, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only).encode()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(values, "_PIECE", piece)
        counted = count(value)
        assert accepts(text, counted)
        assert counted == 0 or not accepts(text, counted - 1)


@pytest.mark.parametrize("unit", [b"0", b'"ab"', b"[]", b"{}", b'{"a":0}', b"[[[]]]", b'["ab"]'])
def test_no_kind_of_value_is_free(unit: bytes) -> None:
    assert not accepts(b"[" + b",".join([unit] * 1001) + b"]", 1000)


@pytest.mark.parametrize(
    "text",
    [b'"' + b", " * 500_000 + b'"', b'["' + rb"\"," * 500_000 + b'"]', b'["' + rb"\\" * 500_000 + b'"]'],
    ids=["commas", "quotes", "backslashes"],
)
def test_a_long_text_is_one_value(text: bytes) -> None:
    assert accepts(text, 1)


@pytest.mark.parametrize("text", [b"\\" * 1000, b'"' + b"\\" * 1001, b'"' * 1001, b'"\\'])
def test_what_is_no_json_is_left_to_the_parser(text: bytes) -> None:
    assert accepts(text, 1)
