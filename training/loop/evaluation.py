"""Evaluation: logits, predictions and dev metrics of a model that learns, or of masks as they are served."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mask_store import MaskBundle
from masking import (
    Base,
    Features,
    LabelsPrediction,
    LoadedTask,
    MaskedEncoder,
    Prediction,
    TaskBatch,
    TaskCodec,
    TaskModel,
    Tokenizer,
    collate,
    load_task,
)
from masking.inference import ResidentWeights
from masking.tasks.predictions import Floats
from masking.tasks.text_scores import predict_labels
from training.data.features import EncodedExample
from training.kinds import TRAINING_KINDS


def evaluate(
    model: TaskModel, codec: TaskCodec, examples: Sequence[EncodedExample], *, max_rows: int
) -> dict[str, float]:
    """Measure a model.

    Args:
        model: The model; left in evaluation mode.
        codec: The task's codec.
        examples: At least one.
        max_rows: Rows of a batch at most.

    Returns:
        Every metric of the task's kind by name.
    """
    return measure(codec, examples, predict(model, codec, examples, max_rows=max_rows))


def measure(
    codec: TaskCodec, examples: Sequence[EncodedExample], predictions: Sequence[Prediction]
) -> dict[str, float]:
    """Measure predictions; where a task's thresholds are still to be chosen, with those that fit them best.

    Args:
        codec: The task's codec.
        examples: At least one.
        predictions: A prediction for each.

    Returns:
        Every metric of the task's kind by name.
    """
    kind, spec = TRAINING_KINDS[codec.spec.kind], codec.spec
    truth = [item.target for item in examples]
    if not spec.thresholds and (thresholds := kind.thresholds(truth, predictions)):
        found = [one for one in predictions if isinstance(one, LabelsPrediction)]
        predictions = [predict_labels(one.logits, spec.labels, thresholds) for one in found]
    return kind.measure(spec.labels, truth, predictions, [item.example.input for item in examples])


def predict(
    model: TaskModel, codec: TaskCodec, examples: Sequence[EncodedExample], *, max_rows: int
) -> list[Prediction]:
    """Predict examples; returns a prediction each, in their order."""
    return [codec.decode(logits) for logits in predict_logits(model, codec, examples, max_rows=max_rows)]


def predict_logits(
    model: TaskModel, codec: TaskCodec, examples: Sequence[EncodedExample], *, max_rows: int
) -> list[Floats]:
    """Compute logits in batches of similar length.

    Args:
        model: The model; left in evaluation mode.
        codec: The task's codec.
        examples: The examples.
        max_rows: Rows of a batch at most.

    Returns:
        float32 logits of each example, in their order: [labels], [choices] or [words, labels].
    """
    model.eval()
    base = model.base

    def compute(batch: Sequence[Features]) -> list[Floats]:
        return batch_logits(model, codec, batch, tokenizer=base.tokenizer, device=base.device)

    with model.cached():
        return in_batches([item.features for item in examples], max_rows, compute)


def served_logits(
    bundle: MaskBundle,
    base: Base,
    examples: Sequence[EncodedExample],
    *,
    max_rows: int,
    weights: ResidentWeights | None = None,
) -> list[Floats]:
    """Compute what a server computes.

    Args:
        bundle: The task's masks.
        base: The encoder that they were learned on.
        examples: At least one, encoded for the task.
        max_rows: Rows of a batch at most.
        weights: The encoder's layers in a precision; without, in fp32.

    Returns:
        float32 logits of each example, in their order: [labels], [choices] or [words, labels]. Those of an
        ensemble are combined.
    """
    features = [item.features for item in examples]
    return features_logits(bundle, base, features, max_rows=max_rows, weights=weights)


def features_logits(
    bundle: MaskBundle,
    base: Base,
    features: Sequence[Features],
    *,
    max_rows: int,
    weights: ResidentWeights | None = None,
) -> list[Floats]:
    """Compute what a server computes for inputs that may have no answers; see `served_logits`."""
    task, encoder = load_task(bundle, base, weights), MaskedEncoder(base, weights)
    return task_logits(task, encoder, features, max_rows=max_rows)


def task_logits(
    task: LoadedTask, encoder: MaskedEncoder, features: Sequence[Features], *, max_rows: int
) -> list[Floats]:
    """Compute the logits of a loaded task's inputs; see `served_logits`."""

    def compute(batch: Sequence[Features]) -> list[Floats]:
        return encoder.logits([TaskBatch(task, batch)])[0]

    return in_batches(features, max_rows, compute)


def batch_logits(
    forward: Callable[[dict[str, Tensor]], Tensor],
    codec: TaskCodec,
    features: Sequence[Features],
    *,
    tokenizer: Tokenizer,
    device: torch.device,
) -> list[Floats]:
    """Compute the rows of some inputs as one padded batch.

    Args:
        forward: Logits of a collated batch: [rows, labels], [rows, 1] or [rows, tokens, labels];
            of embeddings [rows, hidden].
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
    """Group inputs of similar length, the longest first, so that little is padded.

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


def in_batches(
    features: Sequence[Features], max_rows: int, compute: Callable[[Sequence[Features]], Sequence[Floats]]
) -> list[Floats]:
    """Compute the logits of inputs in batches of similar length.

    Args:
        features: The inputs.
        max_rows: Rows of a batch at most.
        compute: Returns the logits of each input of a batch.

    Returns:
        float32 logits of each input, in their order.
    """
    found: dict[int, Floats] = {}
    for batch in token_batches(features, max_rows):
        found.update(zip(batch, compute([features[i] for i in batch]), strict=True))
    return [found[index] for index in range(len(features))]
