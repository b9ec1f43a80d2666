from collections.abc import Mapping
from math import erf
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from mask_store import HeadMode, MaskBundle, TaskKind, TaskManifest, unpack_bits
from masking import (
    Base,
    ChoiceInput,
    Features,
    FinetunedModel,
    MaskedEncoder,
    MaskedModel,
    MaskSettings,
    TaskBatch,
    TaskInput,
    TaskModel,
    TaskSpec,
    TextInput,
    WordsInput,
    collate,
    load_base,
    load_task,
    task_codec,
)
from masking.base import base_tensors
from masking.heads import CLASSIFIER, POOLER
from masking.identity import weights_digest
from masking.learning.masked_model import MaskScores
from masking.learning.streams import stream
from masking.tasks.predictions import Floats
from tests.support.models import ARCHITECTURES, random_bundle, saved_for_backward, tiny_base
from training.loop.evaluation import batch_logits

Doubles = NDArray[np.float64]

SPECS = {
    "single": TaskSpec("sequence-classification", ("bad", "good"), max_length=16),
    "pair": TaskSpec("sequence-classification", ("no", "yes", "maybe"), max_length=16, pair=True),
    "words": TaskSpec("token-classification", ("B-LOC", "I-LOC", "O"), max_length=12),
    "choice": TaskSpec("multiple-choice", (), max_length=16),
}
INPUTS: dict[str, list[TaskInput]] = {
    "single": [TextInput("the movie was good"), TextInput("terrible plot and bad acting !")],
    "pair": [TextInput("i lost my card", "please help me"), TextInput("the plot", "a film")],
    "words": [WordsInput(("anna", "works", "in", "london")), WordsInput(("paris",) * 20)],
    "choice": [ChoiceInput("she lost", ("the card", "a film")), ChoiceInput("i", ("a", "b", "the plot was"))],
}


def train_a_little(model: TaskModel, inputs: list[TaskInput], steps: int = 3) -> None:
    """Moves the scores far enough that many bits flip."""
    codec = task_codec(model.spec, model.base.tokenizer)
    features = codec.encode(inputs, truncate=True)
    optimizer = torch.optim.Adam(model.trainable().values(), lr=0.2)
    model.train()
    for _ in range(steps):
        optimizer.zero_grad()
        model(collated(model, features)).square().mean().backward()
        optimizer.step()
    model.eval()


def collated(model: TaskModel, features: list[Features]) -> dict[str, torch.Tensor]:
    rows = [row for item in features for row in item.rows]
    return collate(rows, model.base.tokenizer, model.base.device)


def learn(base: Base, name: str, settings: MaskSettings | None = None) -> MaskedModel:
    model = MaskedModel.create(base, SPECS[name], settings or MaskSettings(), seed=3)
    train_a_little(model, INPUTS[name])
    return model


def to_bundle(model: MaskedModel) -> MaskBundle:
    return model.to_bundle(
        task="demo",
        metric="accuracy",
        metrics={"accuracy": 0.5},
        training={},
        data_digest="sha256:" + "0" * 64,
        seed=3,
    )


def learned_logits(model: MaskedModel, name: str) -> list[Floats]:
    codec = task_codec(model.spec, model.base.tokenizer)
    features = codec.encode(INPUTS[name], truncate=True)
    return batch_logits(model, codec, features, tokenizer=model.base.tokenizer, device=model.base.device)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    """Folders of tiny bases, by architecture."""
    return {name: tiny_base(tmp_path_factory.mktemp(name), name) for name in ARCHITECTURES}


@pytest.mark.parametrize("head", ["masked", "trained"])
@pytest.mark.parametrize("name", SPECS)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_bundle_and_a_fresh_base_give_the_trained_models_logits(
    folders: Mapping[str, str], architecture: str, name: str, head: HeadMode
) -> None:
    folder = folders[architecture]
    model = learn(load_base(folder), name, MaskSettings(head=head))
    assert model.flip_rate() > 0.05
    expected = learned_logits(model, name)

    fresh = load_base(folder)
    task = load_task(MaskBundle.from_bytes(to_bundle(model).to_bytes()), fresh)
    features = task.codec.encode(INPUTS[name], truncate=True)
    encoder = MaskedEncoder(fresh)
    (served,) = encoder.logits([TaskBatch(task, features)])
    scale = max(float(np.abs(one).max()) for one in expected)
    for ours, theirs in zip(served, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("pooler", [True, False])
def test_learning_and_serving_leave_the_base_as_it_was(pooler: bool, tmp_path: Path) -> None:
    folder = tiny_base(tmp_path, "bert", pooler=pooler)
    base = load_base(folder)
    addresses = {name: tensor.data_ptr() for name, tensor in base_tensors(base.encoder, base.pooler)}
    model = learn(base, "single")
    task = load_task(to_bundle(model), base)
    MaskedEncoder(base).logits([TaskBatch(task, task.codec.encode(INPUTS["single"], truncate=False))])
    after = base_tensors(base.encoder, base.pooler)
    assert weights_digest(after) == base.info.fingerprint == load_base(folder).info.fingerprint
    assert {name: tensor.data_ptr() for name, tensor in after} == addresses


def test_only_scores_learn_and_only_in_the_chosen_blocks(tiny_bert: str) -> None:
    model = learn(load_base(tiny_bert), "single", MaskSettings(blocks="1"))
    assert all(".layer.1." in name for name in model.layer_names[:6])
    assert model.layer_names[6:] == (POOLER, CLASSIFIER)
    learned = {id(parameter) for parameter in model.trainable().values()}
    assert {id(p) for p in model.parameters() if p.requires_grad} == learned
    assert all(p.grad is not None for p in model.trainable().values())


def test_nothing_below_the_first_masked_block_is_kept_for_the_backward_pass(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, "bert", blocks=4))
    model = MaskedModel.create(base, SPECS["single"], MaskSettings(blocks="2"), seed=3).train()
    model.dropout.eval()  # what is random is then the encoder's dropout alone
    kept_before: list[int] = []
    outputs: list[torch.Tensor] = []
    batch = {"input_ids": torch.tensor([[2, 5, 6, 3]])}
    with saved_for_backward() as kept:
        for block in model.encoder.get_submodule("encoder.layer").children():
            block.register_forward_pre_hook(lambda *_: kept_before.append(len(kept)))
            block.register_forward_hook(lambda _module, _inputs, output: outputs.append(output))
        model(batch).sum().backward()
    assert kept_before[:3] == [0, 0, 0] < kept_before[3:]
    assert [output.requires_grad for output in outputs] == [False, False, True, True]
    assert all(p.grad is None for p in base.encoder.parameters())
    model(batch)
    assert not torch.equal(outputs[0], outputs[4])  # its dropout is active all the same


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_step_computes_each_masked_weight_once(architecture: str, tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, architecture))
    model = MaskedModel.create(base, SPECS["single"], MaskSettings(blocks="1,2"), seed=3).train()
    computed: list[nn.Module] = []
    for module in model.modules():
        if isinstance(module, MaskScores):
            module.register_forward_hook(lambda module, *_: computed.append(module))
    model({"input_ids": torch.tensor([[2, 5, 6, 3]])}).sum().backward()
    assert len(computed) == len(set(computed)) == len(model.layer_names)


def test_token_classification_masks_no_pooler_for_it_has_none(tiny_bert: str) -> None:
    model = MaskedModel.create(load_base(tiny_bert), SPECS["words"], MaskSettings(), seed=0)
    assert POOLER not in model.layer_names


def test_a_pooler_that_the_checkpoint_lacks_is_random_and_travels(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, "bert", pooler=False))
    (member,) = random_bundle(base, SPECS["single"]).members
    assert set(member.head) == {
        "classifier.weight",
        "classifier.bias",
        "pooler.dense.weight",
        "pooler.dense.bias",
    }
    assert POOLER in {layer.name for layer in member.info.layers}


def test_the_random_head_is_as_the_paper_sets_it(tmp_path: Path) -> None:
    base = load_base(tiny_base(tmp_path, "bert", hidden=256, blocks=3, pooler=False))
    head = random_bundle(base, SPECS["single"]).members[0].head
    assert head["pooler.dense.weight"].std() == pytest.approx(0.02, rel=0.02)
    assert not head["pooler.dense.bias"].any()
    assert not head["classifier.bias"].any()


def test_the_seed_alone_decides_the_initial_mask(tiny_bert: str) -> None:
    one, same, other = (
        random_bundle(load_base(tiny_bert), SPECS["single"], seed=seed).members[0] for seed in (1, 1, 2)
    )
    assert all(np.array_equal(one.masks[name], same.masks[name]) for name in one.masks)
    assert not all(np.array_equal(one.masks[name], other.masks[name]) for name in one.masks)


def test_the_papers_scores_are_these_draws_of_the_seed(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    model = MaskedModel.create(base, SPECS["single"], MaskSettings(), seed=3)
    head = torch.empty(2, base.hidden_size).normal_(0.0, 0.02, generator=stream(3, CLASSIFIER))
    for name, mask in model.masks.items():
        drawn = torch.empty(mask.scores.shape).uniform_(-0.02, 0.58, generator=stream(3, f"scores of {name}"))
        assert torch.equal(mask.scores, drawn)
        assert torch.equal(mask.initial, drawn >= 0.01)
    np.testing.assert_array_equal(to_bundle(model).members[0].head["classifier.weight"], head.numpy())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.97])
def test_the_share_of_zeros_is_set_to_within_a_bit_and_published_with_its_threshold(
    tiny_bert: str, share: float
) -> None:
    model = learn(load_base(tiny_bert), "single")
    model.set_sparsity(share)
    manifest = to_bundle(model).manifest
    assert isinstance(manifest, TaskManifest)
    zeros = sum(layer.zeros for layer in manifest.layers)
    assert abs(zeros - share * manifest.mask_bits) <= 1.0
    assert manifest.masking.threshold == model.threshold
    below = sum(int((mask.scores < model.threshold).sum()) for mask in model.masks.values())
    assert below == zeros


def test_a_moved_threshold_is_part_of_what_was_learned(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    model = learn(base, "single")
    model.set_sparsity(0.4)
    restored = MaskedModel.create(base, SPECS["single"], MaskSettings(), seed=3)
    restored.load_learned_state(model.learned_state())
    assert restored.threshold == model.threshold
    assert all(torch.equal(restored.masks[name].mask(), mask.mask()) for name, mask in model.masks.items())


def test_the_manifest_counts_zeros_and_flips(tiny_bert: str) -> None:
    model = learn(load_base(tiny_bert), "single")
    bundle = to_bundle(model)
    (member,), manifest = bundle.members, bundle.manifest
    assert isinstance(manifest, TaskManifest)
    for layer in manifest.layers:
        bits = unpack_bits(member.masks[layer.name], layer.columns)
        assert layer.zeros == int((~bits).sum())
        assert 0 < layer.flipped <= layer.bits
    assert manifest.sparsity == pytest.approx(model.sparsity())
    assert manifest.flipped_share == pytest.approx(model.flip_rate())


def test_learned_state_comes_back_whole_and_holds_no_base_tensor(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    model = learn(base, "single")
    state, expected = model.learned_state(), learned_logits(model, "single")
    assert state.keys() == set(model.layer_names)
    other = MaskedModel.create(base, SPECS["single"], MaskSettings(), seed=99)
    with pytest.raises(ValueError, match="another model"):
        other.load_learned_state({"odd": torch.zeros(1)})
    restored = MaskedModel.create(base, SPECS["single"], MaskSettings(), seed=3).eval()
    restored.load_learned_state(state)
    for ours, theirs in zip(learned_logits(restored, "single"), expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_cached_weights_change_no_logit(tiny_bert: str) -> None:
    model = learn(load_base(tiny_bert), "single")
    expected = learned_logits(model, "single")
    with model.cached():
        again = learned_logits(model, "single")
    np.testing.assert_array_equal(np.stack(again), np.stack(expected))


def test_one_masked_block_agrees_with_an_independent_reference(tmp_path: Path) -> None:
    """BERT block, pooler and classifier written out in numpy, in float64, from the paper's equations."""
    base = load_base(tiny_base(tmp_path, "bert", blocks=1, hidden=16))
    model = learn(base, "single", MaskSettings(blocks="0", initial_sparsity=0.3))
    codec = task_codec(model.spec, base.tokenizer)
    features = codec.encode(INPUTS["single"][:1], truncate=False)
    batch = collated(model, features)
    expected = _reference_logits(base, to_bundle(model), batch)
    served = model(batch)[0].detach().numpy()
    np.testing.assert_allclose(served, expected, rtol=2e-5, atol=1e-7)


def _reference_logits(base: Base, bundle: MaskBundle, batch: dict[str, torch.Tensor]) -> Doubles:
    p = {n: t.detach().numpy().astype(np.float64) for n, t in base_tensors(base.encoder, base.pooler)}
    (member,) = bundle.members
    p |= {name: array.astype(np.float64) for name, array in member.head.items()}
    for layer in member.info.layers:
        bits = np.unpackbits(member.masks[layer.name], axis=1, bitorder="little")[:, : layer.columns]
        p[f"{layer.name}.weight"] = p[f"{layer.name}.weight"] * bits

    def linear(x: Doubles, name: str) -> Doubles:
        return x @ p[f"{name}.weight"].T + p[f"{name}.bias"]

    def norm(x: Doubles, name: str) -> Doubles:
        centred = x - x.mean(-1, keepdims=True)
        scaled: Doubles = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * p[f"{name}.weight"] + p[f"{name}.bias"]

    ids, types = batch["input_ids"][0].numpy(), batch["token_type_ids"][0].numpy()
    x = (
        p["embeddings.word_embeddings.weight"][ids]
        + p["embeddings.position_embeddings.weight"][: len(ids)]
        + p["embeddings.token_type_embeddings.weight"][types]
    )
    x = norm(x, "embeddings.LayerNorm")
    block = "encoder.layer.0"
    q, k, v = (linear(x, f"{block}.attention.self.{name}") for name in ("query", "key", "value"))
    heads = []
    for h in np.split(np.arange(16), 2):
        attention = np.exp(q[:, h] @ k[:, h].T / np.sqrt(8))
        heads.append(attention / attention.sum(-1, keepdims=True) @ v[:, h])
    context = linear(np.concatenate(heads, axis=-1), f"{block}.attention.output.dense")
    x = norm(x + context, f"{block}.attention.output.LayerNorm")
    inner = linear(x, f"{block}.intermediate.dense")
    inner = inner * 0.5 * (1 + np.vectorize(erf)(inner / np.sqrt(2)))
    x = norm(x + linear(inner, f"{block}.output.dense"), f"{block}.output.LayerNorm")
    return np.asarray(linear(np.tanh(linear(x[0], "pooler.dense")), "classifier"))


@pytest.mark.parametrize("kind", ["sequence-classification", "token-classification", "multiple-choice"])
def test_outputs_follow_the_kind(kind: TaskKind, tiny_bert: str) -> None:
    spec = TaskSpec(kind, ("a", "b", "c") if kind != "multiple-choice" else (), max_length=16)
    model = MaskedModel.create(load_base(tiny_bert), spec, MaskSettings(), seed=0).eval()
    ids = torch.tensor([[2, 5, 6, 3], [2, 7, 3, 0]])
    logits = model({"input_ids": ids, "attention_mask": (ids != 0).long()})
    shapes = {"sequence-classification": (2, 3), "token-classification": (2, 4, 3), "multiple-choice": (2, 1)}
    assert tuple(logits.shape) == shapes[kind]


def test_finetuning_learns_every_weight_of_a_copy(tiny_bert: str) -> None:
    base = load_base(tiny_bert)
    model = FinetunedModel.create(base, SPECS["single"], seed=3)
    assert all(parameter.requires_grad for parameter in model.parameters())
    before = model.learned_state()
    train_a_little(model, INPUTS["single"], steps=1)
    changed = {
        name for name, tensor in model.learned_state().items() if not torch.equal(tensor, before[name])
    }
    assert {"encoder.embeddings.word_embeddings.weight", "pooler.weight", "classifier.weight"} <= changed
    assert weights_digest(base_tensors(base.encoder, base.pooler)) == base.info.fingerprint
