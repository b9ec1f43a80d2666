import math
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch import Tensor

from mask_store import CombineRule, EnsembleManifest, MaskBundle, VersionInfo, ensemble_of
from masking import (
    Base,
    ChoiceInput,
    ClassPrediction,
    MaskedEncoder,
    Member,
    TaskBatch,
    TaskInput,
    TaskSpec,
    TextInput,
    UnknownLayerError,
    WordsInput,
    WordsPrediction,
    load_base,
    load_task,
)
from masking.inference.combine import combine_logits
from masking.tasks.predictions import Floats, softmax
from tests.support.models import random_bundle, tiny_base

RULES: tuple[CombineRule, ...] = get_args(CombineRule)
TASKS: dict[str, tuple[TaskSpec, TaskInput]] = {
    "single": (
        TaskSpec("sequence-classification", ("bad", "so", "good"), max_length=16),
        TextInput("the movie was good"),
    ),
    "pair": (
        TaskSpec("sequence-classification", ("no", "yes"), max_length=16, pair=True),
        TextInput("i lost", "my card"),
    ),
    "words": (
        TaskSpec("token-classification", ("B-LOC", "I-LOC", "O"), max_length=12),
        WordsInput(("anna", "works", *["paris"] * 20)),
    ),
    "choice": (
        TaskSpec("multiple-choice", (), max_length=16),
        ChoiceInput("she lost", ("the card", "a", "film")),
    ),
}


def plain_softmax(row: list[float]) -> list[float]:
    exponentials = [math.exp(value - max(row)) for value in row]
    return [value / sum(exponentials) for value in exponentials]


def plain_scores(rule: CombineRule, rows: list[list[float]]) -> list[float]:
    """Scores of one input (or one word), from one row of logits per member, written out."""
    by_class = list(zip(*rows, strict=True))
    if rule == "logits":
        return plain_softmax([sum(values) / len(rows) for values in by_class])
    if rule == "probabilities":
        return [sum(values) / len(rows) for values in zip(*map(plain_softmax, rows), strict=True)]
    votes = Counter(row.index(max(row)) for row in rows)
    return [votes[label] / len(rows) for label in range(len(by_class))]


def flat(logits: list[Floats]) -> list[list[list[float]]]:
    """The members' rows of each word, or of the only item."""
    stacked = np.stack(logits)
    items = stacked.reshape(len(logits), -1, stacked.shape[-1]).swapaxes(0, 1)
    return [[[float(value) for value in row] for row in item] for item in items]


@st.composite
def member_logits(draw: st.DrawFn) -> list[Floats]:
    """Logits of 1 to 8 members for one input of any kind; whole numbers too, so that votes and means tie."""
    shape = draw(st.one_of(st.tuples(st.integers(2, 6)), st.tuples(st.integers(1, 4), st.integers(2, 6))))
    values = draw(st.sampled_from([st.integers(-2, 2), st.floats(-60, 60, width=32)]))
    return draw(st.lists(arrays(np.float32, shape, elements=values), min_size=1, max_size=8))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(RULES), member_logits())
def test_scores_are_those_of_the_plain_formulas(rule: CombineRule, logits: list[Floats]) -> None:
    combined = combine_logits(rule, logits)
    assert combined.shape == logits[0].shape
    assert combined.dtype == np.float32
    assert np.isfinite(combined).all()
    scores = softmax(combined).reshape(-1, combined.shape[-1])
    np.testing.assert_allclose(scores, [plain_scores(rule, rows) for rows in flat(logits)], atol=2e-5)


@settings(max_examples=200, deadline=None)
@given(member_logits())
def test_a_vote_ranks_by_votes_then_by_mean_probability(logits: list[Floats]) -> None:
    combined = combine_logits("labels", logits)
    for values, rows in zip(combined.reshape(-1, combined.shape[-1]), flat(logits), strict=True):
        votes, means = plain_scores("labels", rows), plain_scores("probabilities", rows)
        ranking = np.argsort(-values, kind="stable")
        assert len(set(values)) == len(values)
        for better, worse in pairwise(ranking):
            assert votes[better] >= votes[worse]
            if votes[better] == votes[worse]:
                assert means[better] >= means[worse] * (1 - 1e-9)


@pytest.mark.parametrize(
    ("members", "winner"),
    [
        ([[2, 1, 0], [2, 1, 0], [0, 9, 0]], 0),  # two of three, though the mean of logits says 1
        ([[3, 0, 0], [0, 0, 1]], 0),  # one each: 0 has the higher mean probability
        ([[1, 0, 0], [0, 0, 3]], 2),
        ([[1, 0, 0], [0, 0, 1 + 2**-20]], 2),  # hardly higher
        ([[1, 0], [0, 1]], 0),  # all equal: the first class
        ([[1, 1, 0]], 0),  # a member votes for its first best class
        # 1 is best on average, but with one vote of five
        ([[6, 5.9, 0], [0, 4.9, 5], [0, 1, 0], [1, 0, 0], [0, 0, 1]], 0),
    ],
)
def test_who_wins_a_vote(members: list[list[float]], winner: int) -> None:
    logits = [np.array(row, np.float32) for row in members]
    assert combine_logits("labels", logits).argmax() == winner
    words = [np.stack([row, row[::-1]]) for row in logits]
    assert combine_logits("labels", words)[0].argmax() == winner


def test_rules_differ_where_they_should() -> None:
    logits = [np.array(row, np.float32) for row in ([3.0, 0, -9], [3.0, 0, -9], [0, 30, 0])]
    assert [int(combine_logits(rule, logits).argmax()) for rule in RULES] == [0, 1, 0]
    unsure = [np.array(row, np.float32) for row in ([9.0, 0], [0, 1.0], [0, 1.0])]
    assert [int(combine_logits(rule, unsure).argmax()) for rule in RULES] == [1, 0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_extreme_logits_stay_finite(rule: CombineRule) -> None:
    logits = [np.array([0, 1e4, -1e4], np.float32), np.array([3e37, -3e37, 0], np.float32)]
    combined = combine_logits(rule, logits)
    assert np.isfinite(combined).all()
    assert softmax(combined).sum() == pytest.approx(1)


def test_equal_probabilities_of_a_long_list_of_labels_and_of_many_members() -> None:
    logits: list[Floats] = [np.roll(np.arange(1000, dtype=np.float32), member) for member in range(64)]
    combined = combine_logits("labels", logits)
    assert len(set(combined.tolist())) == 1000
    votes = softmax(combined)
    np.testing.assert_allclose(np.sort(votes)[-64:], 1 / 64, atol=2e-5)


@pytest.mark.parametrize("rule", RULES)
def test_the_order_of_members_does_not_matter(rule: CombineRule) -> None:
    rng = np.random.default_rng(0)
    logits = [rng.normal(size=(5, 4)).astype(np.float32) for _ in range(6)]
    np.testing.assert_allclose(combine_logits(rule, logits), combine_logits(rule, logits[::-1]), atol=1e-6)


def ensemble(bundles: list[MaskBundle], rule: CombineRule = "logits") -> MaskBundle:
    versions = [
        VersionInfo("demo", number, bundle.digest, len(bundle.to_bytes()), datetime.now(UTC))
        for number, bundle in enumerate(bundles, 1)
    ]
    return ensemble_of("together", rule, list(zip(versions, bundles, strict=True)))


@pytest.mark.parametrize("pooler", [True, False])
def test_members_are_those_of_the_tasks_alone(pooler: bool, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, pooler=pooler))
    bundles = [random_bundle(base, TASKS["single"][0], seed=seed) for seed in (1, 2, 3)]
    together = MaskBundle.from_bytes(ensemble(bundles).to_bytes())
    loaded = load_task(together, base)
    assert loaded.combine == "logits"
    for member, bundle in zip(loaded.members, bundles, strict=True):
        (alone,) = load_task(bundle, base).members
        assert same_tensors(member.head, alone.head)
        assert same_tensors(_bits(member), _bits(alone))


def _bits(member: Member) -> dict[str, Tensor]:
    return {name: mask.expand() for name, mask in member.masks.layers.items()}


def same_tensors(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", TASKS)
def test_an_ensemble_answers_with_its_members_answers_combined(
    name: str, rule: CombineRule, tiny_bert: str
) -> None:
    spec, given = TASKS[name]
    base = load_base(tiny_bert)
    bundles = [random_bundle(base, spec, seed=seed) for seed in range(3)]
    members = [load_task(bundle, base) for bundle in bundles]
    together = load_task(ensemble(bundles, rule), base)
    features = together.codec.encode([given, given], truncate=True)
    encoder = MaskedEncoder(base)
    alone = [encoder.logits([TaskBatch(member, features)])[0] for member in members]
    mixed = encoder.logits(
        [TaskBatch(members[0], features), TaskBatch(together, features), TaskBatch(members[1], features)]
    )
    for item in range(2):
        expected = combine_logits(rule, [logits[item] for logits in alone])
        np.testing.assert_allclose(mixed[1][item], expected, atol=2e-5)
        np.testing.assert_allclose(mixed[2][item], alone[1][item], atol=2e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", TASKS)
def test_a_codec_decodes_what_was_combined(name: str, rule: CombineRule, tiny_bert: str) -> None:
    spec, given = TASKS[name]
    base = load_base(tiny_bert)
    logits = answers(base, spec, given)
    codec = load_task(random_bundle(base, spec), base).codec
    prediction = codec.decode(combine_logits(rule, logits))
    expected = np.array([plain_scores(rule, rows) for rows in flat(logits)])
    np.testing.assert_allclose(prediction.scores.reshape(expected.shape), expected, atol=2e-5)
    if isinstance(prediction, WordsPrediction):
        best = prediction.indices
    else:
        assert isinstance(prediction, ClassPrediction)
        best = (prediction.index,)
    assert all(row[index] == pytest.approx(row.max()) for row, index in zip(expected, best, strict=True))


def answers(base: Base, spec: TaskSpec, given: TaskInput) -> list[Floats]:
    """Logits of one input under three random masks, scaled so that the masks disagree."""
    encoder = MaskedEncoder(base)
    tasks = [load_task(random_bundle(base, spec, seed=seed), base) for seed in range(3)]
    features = tasks[0].codec.encode([given], truncate=True)
    return [100 * encoder.logits([TaskBatch(task, features)])[0][0] for task in tasks]


def test_a_member_that_does_not_fit_the_base_is_refused(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    bundles = [random_bundle(base, TASKS["single"][0], seed=seed) for seed in (1, 2)]
    together = ensemble(bundles)
    assert isinstance(together.manifest, EnsembleManifest)
    first, second = together.manifest.members
    layer, *others = second.layers
    odd = second.model_copy(update={"layers": (layer.model_copy(update={"name": "embeddings"}), *others)})
    manifest = together.manifest.model_copy(update={"members": (first, odd)})
    tensors = [(dict(member.masks), dict(member.head)) for member in together.members]
    tensors[1][0]["embeddings"] = tensors[1][0].pop(layer.name)
    with pytest.raises(UnknownLayerError, match="'embeddings' is not maskable"):
        load_task(MaskBundle.create_ensemble(manifest, tensors), base)
