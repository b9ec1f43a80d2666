"""Task data: the labelled data of one run, read, checked, and encoded."""

from collections.abc import Sequence
from dataclasses import dataclass

from masking import TaskCodec, TaskSpec
from training.data.examples import ExampleSet, choose_columns, learn_labels, read_examples
from training.data.features import EncodedExample, encode_examples
from training.data.rows import RowSet, data_digest, read_dataset, read_file
from training.options import LearnOptions


@dataclass(frozen=True)
class TaskData:
    """Labelled data of a task.

    Attributes:
        train: Examples to learn from.
        dev: Examples to choose the best epoch by.
        labels: The task's labels by index; empty for multiple choice.
        pair: Whether the inputs are pairs of texts.
        digest: ``sha256:<hex>`` over every row as read.
    """

    train: ExampleSet
    dev: ExampleSet
    labels: tuple[str, ...]
    pair: bool
    digest: str

    def spec(self, options: LearnOptions) -> TaskSpec:
        """Return the task's spec."""
        return TaskSpec(options.kind, self.labels, max_length=options.max_length, pair=self.pair)


@dataclass(frozen=True)
class EncodedData:
    """A task's examples as features.

    Attributes:
        train: Examples to learn from.
        dev: Examples to choose the best epoch by.
    """

    train: Sequence[EncodedExample]
    dev: Sequence[EncodedExample]

    @classmethod
    def of(cls, data: TaskData, codec: TaskCodec) -> "EncodedData":
        """Encode all examples with the task's codec."""
        return cls(encode_examples(data.train, codec), encode_examples(data.dev, codec))


def load_data(options: LearnOptions) -> TaskData:
    """Read and check the data that the options name.

    Raises:
        DataError: A file, a column or the labels can't be used; see the subclasses in `training.errors`.
    """
    train_rows, dev_rows = _read(options)
    columns = choose_columns(options.kind, options.columns, (train_rows, dev_rows))
    train = read_examples(train_rows, options.kind, columns)
    dev = read_examples(dev_rows, options.kind, columns)
    labels = learn_labels(options.kind, train, dev)
    return TaskData(train, dev, labels, "pair" in columns, data_digest(train_rows, dev_rows))


def _read(options: LearnOptions) -> tuple[RowSet, RowSet]:
    if options.dataset:
        return (
            read_dataset(options.dataset, options.train_split),
            read_dataset(options.dataset, options.dev_split),
        )
    return read_file(options.train or ""), read_file(options.dev or "")
