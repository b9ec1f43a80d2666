"""Judging of a model that has learned, by its answers to the dev set."""

from collections.abc import Sequence
from dataclasses import replace

from masking import TaskCodec, TaskModel, Tokenizer, task_codec
from masking.tasks.predictions import Floats
from training.data.examples import ExampleSet
from training.data.features import EncodedExample
from training.distributed import count, gather_shares, share
from training.judging.evaluation import Evaluation, judge
from training.kinds import TRAINING_KINDS
from training.loop.evaluation import predict_logits


def judge_model(
    model: TaskModel,
    codec: TaskCodec,
    source: ExampleSet,
    examples: Sequence[EncodedExample],
    *,
    metric: str,
    max_rows: int,
) -> tuple[TaskCodec, Evaluation]:
    """Judge a model; of several processes each predicts its share.

    Args:
        model: The model; left in evaluation mode.
        codec: The task's codec.
        source: What the examples were made of.
        examples: At least one.
        metric: The metric that chose the epoch.
        max_rows: Rows of a batch at most.

    Returns:
        As `judge_logits`.
    """
    own = predict_logits(model, codec, share(examples), max_rows=max(1, max_rows // count()))
    return judge_logits(model.base.tokenizer, codec, source, examples, gather_shares(own), metric=metric)


def judge_logits(
    tokenizer: Tokenizer,
    codec: TaskCodec,
    source: ExampleSet,
    examples: Sequence[EncodedExample],
    logits: Sequence[Floats],
    *,
    metric: str,
) -> tuple[TaskCodec, Evaluation]:
    """Judge logits, and choose the thresholds of a kind of task that has any.

    Args:
        tokenizer: The base's.
        codec: The task's codec.
        source: What the examples were made of.
        examples: At least one.
        logits: Of each example.
        metric: The metric that chose the epoch.

    Returns:
        The codec, with thresholds where the kind has them, and the evaluation.
    """
    predictions = [codec.decode(one) for one in logits]
    thresholds = TRAINING_KINDS[codec.spec.kind].thresholds([item.target for item in examples], predictions)
    if thresholds:
        codec = task_codec(replace(codec.spec, thresholds=thresholds), tokenizer)
        predictions = [codec.decode(one) for one in logits]
    return codec, judge(codec, source, examples, predictions, metric=metric)
