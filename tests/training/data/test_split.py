from collections import Counter
from dataclasses import replace

import pytest

from masking import TextInput, WordsInput
from training.data.examples import Example, ExampleSet
from training.data.split import split_examples
from training.errors import NoExamplesError
from training.kinds import count_labels


def _set(*rows: tuple[str, str]) -> ExampleSet:
    examples = [Example(n, TextInput(text), label) for n, (text, label) in enumerate(rows, start=1)]
    return ExampleSet("t", "line", tuple(examples), ())


MANY = _set(*((f"text {n}", "rare" if n % 10 == 0 else "often") for n in range(100)), ("alone", "once"))


def test_every_label_gives_its_share_and_the_only_row_of_one_is_learned() -> None:
    train, dev = split_examples(MANY, 0.2)
    assert count_labels(example.target for example in dev.examples) == Counter(often=18, rare=2)
    assert {*train.examples, *dev.examples} == set(MANY.examples)
    assert len(train.examples) + len(dev.examples) == 101
    assert dev.source == "t (20% of it)"


def test_rows_on_one_line_are_rows_of_their_own() -> None:
    on_one = ExampleSet("t", "line", tuple(replace(one, line=1) for one in MANY.examples), ())
    train, dev = split_examples(on_one, 0.2)
    assert len(dev.examples) == 20
    assert {*train.examples, *dev.examples} == set(on_one.examples)


def test_the_split_is_the_same_each_time() -> None:
    assert split_examples(MANY, 0.3) == split_examples(MANY, 0.3)


def test_rows_of_one_input_stay_together() -> None:
    train, dev = split_examples(_set(*((f"text {n % 10}", "ab"[n % 2]) for n in range(100))), 0.5)
    assert not {one.input for one in train.examples} & {one.input for one in dev.examples}


def test_dev_has_no_tag_that_train_lacks() -> None:
    words = [Example(n, WordsInput((f"w{n}",) * 2), ("O", f"T{n}")) for n in range(1, 9)]
    words += [Example(n, WordsInput((f"w{n}",) * 2), ("O", "O")) for n in range(9, 40)]
    train, dev = split_examples(ExampleSet("t", "line", tuple(words), ()), 0.5)
    tags, learned = (count_labels(one.target for one in some.examples) for some in (dev, train))
    assert tags.keys() <= learned.keys()


def test_another_seed_keeps_other_rows() -> None:
    kept = [{one.line for one in split_examples(MANY, 0.3, seed)[1].examples} for seed in (0, 1)]
    assert kept[0] != kept[1]
    assert len(kept[0]) == len(kept[1])


def test_of_a_few_rows_each_label_gives_one() -> None:
    few = _set(*((f"text {n}", "ab"[n % 2]) for n in range(4)), ("alone", "c"))
    _, dev = split_examples(few, 0.1)
    assert sorted(str(one.target) for one in dev.examples) == ["a", "b"]


def test_where_each_label_has_one_row_nothing_can_be_kept() -> None:
    with pytest.raises(NoExamplesError, match="give --dev FILE"):
        split_examples(_set(("a", "x"), ("b", "y")), 0.1)
