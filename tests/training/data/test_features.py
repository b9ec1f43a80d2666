from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from mask_store import TaskKind
from masking import Base, Features, TaskInput, TaskSpec, TextInput, WordsInput, task_codec
from tests.support.learning_data import ROWS
from training.data.columns import choose_columns
from training.data.examples import Example, ExampleSet, judge, learn_labels, read_examples, settle
from training.data.features import EncodedExample, encode_examples, make_batch
from training.data.rows import Row, RowSet
from training.errors import DataError
from training.kinds import IGNORED, TRAINING_KINDS, Target


def _set(*examples: tuple[TaskInput, Target]) -> ExampleSet:
    numbered = tuple(Example(number, *example) for number, example in enumerate(examples, start=1))
    return ExampleSet("train.jsonl", "line", numbered, ())


def _made_up(base: Base, kind: TaskKind, count: int = 6) -> Sequence[EncodedExample]:
    rows = RowSet("train.jsonl", "line", tuple(Row(i, row) for i, row in enumerate(ROWS[kind](count))))
    read = read_examples(rows, kind, choose_columns(kind, {}, (rows,)))
    examples = settle(read, judge(kind, (read,), None))
    labels = learn_labels(kind, examples, examples) or TRAINING_KINDS[kind].value_names({"label": "score"})
    spec = TaskSpec(kind, labels, max_length=32, pair=kind == "reranking")
    return encode_examples(examples, task_codec(spec, base.tokenizer))


def test_labels_become_indices_and_long_texts_are_cut(base: Base) -> None:
    codec = task_codec(TaskSpec("sequence-classification", ("a", "b"), max_length=8), base.tokenizer)
    short, long = encode_examples(_set((TextInput("good"), "b"), (TextInput("good " * 20), "a")), codec)
    assert (short.target, long.target) == ((1,), (0,))
    assert (short.features.truncated, long.features.truncated) == (False, True)
    assert long.features.tokens == 8


@pytest.mark.parametrize("kind", ["sequence-classification", "token-classification", "multiple-choice"])
def test_probabilities_of_0_and_1_are_learned_as_right_answers(base: Base, kind: TaskKind) -> None:
    examples = _made_up(base, kind)
    labels = 1 + max(max(item.target) for item in examples)
    if kind == "multiple-choice":
        examples = [replace(examples[0], features=Features(examples[0].features.rows * 2)), *examples[1:]]

    def soft(item: EncodedExample) -> EncodedExample:
        classes = len(item.features.rows) if kind == "multiple-choice" else labels
        hot = functional.one_hot(torch.tensor(item.target), classes).float()
        return replace(item, soft=hot if kind == "token-classification" else hot[0])

    hard, probable = (
        make_batch(some, kind, base.tokenizer) for some in (examples, [soft(item) for item in examples])
    )
    shape = hard.inputs["input_ids"].shape
    classes = {"sequence-classification": (shape[0], labels), "multiple-choice": (shape[0], 1)}
    logits = torch.randn(classes.get(kind, (*shape, labels)), generator=torch.Generator().manual_seed(0))
    losses = [
        TRAINING_KINDS[kind].loss(logits, one.targets, one.counts, one.total) for one in (hard, probable)
    ]
    torch.testing.assert_close(*losses)


def test_an_input_that_the_codec_refuses_is_told_by_line(base: Base) -> None:
    codec = task_codec(TaskSpec("sequence-classification", ("a", "b"), max_length=8), base.tokenizer)
    with pytest.raises(DataError, match=r"train\.jsonl:2: "):
        encode_examples(_set((TextInput("good"), "a"), (TextInput("good", "pair"), "a")), codec)


def test_a_word_is_labelled_at_its_last_wordpiece_in_one_window(base: Base) -> None:
    codec = task_codec(TaskSpec("token-classification", ("O", "X"), max_length=8), base.tokenizer)
    words = ("good", "goodxy", "bad", "film", "movie", "plot", "acting", "it")
    item = encode_examples(_set((WordsInput(words), ("X", *["O"] * 6, "X"))), codec)[0]
    batch = make_batch([item, item], "token-classification", base.tokenizer)

    assert len(item.features.rows) > 1, "the sentence is meant to need several windows"
    labelled = batch.targets[batch.targets != IGNORED]
    assert sorted(labelled.tolist()) == [0] * 12 + [1] * 4
    row, token = item.features.positions[1]
    assert token == 1 + 1 + len(base.tokenizer.tokenize("goodxy")) - 1
    assert batch.targets[row, token - 1] == IGNORED
    assert batch.counts == [len(item.features.rows)] * 2


@pytest.mark.parametrize("kind", list(ROWS))
def test_a_batch_is_padded_to_its_longest_row(base: Base, kind: TaskKind) -> None:
    items = _made_up(base, kind)
    batch = make_batch(items, kind, base.tokenizer)
    rows = [row for item in items for row in item.features.rows]
    shape = torch.Size([len(rows), max(len(row.input_ids) for row in rows)])
    assert batch.inputs["input_ids"].shape == shape
    assert sum(batch.counts) == len(rows)
    columns = {"multi-label-classification": (3,), "regression": (1,), "reranking": (1,)}.get(kind, ())
    expected = shape if kind == "token-classification" else torch.Size([len(items), *columns])
    assert batch.targets.shape == expected
    assert batch.targets.dtype == (torch.float32 if columns or kind == "embedding" else torch.int64)
    labelled = int((batch.targets != IGNORED).sum())
    assert batch.total == (labelled if kind == "token-classification" else len(items))


def test_words_beyond_the_cut_have_no_target(base: Base) -> None:
    codec = task_codec(TaskSpec("token-classification", ("O", "X"), max_length=8), base.tokenizer)
    pieces = len(base.tokenizer.tokenize("goodxy"))
    short, long = (("good", "goodxy"), "X"), (("good", "bad", "film", "movie", "plot", "goodxy", "it"), "O")
    nothing = (("goodxyxyxyxyxyxy", "it"), "O")
    examples = _set(*((WordsInput(words), (tag,) * len(words)) for words, tag in (short, long, nothing)))
    kept = encode_examples(examples, codec, long_sentences="cut")

    assert [item.example.line for item in kept] == [1, 2]
    assert [item.target for item in kept] == [(1, 1), (0,) * 5]
    assert [item.features.truncated for item in kept] == [False, True]
    assert [len(item.features.rows) for item in kept] == [1, 1]
    assert pieces > 1
    assert kept[1].features.longest == 8, "the cut word's first pieces stay as context"
    windows = encode_examples(examples, codec)
    assert [len(item.target) for item in windows] == [2, 7, 2]
    assert kept[0].features == windows[0].features
