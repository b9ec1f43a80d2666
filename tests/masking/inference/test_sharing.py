from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from lab.random_tasks import random_signs
from mask_store import ensemble_of
from masking import (
    Base,
    Features,
    LoadedTask,
    MaskedEncoder,
    MaskSettings,
    Row,
    TaskBatch,
    load_base,
    load_task,
)
from masking.architectures import layer_names
from masking.inference import ResidentWeights
from masking.inference.sharing import EMBEDDINGS, Stage, can_share, number_equal, plan_stages
from masking.kernels import Precision
from masking.tasks.predictions import Floats
from tests.masking.inference.test_encoder import SPECS, _close, _features
from tests.masking.kernels.conftest import needs_kernels
from tests.support.kernels.cases import LINES
from tests.support.models import ARCHITECTURES, random_bundle, tiny_base

BLOCKS = 3


def _task(
    base: Base, seed: int, blocks: str = "2", kind: str = "text", weights: ResidentWeights | None = None
) -> LoadedTask:
    settings = MaskSettings(blocks=blocks)
    return load_task(
        random_bundle(base, SPECS[kind], task=f"t{seed}", seed=seed, settings=settings), base, weights
    )


def _alone(encoder: MaskedEncoder, parts: Sequence[TaskBatch]) -> list[list[Floats]]:
    return [
        [encoder.logits([TaskBatch(part.task, [item])])[0][0] for item in part.features] for part in parts
    ]


def _tokens_by_block(encoder: MaskedEncoder, parts: Sequence[TaskBatch]) -> list[int]:
    """Compute a batch, and tell how many tokens each block computed."""
    seen: list[int] = []

    def note(_block: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        seen.append(inputs[0].shape[1])

    path = layer_names(encoder.base.info.architecture).blocks
    hooks = [
        block.register_forward_pre_hook(note) for block in encoder._encoder.get_submodule(path).children()
    ]
    encoder.logits(parts)
    for hook in hooks:
        hook.remove()
    return seen


def test_rows_without_their_like_are_one_stage() -> None:
    assert number_equal([Row.of([1, 2]), Row.of([1, 3]), Row.of([1, 2], [0, 1])]) is None
    assert number_equal([Row.of([1, 2]), Row.of([1, 3]), Row.of([1, 2])]) == [0, 1, 0]


@pytest.mark.parametrize(
    ("owners", "stages"),
    [
        ([(0, 2), (1, 2), (2, 2)], [Stage(EMBEDDINGS, (0,)), Stage(2, (0, 1, 2), (0, 0, 0))]),
        (
            [(0, 0), (1, 2), (2, BLOCKS)],
            [Stage(EMBEDDINGS, (0,)), Stage(0, (0, 1), (0, 0)), Stage(2, (0, 1, 2), (0, 1, 1))],
        ),
        (
            [(0, 1), (0, 1), (1, 1)],
            [Stage(EMBEDDINGS, (0,)), Stage(1, (0, 2), (0, 0)), Stage(BLOCKS, (0, 1, 2), (0, 0, 1))],
        ),
        (
            [(0, EMBEDDINGS), (1, EMBEDDINGS), (1, EMBEDDINGS)],
            [Stage(EMBEDDINGS, (0, 1)), Stage(BLOCKS, (0, 1, 2), (0, 1, 1))],
        ),
        (
            [(0, BLOCKS), (1, BLOCKS), (2, BLOCKS)],
            [Stage(EMBEDDINGS, (0,)), Stage(BLOCKS, (0, 1, 2), (0, 0, 0))],
        ),
    ],
)
def test_rows_part_where_their_masks_begin(owners: list[tuple[int, int]], stages: list[Stage]) -> None:
    assert plan_stages([0, 0, 0], owners, BLOCKS) == stages


def test_every_row_finds_its_states_through_all_stages() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        count, blocks = int(rng.integers(2, 12)), int(rng.integers(1, 6))
        tokens = rng.integers(0, 4, count).tolist()
        firsts = rng.integers(EMBEDDINGS, blocks + 1, 4).tolist()
        owners = [(owner, firsts[owner]) for owner in rng.integers(0, 4, count).tolist()]
        stages = plan_stages(tokens, owners, blocks)
        assert stages[-1].rows == tuple(range(count))
        states: list[tuple[object, ...]] = [(tokens[row],) for row in stages[0].rows]
        ends = [*(stage.block for stage in stages[1:]), blocks]
        for stage, end in zip(stages, ends, strict=True):
            states = [states[source] for source in stage.sources] if stage.sources else states
            for block in range(stage.block, end):
                states = [
                    (*state, (block, owners[row][0]) if owners[row][1] <= block else (block, None))
                    for state, row in zip(states, stage.rows, strict=True)
                ]
                assert len({*states}) == len(states), "a row is computed twice"
        wanted = [
            (token, *((block, owner if first <= block else None) for block in range(EMBEDDINGS, blocks)))
            for token, (owner, first) in zip(tokens, owners, strict=True)
        ]
        assert states == wanted


def test_a_text_for_many_tasks_is_one_row_below_their_masks(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    encoder, tasks = MaskedEncoder(base), [_task(base, seed, "1-2") for seed in range(4)]
    (item,) = _features(tasks[0], 1, np.random.default_rng(0))
    parts = [TaskBatch(task, [item]) for task in tasks]
    assert _tokens_by_block(encoder, parts) == [item.tokens, 4 * item.tokens, 4 * item.tokens]


def test_equal_rows_of_one_task_are_one_row_to_the_end(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    encoder, task = MaskedEncoder(base), _task(base, 0, "0-2")
    one, other = _features(task, 2, np.random.default_rng(0))
    again = Features(tuple(Row(row.input_ids.copy(), row.token_type_ids.copy()) for row in one.rows))
    parts = [TaskBatch(task, [one, other, again, one])]
    assert _tokens_by_block(encoder, parts) == [one.tokens + other.tokens] * BLOCKS
    answers = encoder.logits(parts)
    _close(answers[0], _alone(encoder, parts)[0])


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_any_mix_gives_what_each_input_gives_alone(architecture: str, tmp_path: Path) -> None:
    base, rng = load_base(tiny_base(tmp_path, architecture)), np.random.default_rng(1)
    encoder = MaskedEncoder(base)
    signed = load_task(random_signs(base, "copy", 9), base)
    bundles = [random_bundle(base, SPECS["text"], seed=seed) for seed in (5, 6)]
    together = load_task(ensemble_of("together", "logits", [(None, bundle) for bundle in bundles]), base)
    tasks = [
        *(_task(base, seed, blocks) for seed, blocks in enumerate(("2", "0-2", "1", "1-2"))),
        *(signed, together, _task(base, 7, "2", "words"), _task(base, 8, "1", "words")),
    ]
    texts, words = _features(tasks[0], 3, rng), _features(tasks[-1], 2, rng)
    parts = [TaskBatch(task, words if task.spec.kind == "token-classification" else texts) for task in tasks]
    parts = [parts[place] for place in rng.permutation(len(parts))]
    for answers, alone in zip(encoder.logits(parts), _alone(encoder, parts), strict=True):
        _close(answers, alone)


@needs_kernels
@pytest.mark.parametrize("precision", LINES)
def test_sharing_changes_nothing_in_any_precision(precision: Precision, tiny_bert: str) -> None:
    base, rng = load_base(tiny_bert), np.random.default_rng(2)
    weights = ResidentWeights.of(base, precision)
    encoder = MaskedEncoder(base, weights)
    tasks = [_task(base, seed, blocks, weights=weights) for seed, blocks in enumerate(("2", "1-2", "0", "2"))]
    parts = [TaskBatch(task, _features(tasks[0], 3, rng)) for task in tasks[:1]]
    parts += [TaskBatch(task, parts[0].features) for task in tasks[1:]]
    shared = encoder.logits(parts)
    encoder._shares = False
    for answers, separate in zip(shared, encoder.logits(parts), strict=True):
        _close(answers, separate)


@needs_kernels
@pytest.mark.parametrize("precision", LINES)
def test_of_the_last_block_only_what_heads_read_is_computed(precision: Precision, tiny_bert: str) -> None:
    base, rng = load_base(tiny_bert), np.random.default_rng(3)
    weights = ResidentWeights.of(base, precision)
    encoder = MaskedEncoder(base, weights)
    text, other, words = (
        _task(base, seed, "1-2", kind, weights) for seed, kind in enumerate(("text", "text", "words"))
    )
    texts, sentences = _features(text, 2, rng), _features(words, 2, rng)
    parts = [TaskBatch(text, texts), TaskBatch(words, sentences), TaskBatch(other, [texts[0], texts[0]])]
    seen: list[int] = []
    encoder._line_blocks[-1].register_forward_hook(
        lambda _block, _inputs, output: seen.append(output.shape[1])
    )
    answers = encoder.logits(parts)
    assert seen == [len(texts) + sum(item.tokens for item in sentences) + 1]
    for one, alone in zip(answers, _alone(encoder, parts), strict=True):
        _close(one, alone)


def test_all_but_mpnet_share(tmp_path_factory: pytest.TempPathFactory) -> None:
    bases = {name: load_base(tiny_base(tmp_path_factory.mktemp(name), name)) for name in ARCHITECTURES}
    assert [name for name, base in bases.items() if not can_share(base)] == ["mpnet"]
