from typing import Any

import pytest

from masking import BlockOutOfRangeError, MaskSettings
from masking.learning.settings import parse_blocks


def test_the_papers_setting_is_the_default() -> None:
    settings = MaskSettings()
    assert settings.threshold == 0.01
    assert settings.score_low == -0.02
    assert settings.score_high == pytest.approx(0.58)
    assert settings.score_range == pytest.approx(0.6)
    assert settings.head == "masked"


def test_blocks_default_to_the_third_and_up() -> None:
    assert MaskSettings().masked_blocks(12) == tuple(range(2, 12))
    assert MaskSettings(blocks="5,3,3").masked_blocks(12) == (3, 5)


@pytest.mark.parametrize(
    ("settings", "available", "said"),
    [
        (MaskSettings(blocks="12"), 12, "0 to 11"),
        (MaskSettings(blocks="0,12"), 12, "no block 12"),
        (MaskSettings(), 2, "no block to mask"),
    ],
)
def test_blocks_outside_the_encoder(settings: MaskSettings, available: int, said: str) -> None:
    with pytest.raises(BlockOutOfRangeError, match=said):
        settings.masked_blocks(available)


@pytest.mark.parametrize("sparsity", [0.01, 0.05, 0.5, 0.95])
def test_score_high_gives_the_wanted_share_of_zeros(sparsity: float) -> None:
    settings = MaskSettings(initial_sparsity=sparsity)
    share = (settings.threshold - settings.score_low) / (settings.score_high - settings.score_low)
    assert share == pytest.approx(sparsity)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"initial_sparsity": 0.0}, "initial_sparsity"),
        ({"initial_sparsity": 1.0}, "initial_sparsity"),
        ({"initial_sparsity": float("nan")}, "initial_sparsity"),
        ({"score_low": 0.5}, "score_low"),
        ({"threshold": float("inf")}, "threshold"),
        ({"head": "random"}, "head"),
        ({"threshold": -0.5}, "score_low"),
        ({"blocks": "-1"}, "blocks"),
        ({"blocks": "2-x"}, "blocks"),
        ({"score_init": "magnitude"}, "score_init"),
    ],
)
def test_a_wrong_value_is_named(arguments: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        MaskSettings(**arguments)


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("2-", (2, 3, 4, 5)),
        ("0-2", (0, 1, 2)),
        ("5", (5,)),
        ("4-,0, 2-2,0", (0, 2, 4, 5)),
    ],
)
def test_blocks(text: str, blocks: tuple[int, ...]) -> None:
    assert parse_blocks(text, 5) == blocks


@pytest.mark.parametrize("text", ["", "a", "-3", "1--2", "3-1", "6-", "1,,2", "99999"])
def test_lists_of_blocks_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match=r"is not a block or range|runs backwards|there is no block 6"):
        parse_blocks(text, 5)
