from pathlib import Path

import pytest
import torch
from torch import Tensor

from experiments.beyond.gathered import Shares, gather, present_units, shares_of, time_gathered
from experiments.beyond.units import KINDS, StructuredModel, effects_of, units_of
from experiments.common.runs import dense_weights
from masking import (
    Base,
    FinetunedModel,
    MaskedModel,
    MaskSettings,
    TaskSpec,
    TextInput,
    collate,
    load_base,
    task_codec,
)
from masking.errors import UnsupportedArchitectureError
from tests.support.models import tiny_base
from training.data.features import Batch

SPEC = TaskSpec("sequence-classification", ("bad", "good"), max_length=16)
SETTINGS = MaskSettings(blocks="0-", head="trained")
TEXTS = ["the movie was good", "terrible plot and bad acting !", "i lost my card"]
TARGETS = torch.tensor([1, 0, 0])


def structured(base: Base) -> StructuredModel:
    """A model whose units have scores drawn at random."""
    model = StructuredModel.create(base, SPEC, SETTINGS, seed=3)
    generator = torch.Generator().manual_seed(5)
    sizes = {kind: sum(one.units.count for one in model.units(kind)) for kind in KINDS}
    model.order({kind: torch.rand(size, generator=generator) for kind, size in sizes.items()})
    return model.eval()


def inputs(base: Base) -> dict[str, Tensor]:
    features = task_codec(SPEC, base.tokenizer).encode(list(map(TextInput, TEXTS)), truncate=True)
    return collate([one.rows[0] for one in features], base.tokenizer, base.device)


def test_a_unit_has_the_rows_of_its_writers_and_the_columns_of_its_reader(base: Base) -> None:
    heads, neurons = units_of(base)[:2]
    assert (heads.kind, heads.count, heads.width) == ("heads", 2, 16)
    assert (neurons.kind, neurons.count, neurons.width) == ("neurons", 64, 1)
    assert len(units_of(base)) == 2 * base.num_blocks
    assert [one.block for one in units_of(base, (2,))] == [2, 2]
    for units in units_of(base):
        lines = units.count * units.width
        assert {base.maskable_linears[name].out_features for name in units.writers} == {lines}
        assert base.maskable_linears[units.reader].in_features == lines


def test_units_are_known_of_berts_kin_alone(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path / "base", "modernbert"))
    with pytest.raises(UnsupportedArchitectureError, match="heads and neurons are known of BERT"):
        units_of(base)


def test_a_units_score_gets_the_gradient_of_its_bit(base: Base) -> None:
    model = structured(base)
    model.set_sparsity(0.5)
    (heads,) = (one for one in model.units("heads") if one.units.block == 1)
    weight = torch.randn(4, 32, generator=torch.Generator().manual_seed(0))
    pull = torch.randn(4, 32, generator=torch.Generator().manual_seed(1))
    out = heads(weight)
    kept = heads.scores >= heads.threshold
    assert torch.equal(out, weight * kept.repeat_interleave(16))
    (gradient,) = torch.autograd.grad((out * pull).sum(), [heads.scores])
    assert torch.allclose(gradient, (pull * weight).view(4, 2, 16).sum((0, 2)), atol=1e-5)


def test_a_dropped_unit_can_come_back(base: Base) -> None:
    """Its gradient is that of what it would add, as only its columns are zeros while it is learned."""
    model = structured(base)
    model.set_sparsity(0.9)
    loss = torch.nn.functional.cross_entropy(model(inputs(base)), TARGETS)
    scores = [one.scores for one in model.units("neurons")]
    gradients = torch.autograd.grad(loss, scores)
    dropped = [~one.kept() for one in model.units("neurons")]
    lower = torch.cat([own[places] for own, places in zip(gradients[:-1], dropped, strict=False)])
    assert (lower != 0).float().mean() > 0.9


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 0.9])
def test_the_share_is_met_in_each_kind(base: Base, share: float) -> None:
    model = structured(base)
    model.set_sparsity(share)
    for kind in KINDS:
        kept = torch.cat([one.kept() for one in model.units(kind)])
        assert int((~kept).sum()) == round(share * len(kept))
    assert model.sparsity() == pytest.approx(share, abs=0.09)  # of six heads


def test_those_of_least_effect_are_dropped_first(base: Base) -> None:
    model = StructuredModel.create(base, SPEC, SETTINGS, seed=3).eval()
    batch = Batch(inputs(base), TARGETS, [1, 1, 1], 3)
    effects = effects_of(model, [batch, batch])
    once = effects_of(model, [batch])
    for kind in KINDS:
        assert torch.allclose(effects[kind], 2 * once[kind])
    model.order(effects)
    model.set_sparsity(0.5)
    for kind in KINDS:
        kept = torch.cat([one.kept() for one in model.units(kind)])
        assert effects[kind][kept].min() >= effects[kind][~kept].max()
        low = min(float(one.scores.detach().min()) for one in model.units(kind))
        assert low == pytest.approx(SETTINGS.score_low)


def test_a_dropped_unit_is_zeros_of_an_ordinary_mask(base: Base) -> None:
    model = structured(base)
    before = {name: mask.mask() for name, mask in model.masks.items()}
    model.set_sparsity(0.5)
    plain = model.to_masked()
    assert type(plain) is MaskedModel
    after = {name: mask.mask() for name, mask in plain.masks.items()}
    for one in (*model.units("heads"), *model.units("neurons")):
        units, lines = one.units, one.units.spread(one.kept())
        assert torch.equal(units.present(after), one.kept())
        for name in units.writers:
            assert not after[name][~lines].any()
            assert torch.equal(after[name][lines], before[name][lines])
        assert not after[units.reader][:, ~lines].any()
        assert torch.equal(after[units.reader][:, lines], before[units.reader][:, lines])
    assert torch.allclose(plain(inputs(base)), model(inputs(base)), atol=1e-6)


def test_without_dropped_units_the_mask_is_the_plain_one(base: Base) -> None:
    plain = MaskedModel.create(base, SPEC, SETTINGS, seed=7)
    model = StructuredModel.create(base, SPEC, SETTINGS, seed=3)
    model.start(plain.learned_state())
    same = model.to_masked()
    for name, mask in plain.masks.items():
        assert torch.equal(same.masks[name].mask(), mask.mask())


def test_a_checkpoint_holds_units_and_thresholds(base: Base) -> None:
    model = structured(base)
    model.set_sparsity(0.4)
    other = StructuredModel.create(base, SPEC, SETTINGS, seed=8).eval()
    other.load_learned_state(model.learned_state())
    for kind in KINDS:
        for own, read in zip(model.units(kind), other.units(kind), strict=True):
            assert torch.equal(own.kept(), read.kept())
    assert torch.equal(model(inputs(base)), other(inputs(base)))


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_the_gathered_model_answers_as_the_full_masked_one(base: Base, share: float) -> None:
    """At nine tenths a block has no head at all."""
    model = structured(base)
    model.set_sparsity(share)
    plain = model.to_masked()
    present = present_units(base, {name: mask.mask() for name, mask in plain.masks.items()})
    small = FinetunedModel.create(base, SPEC, seed=0)
    small.load_learned_state(dense_weights(plain))
    gather(small.eval().encoder, present)
    assert torch.allclose(small(inputs(base)), plain(inputs(base)), atol=1e-6)
    shares = shares_of(present)
    for kind in KINDS:
        assert sum(shares[kind]) / len(shares[kind]) == pytest.approx(1 - share, abs=0.09)
    weights = sum(p.numel() for name, p in small.named_parameters() if "encoder.layer" in name)
    whole = sum(p.numel() for name, p in plain.base.encoder.named_parameters() if "encoder.layer" in name)
    assert weights < whole if share else weights == whole


def test_encoders_of_given_shares_are_timed_beside_the_full_one() -> None:
    half: Shares = {"heads": [0.5], "neurons": [0.25]}
    (times,) = time_gathered("tiny", [half, half], {(2, 8): 3})
    assert (times.rows, times.tokens) == (2, 8)
    for name in ("dense", "masked"):
        assert len(times.seconds[name]) == len(times.faster[name]) == 3
        assert times.faster[name][0] == 1.0
        assert min(times.seconds[name]) > 0
