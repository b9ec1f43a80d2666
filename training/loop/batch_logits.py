"""One batch from features to the logits of each input; used by evaluation and by the server alike."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from masking.base import Tokenizer
from masking.tasks import Features, TaskCodec, collate
from masking.tasks.predictions import Floats


def batch_logits(
    forward: Callable[[dict[str, Tensor]], Tensor],
    codec: TaskCodec,
    features: Sequence[Features],
    *,
    tokenizer: Tokenizer,
    device: torch.device,
) -> list[Floats]:
    """Runs all rows of some inputs as one padded batch.

    Args:
        forward: Logits of a collated batch: [rows, labels], [rows, 1] or [rows, tokens, labels].
        codec: The task's codec.
        features: At least one input.
        tokenizer: The base's tokenizer, for padding.
        device: Where the batch is computed.

    Returns:
        float32 logits of each input: [labels], [choices] or [words, labels].
    """
    rows = [row for item in features for row in item.rows]
    with torch.no_grad():
        logits = forward(collate(rows, tokenizer, device)).float().cpu().numpy()
    results, start = [], 0
    for item in features:
        end = start + len(item.rows)
        results.append(codec.gather(item, list(logits[start:end])))
        start = end
    return results


def token_batches(features: Sequence[Features], max_rows: int) -> list[list[int]]:
    """Groups inputs of similar length, the longest first, so that little is padded.

    Args:
        features: The inputs.
        max_rows: Rows of one batch at most (an input with more rows is a batch by itself).

    Returns:
        Lists of indices into `features` that together hold each index once.
    """
    batches: list[list[int]] = []
    room = 0
    for index in sorted(range(len(features)), key=lambda i: -features[i].longest):
        needed = len(features[index].rows)
        if not batches or needed > room:
            batches.append([])
            room = max_rows
        batches[-1].append(index)
        room -= needed
    return batches
