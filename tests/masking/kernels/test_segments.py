import pytest
from hypothesis import given
from hypothesis import strategies as st

from masking.kernels import Segments
from masking.kernels.segments import tile_table


def test_bounds() -> None:
    segments = Segments.of_lengths([3, 1])
    assert segments.bounds == (0, 3, 4)
    assert (segments.tokens, len(segments), list(segments.spans())) == (4, 2, [(0, 3), (3, 4)])


@pytest.mark.parametrize("bounds", [(), (1, 2), (0, 2, 2), (0, 3, 2)])
def test_bounds_that_do_not_ascend_from_0(bounds: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="must ascend from 0"):
        Segments(bounds)


@given(st.lists(st.integers(1, 50), max_size=8), st.integers(1, 9))
def test_tiles_cover_each_segment_evenly(lengths: list[int], most: int) -> None:
    segments = Segments.of_lengths(lengths)
    table = tile_table(segments, most).rows.tolist()
    assert [token for first, count, _ in table for token in range(first, first + count)] == list(
        range(segments.tokens)
    )
    for index, (start, end) in enumerate(segments.spans()):
        counts = [count for _, count, segment in table if segment == index]
        assert sum(counts) == end - start
        assert max(counts) <= most
        assert max(counts) - min(counts) <= 1


def test_part() -> None:
    segments = Segments.of_lengths([3, 1, 5])
    assert segments.part(1, 3).bounds == (0, 1, 6)
    assert segments.part(0, 3) is segments
    assert segments.part(1, 3) is segments.part(1, 3)


def test_what_is_kept_lives_with_its_own_segments() -> None:
    segments, equal = Segments.of_lengths([3, 1]), Segments.of_lengths([3, 1])
    assert segments.keep("key", lambda: 1) == segments.keep("key", lambda: 2) == 1
    assert equal.keep("key", lambda: 2) == 2
    assert segments == equal
