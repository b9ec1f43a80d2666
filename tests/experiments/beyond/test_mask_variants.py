from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.beyond.mask_variants import (
    DROPPED_GRADIENTS,
    Extend,
    ExtendedModel,
    RowScale,
    SoftZero,
    drop_gradients,
    scale_rows,
    soften_zeros,
    train_biases_and_norms,
    without_query_and_key,
)
from experiments.errors import ExperimentError
from masking import Base, MaskedModel, MaskSettings, TaskSpec, TextInput, collate, load_base, task_codec
from masking.base import base_tensors
from masking.learning.masked_model import MaskScores
from tests.support.learning_data import tiny_options
from training.loop.run_folder import RunFolder
from training.runs.learn import learn_model
from training.runs.preparation import prepare

SPEC = TaskSpec("sequence-classification", ("bad", "good"), max_length=16)
SETTINGS = MaskSettings(blocks="1-", initial_sparsity=0.3, head="trained")
EXTENSIONS = (scale_rows, soften_zeros, train_biases_and_norms, drop_gradients)
LEARNS_MORE = EXTENSIONS[:-1]


@pytest.fixture
def base(tiny_bert: str) -> Base:
    return load_base(tiny_bert)


def extended(base: Base, extend: Extend) -> ExtendedModel:
    return ExtendedModel(base, SPEC, SETTINGS, 3, extend)


def inputs(base: Base) -> dict[str, Tensor]:
    texts = [TextInput("the movie was good"), TextInput("terrible plot and bad acting !")]
    features = task_codec(SPEC, base.tokenizer).encode(texts, truncate=True)
    return collate([row for item in features for row in item.rows], base.tokenizer, base.device)


def step(model: MaskedModel) -> None:
    """One large step of everything that learns."""
    optimizer = torch.optim.Adam(model.trainable().values(), lr=0.2)
    model(inputs(model.base)).square().sum().backward()
    optimizer.step()


@pytest.mark.parametrize("extend", EXTENSIONS)
def test_before_learning_each_is_the_plain_masked_model(base: Base, extend: Extend) -> None:
    plain = MaskedModel.create(base, SPEC, SETTINGS, seed=3).eval()
    batch = inputs(base)
    assert torch.equal(extended(base, extend).eval()(batch), plain(batch))


@pytest.mark.parametrize("extend", EXTENSIONS)
def test_scores_get_the_plain_gradient_in_expectation(base: Base, extend: Extend) -> None:
    plain, model = MaskedModel.create(base, SPEC, SETTINGS, seed=3).eval(), extended(base, extend).eval()
    for one in (plain, model):
        one(inputs(base)).square().sum().backward()
    for name, mask in plain.masks.items():
        wanted, found = mask.scores.grad, model.masks[name].scores.grad
        assert wanted is not None
        assert found is not None
        left = found != 0
        factor = 1 / (1 - DROPPED_GRADIENTS) if extend is drop_gradients else 1.0
        assert torch.allclose(found[left], factor * wanted[left], rtol=1e-4, atol=1e-7)


def test_the_expected_share_of_gradients_is_dropped_and_drawn_anew(base: Base) -> None:
    model = extended(base, drop_gradients).eval()
    torch.manual_seed(0)
    seen = []
    for _ in range(2):
        model.zero_grad()
        model(inputs(base)).square().sum().backward()
        gradients = [mask.scores.grad for mask in model.masks.values()]
        seen.append(torch.cat([g.flatten() for g in gradients if g is not None]) == 0)
    for dropped in seen:
        assert dropped.float().mean().item() == pytest.approx(DROPPED_GRADIENTS, abs=0.02)
    assert (seen[0] & seen[1]).float().mean().item() == pytest.approx(DROPPED_GRADIENTS**2, abs=0.02)


@pytest.mark.parametrize("extend", EXTENSIONS)
def test_what_learns_moves_and_the_rest_stays(base: Base, extend: Extend) -> None:
    before = {name: tensor.clone() for name, tensor in base_tensors(base.encoder, base.pooler)}
    model = extended(base, extend).train()
    start = model.learned_state()
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    assert (set(start) == set(MaskedModel.create(base, SPEC, SETTINGS, seed=3).trainable())) == (
        extend not in LEARNS_MORE
    )
    step(model)
    moved = {name for name, tensor in model.learned_state().items() if not torch.equal(tensor, start[name])}
    # a key's bias adds the same to all of a query's products, which softmax takes out again
    assert {name for name in set(start) - moved if not name.endswith("key.bias")} == set()
    parameters = dict(model.named_parameters())
    assert all(torch.equal(parameters[name], tensor) for name, tensor in frozen.items())
    assert all(torch.equal(tensor, before[name]) for name, tensor in base_tensors(base.encoder, base.pooler))


@pytest.mark.parametrize("extend", EXTENSIONS)
def test_what_was_learned_can_be_put_back(base: Base, extend: Extend) -> None:
    model, other = extended(base, extend).eval(), extended(base, extend).eval()
    step(model)
    batch = inputs(base)
    assert not torch.allclose(model(batch), other(batch))
    other.load_learned_state(model.learned_state())
    assert torch.equal(model(batch), other(batch))


def test_a_row_scale_multiplies_outputs() -> None:
    weight, x = torch.randn(4, 6), torch.randn(3, 6)
    scale = RowScale(MaskScores(torch.ones(4, 6), threshold=0.5))
    with torch.no_grad():
        scale.scale.copy_(torch.tensor([[1.0], [2.0], [0.5], [-1.0]]))
    assert torch.allclose(x @ scale(weight).T, (x @ weight.T) * scale.scale.squeeze(1))


def test_a_soft_zero_keeps_a_fraction_of_what_is_dropped() -> None:
    weight, scores = torch.randn(4, 6), torch.rand(4, 6)
    soft = SoftZero(MaskScores(scores, threshold=0.5))
    with torch.no_grad():
        soft.fraction.fill_(0.25)
    assert torch.allclose(soft(weight), torch.where(scores >= 0.5, weight, 0.25 * weight))


def test_biases_and_norms_are_those_of_the_masked_blocks(base: Base) -> None:
    learned = extended(base, train_biases_and_norms).extra
    blocks = tuple(f"{base.blocks.path}.{block}." for block in (1, 2))
    wanted = {name for name, _ in base.encoder.named_parameters() if name.startswith(blocks)}
    assert set(learned) == {name for name in wanted if name.endswith("bias") or "LayerNorm" in name}


@pytest.mark.parametrize(
    ("extend", "count"),
    [
        (scale_rows, lambda model: sum(mask.scores.shape[0] for mask in model.masks.values())),
        (soften_zeros, lambda model: len(model.masks)),
        (drop_gradients, lambda model: 0),
    ],
)
def test_bytes_of_the_extra(base: Base, extend: Extend, count: Callable[[ExtendedModel], int]) -> None:
    model = extended(base, extend)
    assert model.extra_bytes == 4 * count(model)
    bundle = model.to_bundle(
        task="t", metric="accuracy", metrics={"accuracy": 1.0}, training={}, data_digest="", seed=3
    )
    assert model.mask_bytes == bundle.manifest.mask_bytes


def test_without_query_and_key_masks_the_other_layers(base: Base) -> None:
    all_names = MaskedModel.create(base, SPEC, SETTINGS, seed=3).layer_names
    fewer = without_query_and_key(base)
    model = ExtendedModel(fewer, SPEC, SETTINGS, 3, lambda _: {})
    assert model.layer_names == tuple(name for name in all_names if "query" not in name and "key" not in name)
    assert len(all_names) - len(model.layer_names) == 2 * len(model.blocks)


def test_without_query_and_key_needs_their_names(base: Base) -> None:
    probed = replace(base, blocks=replace(base.blocks, known=None))
    with pytest.raises(ExperimentError, match="not known by name"):
        without_query_and_key(probed)


@pytest.mark.parametrize("extend", EXTENSIONS)
def test_the_loop_learns_it_the_same_each_time(tmp_path: Path, tiny_bert: str, extend: Extend) -> None:
    ready = prepare(tiny_options(tmp_path, tiny_bert))
    states = []
    for number in range(2):
        model = ExtendedModel(ready.base, ready.spec, ready.options, 0, extend)
        start = model.learned_state()
        with RunFolder.open(tmp_path / str(number), {}) as folder:
            learn_model(model, ready, "mask", folder)
        states.append(model.learned_state())
        assert all(not torch.equal(states[-1][name], start[name]) for name in model.extra)
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())
