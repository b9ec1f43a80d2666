"""Mask settings: which blocks are masked, and the one setting that score range, threshold and head make."""

import re

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from mask_store import HeadMode
from masking.errors import BlockOutOfRangeError

_BLOCK_RANGE = re.compile(r"(\d{1,4})(-(\d{0,4}))?")


class MaskSettings(BaseModel):
    """Settings of the masking method (paper, section 3.2).

    Threshold and range of the scores are those of the authors' code, not printed in the paper. Scores
    start uniform in [score_low, score_high); a bit is 1 where its score is at least `threshold`. `score_high`
    follows from the wanted initial sparsity, so range and threshold stay one setting.

    Raises:
        ValidationError: A value is outside its range; a ValueError that lists every mistake.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    blocks: str = Field(
        "2-",
        description="blocks to mask, such as 2-11 or 0,3,8-; an open range runs to the last",
        json_schema_extra={"metavar": "LIST"},
    )
    initial_sparsity: float = Field(
        0.05, gt=0, lt=1, description="share of zeros at the start", json_schema_extra={"metavar": "SHARE"}
    )
    threshold: float = Field(0.01, description="score from which a weight is kept")
    score_low: float = Field(-0.02, description="lowest score at the start", validate_default=True)
    head: HeadMode = Field(
        "masked", description="trained and dense, or the paper's: random, frozen and masked"
    )

    @field_validator("blocks")
    @classmethod
    def _is_list_of_blocks(cls, blocks: str) -> str:
        parse_blocks(blocks)
        return blocks

    @field_validator("score_low")
    @classmethod
    def _below_threshold(cls, score_low: float, info: ValidationInfo) -> float:
        threshold = info.data.get("threshold")
        if threshold is not None and score_low >= threshold:
            raise ValueError(f"must be below the threshold, {threshold}")
        return score_low

    @property
    def score_high(self) -> float:
        """Upper end of the initial scores: (tau - low) / p0 + low, 0.58 for the defaults."""
        return self.score_range + self.score_low

    @property
    def score_range(self) -> float:
        """Width of the range of the initial scores, 0.60 for the defaults."""
        return (self.threshold - self.score_low) / self.initial_sparsity

    def masked_blocks(self, count: int) -> tuple[int, ...]:
        """Return the blocks to mask, ascending, each once.

        Args:
            count: Number of blocks of the encoder.

        Raises:
            BlockOutOfRangeError: The encoder has none of an open range, or lacks a block that is named.
        """
        try:
            blocks = parse_blocks(self.blocks, count - 1)
        except ValueError as error:
            raise BlockOutOfRangeError(f"no block to mask: {error}; 0- is all blocks") from None
        if blocks[-1] >= count:
            raise BlockOutOfRangeError(
                f"this encoder has blocks 0 to {count - 1}; it has no block {blocks[-1]}"
            )
        return blocks


def parse_blocks(text: str, last: int | None = None) -> tuple[int, ...]:
    """Read a list of blocks such as ``2-``, ``2-11`` or ``0,3,8-11``.

    Args:
        text: Blocks and ranges, both ends included, separated by commas; an open range runs to the last
            block.
        last: Number of the encoder's last block; None to check the text alone (open ranges are then left
            out).

    Returns:
        The blocks, ascending, each once.

    Raises:
        ValueError: The text is not such a list, or a range runs backwards; the message says what would be
            right.
    """
    blocks: set[int] = set()
    for part in text.split(","):
        match = _BLOCK_RANGE.fullmatch(part.strip())
        if not match:
            raise ValueError(f"{part!r} is not a block or range; write 2-, 2-11 or 0,3,8-11")
        start, open_end, end = int(match[1]), match[2] == "-", match[3]
        stop = last if open_end else int(end or start)
        if stop is not None and stop < start:
            if open_end:
                raise ValueError(f"there is no block {start}: the last block is {last}")
            raise ValueError(f"the range {part.strip()!r} runs backwards")
        blocks.update(range(start, (start if stop is None else stop) + 1))
    return tuple(sorted(blocks))
