"""Combining rules: models of one task measured together, by each rule (paper, section 5.3)."""

from collections.abc import Mapping, Sequence

from mask_store import WITHOUT_CLASSES, CombineRule, MaskBundle
from masking import TaskCodec
from masking.inference.combine import combine_logits
from masking.tasks.predictions import Floats
from training.data.features import EncodedExample
from training.loop.evaluation import measure, served_logits
from training.runs.preparation import Preparation

RULES: tuple[CombineRule, ...] = ("probabilities", "logits", "labels")  # the first of equals is chosen


def member_logits(ready: Preparation, members: Sequence[MaskBundle]) -> list[list[Floats]]:
    """Compute the dev set with each mask, as it is served.

    Args:
        ready: The task.
        members: A bundle for each mask.

    Returns:
        By member, the logits of each dev example.
    """
    dev, rows = ready.encoded.dev, ready.options.batch_size
    return [served_logits(member, ready.base, dev, max_rows=rows) for member in members]


def measure_together(
    codec: TaskCodec, examples: Sequence[EncodedExample], logits: Sequence[Sequence[Floats]]
) -> dict[CombineRule, dict[str, float]]:
    """Measure models together, by each rule.

    Args:
        codec: The task's codec.
        examples: At least one.
        logits: By model, the logits of each example.

    Returns:
        Every metric of the task's kind by name, by rule; by the logits alone for kinds without classes.
    """
    rules = ("logits",) if codec.spec.kind in WITHOUT_CLASSES else RULES
    return {
        rule: measure(codec, examples, [codec.decode(one) for one in combine(logits, rule)]) for rule in rules
    }


def combine(members: Sequence[Sequence[Floats]], rule: CombineRule) -> list[Floats]:
    """Combine the logits of several models example by example.

    Args:
        members: By model, the logits of each example.
        rule: How they are combined.
    """
    return [combine_logits(rule, logits) for logits in zip(*members, strict=True)]


def choose_rule(rules: Mapping[CombineRule, Mapping[str, float]], metric: str) -> CombineRule:
    """Return the rule with the best value of a metric; of equals the first in the order of `RULES`."""
    return max((rule for rule in RULES if rule in rules), key=lambda rule: rules[rule][metric])
