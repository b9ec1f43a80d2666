import pytest

from mask_store import HeaderError, MaskStoreError, escape_controls, one_line
from mask_store.messages import LONGEST_MESSAGE


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("plain, ü, 日本, 🙂", "plain, ü, 日本, 🙂"),
        ("a\nb\r\tc", r"a\nb\r\tc"),
        ("\x1b[2J\x00\x7f\x85", r"\x1b[2J\x00\x7f\x85"),
        ("\u2028 and \u202e", r"\u2028 and \u202e"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, escaped: str) -> None:
    assert escape_controls(text) == one_line(text) == escaped


@pytest.mark.parametrize("text", ["x" * 501, "\n" * 400, "\U000e0001" * 10_000, "x" * 10_000_000])
def test_a_line_has_a_longest_length(text: str) -> None:
    line = one_line(text)
    assert len(line) == LONGEST_MESSAGE
    assert line.endswith("...")
    assert line.isprintable()


def test_every_error_of_the_package_is_such_a_line() -> None:
    error = HeaderError("tensor 'x\n2026 forged\ud800" + "y" * 1000)
    assert isinstance(error, MaskStoreError)
    assert str(error).encode().decode() == one_line(str(error))
    assert str(error).startswith(r"tensor 'x\n2026 forged\ud800yyy")
