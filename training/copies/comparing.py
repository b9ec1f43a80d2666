"""Comparing of a finetuned copy and the task made of it, and judging of the task where answers are known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from mask_store import MaskBundle
from masking import Base, MaskedEncoder, TaskCodec, TaskSpec, load_task, task_codec
from masking.checkpoints import FinetunedCopy
from masking.tasks.predictions import Floats
from training.copies.copied_text import Agreement, CopiedText, copy_logits, encode, target_numbers
from training.data.examples import Example, ExampleSet
from training.data.features import EncodedExample
from training.judging.evaluation import Evaluation, judge
from training.kinds import BASE_ALONE, TRAINING_KINDS, Baseline
from training.loop.evaluation import measure, task_logits

MAX_ROWS = 32
"""Rows of a batch."""


@dataclass(frozen=True)
class Comparison:
    """A copy and the task made of it, on some text.

    Attributes:
        source: The text.
        agreement: Of their answers.
        copy_metrics: Of the copy; empty where the text has no answers.
        task_metrics: Of the task.
    """

    source: str
    agreement: Agreement
    copy_metrics: Mapping[str, float] = field(default_factory=dict)
    task_metrics: Mapping[str, float] = field(default_factory=dict)

    def lines(self) -> dict[str, str]:
        """Return the lines of a report by their first words."""
        return {"agreement": f"{self.agreement}, on {self.source}"} | {
            name: f"{value:.4f} the copy, {self.task_metrics[name]:.4f} the task"
            for name, value in self.copy_metrics.items()
        }


def compare(
    bundle: MaskBundle, copied: FinetunedCopy, base: Base, spec: TaskSpec, text: CopiedText
) -> tuple[Comparison, MaskBundle]:
    """Compare a copy and the task made of it.

    Args:
        bundle: The task.
        copied: The copy.
        base: The base.
        spec: The task as the copy answers it.
        text: Inputs, with answers or without.

    Returns:
        What was found, and the bundle: of inputs with answers its manifest says how it answered them.
    """
    codec, own = (task_codec(one, base.tokenizer) for one in (spec, TaskSpec.of(bundle.manifest)))
    wanted = copy_logits(copied, base, codec, encode(text, codec))
    task, encoder = load_task(bundle, base), MaskedEncoder(base)
    features = encode(text, own)
    found = task_logits(task, encoder, features, max_rows=MAX_ROWS)
    agreement = Agreement.of(spec.kind, wanted, found)
    if text.targets is None:
        return Comparison(text.source, agreement), bundle
    kind, truth = TRAINING_KINDS[spec.kind], target_numbers(text, spec.kind, spec.labels)
    of_copy = kind.measure(spec.labels, truth, [codec.decode(one) for one in wanted], text.inputs)
    examples = [
        EncodedExample(Example(line, *row[:2]), *row[2:])
        for line, row in enumerate(zip(text.inputs, text.targets, features, truth, strict=True), 1)
    ]
    evaluation = _judge(own, text.source, examples, found)
    if spec.pooling is not None:
        bare = task_logits(task.bare(), encoder, features, max_rows=MAX_ROWS)
        alone = measure(own, examples, [own.decode(one) for one in bare])[evaluation.metric]
        evaluation = evaluation.beside(Baseline(alone, BASE_ALONE))
    of_task = evaluation.metrics
    return Comparison(text.source, agreement, of_copy, of_task), bundle.evaluated(of_task, evaluation.info())


def _judge(
    codec: TaskCodec, source: str, examples: Sequence[EncodedExample], logits: Sequence[Floats]
) -> Evaluation:
    rows = ExampleSet(source, "row", tuple(one.example for one in examples), ())
    metric = TRAINING_KINDS[codec.spec.kind].choose_metric(codec.spec.labels, None)
    return judge(codec, rows, examples, [codec.decode(one) for one in logits], metric=metric)
