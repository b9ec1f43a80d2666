"""Dev metrics of a model that is learning, or of masks as they are served, by the code that serves them."""

from collections.abc import Sequence

from mask_store import MaskBundle
from masking import (
    Base,
    MaskedEncoder,
    Prediction,
    TaskBatch,
    TaskCodec,
    TaskModel,
    WordsPrediction,
    load_task,
)
from masking.tasks.predictions import Floats
from training.data.features import EncodedExample
from training.kinds.metrics import measure_classes, measure_words
from training.loop.batch_logits import batch_logits, token_batches


def evaluate(
    model: TaskModel, codec: TaskCodec, examples: Sequence[EncodedExample], *, max_rows: int
) -> dict[str, float]:
    """Measure a model.

    Args:
        model: the model; left in evaluation mode.
        codec: the task's codec.
        examples: at least one.
        max_rows: rows of a batch at most.

    Returns:
        Every metric of the task's kind by name.
    """
    return measure(codec, examples, predict(model, codec, examples, max_rows=max_rows))


def measure(
    codec: TaskCodec, examples: Sequence[EncodedExample], predictions: Sequence[Prediction]
) -> dict[str, float]:
    """Measure predictions.

    Args:
        codec: the task's codec.
        examples: at least one.
        predictions: a prediction for each.

    Returns:
        Every metric of the task's kind by name.
    """
    kind, labels = codec.spec.kind, codec.spec.labels
    if kind == "token-classification":
        truth = [[labels[index] for index in item.target] for item in examples]
        words = [list(p.labels) for p in predictions if isinstance(p, WordsPrediction)]
        return measure_words(labels, truth, words)
    names = [str(item.example.target) for item in examples]
    return measure_classes(kind, names, [p.label for p in predictions if not isinstance(p, WordsPrediction)])


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
        model: the model; left in evaluation mode.
        codec: the task's codec.
        examples: the examples.
        max_rows: rows of a batch at most.

    Returns:
        float32 logits of each example, in their order: [labels], [choices] or [words, labels].
    """
    model.eval()
    features = [item.features for item in examples]
    results: dict[int, Floats] = {}
    base = model.base
    with model.cached():
        for batch in token_batches(features, max_rows):
            chosen = [features[i] for i in batch]
            logits = batch_logits(model, codec, chosen, tokenizer=base.tokenizer, device=base.device)
            results.update(zip(batch, logits, strict=True))
    return [results[index] for index in range(len(features))]


def served_logits(
    bundle: MaskBundle, base: Base, examples: Sequence[EncodedExample], *, max_rows: int
) -> list[Floats]:
    """Compute what a server computes.

    Args:
        bundle: the task's masks.
        base: the encoder that they were learned on.
        examples: at least one, encoded for the task.
        max_rows: rows of a batch at most.

    Returns:
        float32 logits of each example, in their order: [labels], [choices] or [words, labels]. Those of an
        ensemble are combined.
    """
    task, encoder = load_task(bundle, base), MaskedEncoder(base)
    features = [item.features for item in examples]
    found: dict[int, Floats] = {}
    for batch in token_batches(features, max_rows):
        (logits,) = encoder.logits([TaskBatch(task, [features[i] for i in batch])])
        found.update(zip(batch, logits, strict=True))
    return [found[index] for index in range(len(features))]
