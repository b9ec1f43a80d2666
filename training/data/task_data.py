"""Task data: the labelled data of one run, read, checked, and encoded."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from masking import TaskCodec, TaskSpec
from training.data.columns import choose_columns, describe_columns, unused_texts
from training.data.examples import ExampleSet, judge, learn_labels, read_examples, settle
from training.data.features import EncodedExample, encode_examples
from training.data.rows import RowSet, data_digest
from training.data.signs import describe_labels, describe_values, signs_of_wrong_data
from training.data.sources import lacks_split, read_dataset, read_files
from training.data.split import split_examples
from training.errors import DataError
from training.kinds import TRAINING_KINDS, Columns, Judgement
from training.kinds.fields import joined
from training.options import DEFAULT_SHARE, LearnOptions, Role

_SHOWN_COLUMNS = 5
_VALIDATION = "validation"


@dataclass(frozen=True)
class TaskData:
    """Labelled data of a task.

    Attributes:
        train: Examples to learn from.
        dev: Examples to choose the best epoch by.
        labels: The task's labels by index, or names of its values; empty for multiple choice.
        columns: Column of each role.
        judgement: What targets mean.
        digest: ``sha256:<hex>`` over every row as read.
        held_share: Share of the rows to learn from that is kept as dev; None where dev was read.
        notes: What was found out about the data, a sentence each.
        warnings: What looks wrong, a sentence each.
    """

    train: ExampleSet
    dev: ExampleSet
    labels: tuple[str, ...]
    columns: Columns
    judgement: Judgement
    digest: str
    held_share: float | None = None
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def spec(self, options: LearnOptions) -> TaskSpec:
        """Return the task's spec."""
        pair = "pair" in self.columns
        return TaskSpec(options.kind, self.labels, max_length=options.max_length, pair=pair)


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
    def of(cls, data: TaskData, codec: TaskCodec, options: LearnOptions) -> "EncodedData":
        """Encode all examples with the task's codec.

        Raises:
            DataError: A set has no word that is not cut off.
        """
        train, dev = (
            encode_examples(examples, codec, long_sentences=options.long_sentences)
            for examples in (data.train, data.dev)
        )
        for examples, encoded in ((data.train, train), (data.dev, dev)):
            if not encoded:
                raise DataError(f"{examples.source}: every word is cut off: give a larger --max-length")
        return cls(train, dev)


def load_data(options: LearnOptions) -> TaskData:
    """Read and check the data that the options name.

    Raises:
        DataError: A file, a column or the labels can't be used; see the subclasses in `training.errors`.
    """
    row_sets = _read(options)
    columns = choose_columns(options.kind, options.columns, row_sets)
    read = [read_examples(rows, options.kind, columns) for rows in row_sets]
    judgement = judge(options.kind, read, options.missing_label, options.separator_character)
    settled = [settle(examples, judgement) for examples in read]
    notes: list[str] = []
    share = None
    if len(settled) == 1:
        share = options.held_share or DEFAULT_SHARE
        train, dev = split_examples(settled[0], share, options.split_seed)
        notes = [_describe_split(settled[0], dev, share, options)]
    else:
        train, dev = settled
    kind = TRAINING_KINDS[options.kind]
    labels = learn_labels(options.kind, train, dev) or kind.value_names(columns)
    notes += [note for rows in row_sets for note in _named(rows.source, rows.notes)]
    notes += [describe_columns(columns), *judgement.notes]
    if labels:
        notes.append(describe_labels(train) if kind.has_classes else describe_values(train, labels))
    warnings = [warning for rows in row_sets for warning in _named(rows.source, rows.warnings)]
    warnings += [*_unused(row_sets[0], columns), *judgement.warnings]
    warnings += signs_of_wrong_data(options.kind, train, dev)
    digest, told = data_digest(*row_sets), (tuple(dict.fromkeys(some)) for some in (notes, warnings))
    return TaskData(train, dev, labels, columns, judgement, digest, share, *told)


def _read(options: LearnOptions) -> list[RowSet]:
    """Read the rows to learn from, and those to check with where they are not to be split off."""
    encoding, delimiter = options.encoding, options.delimiter_character
    if options.dataset:
        splits = [options.train_split, options.dev_split or _VALIDATION]
        if options.held_share or (not options.dev_split and lacks_split(options.dataset, _VALIDATION)):
            del splits[1]
        return [
            read_dataset(options.dataset, split, encoding=encoding, delimiter=delimiter) for split in splits
        ]
    files = [paths for paths in (options.train, options.dev) if paths]
    return [read_files(paths, encoding=encoding, delimiter=delimiter) for paths in files]


def _describe_split(read: ExampleSet, dev: ExampleSet, share: float, options: LearnOptions) -> str:
    """Say which rows are kept to choose by, and how to have others."""
    other = "--dev-split" if options.dataset else "--dev"
    why = "" if options.validation_share else f", as there is no {other}"
    return (
        f"{read.source}: {len(dev.examples)} of {len(read.examples)} rows are kept to choose the epoch "
        f"by{why}: {share:.3g} of each label, the same for every --seed (--validation-share {share:g} "
        f"--split-seed {options.split_seed})"
    )


def _named(source: str, sentences: Sequence[str]) -> Iterator[str]:
    return (f"{source}: {sentence}" for sentence in sentences)


def _unused(rows: RowSet, columns: Columns) -> Iterator[str]:
    """Tell of columns of text that are not used, and how one makes pairs."""
    names = unused_texts(rows, columns)
    role: Role = "pair"
    if names:
        listed = joined([repr(name) for name in names], _SHOWN_COLUMNS)
        single = "text" in columns and role not in columns
        hint = f"; for pairs of texts name one with --{role}-column" if single else ""
        yield f"{rows.source}: not used, though there is text in it: {listed}{hint}"
