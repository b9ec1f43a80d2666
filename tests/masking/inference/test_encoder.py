import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from masking import (
    Base,
    ChoiceInput,
    Features,
    LoadedTask,
    MaskedEncoder,
    MaskSettings,
    TaskBatch,
    TaskInput,
    TaskSpec,
    TextInput,
    WordsInput,
    load_base,
    load_task,
)
from masking.tasks.predictions import Floats
from tests.support.models import ARCHITECTURES, WORDS, random_bundle, tiny_base

SPECS = {
    "text": TaskSpec("sequence-classification", ("bad", "good", "mixed"), max_length=40),
    "pair": TaskSpec("sequence-classification", ("no", "yes"), max_length=40, pair=True),
    "words": TaskSpec("token-classification", ("O", "B-PER", "I-PER", "B-LOC"), max_length=16),
    "choice": TaskSpec("multiple-choice", (), max_length=40),
}


def _words(rng: np.random.Generator, most: int) -> list[str]:
    return [str(word) for word in rng.choice(WORDS[:40], rng.integers(1, most + 1))]


def _input(spec: TaskSpec, rng: np.random.Generator) -> TaskInput:
    text = " ".join(_words(rng, 12))
    if spec.kind == "token-classification":
        return WordsInput(tuple(_words(rng, 30)))
    if spec.kind == "multiple-choice":
        return ChoiceInput(text, tuple(" ".join(_words(rng, 5)) for _ in range(rng.integers(2, 5))))
    return TextInput(text, " ".join(_words(rng, 12)) if spec.pair else None)


def _tasks(base: Base, count: int, settings: MaskSettings | None = None) -> list[LoadedTask]:
    specs = list(SPECS.values())
    return [
        load_task(random_bundle(base, specs[i % 4], task=f"t{i}", seed=i, settings=settings), base)
        for i in range(count)
    ]


def _features(task: LoadedTask, count: int, rng: np.random.Generator) -> list[Features]:
    return task.codec.encode([_input(task.spec, rng) for _ in range(count)], truncate=True)


def _close(ours: Sequence[Floats], theirs: Sequence[Floats]) -> None:
    assert [one.shape for one in ours] == [one.shape for one in theirs]
    largest = max(float(np.abs(one).max()) for one in theirs)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-5 * max(1.0, largest))


@pytest.mark.parametrize("pooler", [True, False])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_mixed_batch_gives_what_each_input_gives_alone(
    architecture: str, pooler: bool, tmp_path: Path
) -> None:
    base = load_base(tiny_base(tmp_path, architecture, pooler=pooler))
    encoder, rng = MaskedEncoder(base), np.random.default_rng(1)
    parts = [TaskBatch(task, _features(task, 3, rng)) for task in _tasks(base, 8)]
    for part, answers in zip(parts, encoder.logits(parts), strict=True):
        alone = [encoder.logits([TaskBatch(part.task, [item])])[0][0] for item in part.features]
        _close(answers, alone)


def test_order_and_company_do_not_matter(tiny_bert: str) -> None:
    base, rng = load_base(tiny_bert), np.random.default_rng(2)
    encoder = MaskedEncoder(base)
    parts = [TaskBatch(task, _features(task, 4, rng)) for task in _tasks(base, 6)]
    there, back = encoder.logits(parts), encoder.logits(parts[::-1])[::-1]
    for one, other in zip(there, back, strict=True):
        _close(one, other)


def test_tasks_may_mask_other_blocks(tiny_bert: str) -> None:
    base, rng = load_base(tiny_bert), np.random.default_rng(3)
    encoder = MaskedEncoder(base)
    choices = ["0", "2", "0-2"]
    tasks = [
        load_task(random_bundle(base, SPECS["text"], seed=7, settings=MaskSettings(blocks=blocks)), base)
        for blocks in choices
    ]
    features = _features(tasks[0], 2, rng)
    mixed = encoder.logits([TaskBatch(task, features) for task in tasks])
    for task, answers in zip(tasks, mixed, strict=True):
        _close(answers, encoder.logits([TaskBatch(task, features)])[0])
    assert len({one[0].tobytes() for one in mixed}) == 3


def test_two_tasks_on_one_base_do_not_touch_each_other(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    encoder = MaskedEncoder(base)
    tasks = [load_task(random_bundle(base, SPECS["text"], seed=seed), base) for seed in (1, 2)]
    features = tasks[0].codec.encode([TextInput("the movie was good")], truncate=False)

    def answer(number: int) -> list[float]:
        return [float(x) for x in encoder.logits([TaskBatch(tasks[number], features)])[0][0]]

    first, second = answer(0), answer(1)
    assert first != second
    assert [answer(0), answer(1), answer(1), answer(0)] == [first, second, second, first]


def test_without_masks_nothing_is_computed(tiny_bert: str) -> None:
    encoder = MaskedEncoder(load_base(tiny_bert))
    with pytest.raises(LookupError):
        encoder._encoder(input_ids=torch.tensor([[2, 3]]))


def test_a_part_is_not_to_be_changed(tiny_bert: str) -> None:
    (task,) = _tasks(load_base(tiny_bert), 1)
    with pytest.raises(dataclasses.FrozenInstanceError):
        TaskBatch(task, []).task = task  # type: ignore[misc]
