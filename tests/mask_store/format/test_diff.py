import numpy as np

from mask_store import MaskBundle, ensemble_of, pack_bits
from mask_store.format.diff import diff_bundles
from tests.support.bundles import (
    HEAD,
    bundle_of,
    ensemble_sample,
    example_mask,
    layer_of,
    manifest_of,
    member_bundles,
    published,
)


def test_a_bundle_and_itself() -> None:
    diff = diff_bundles(bundle_of(), bundle_of())
    assert diff.differing == 0
    assert diff.same_base
    assert diff.same_labels
    assert diff.same_head
    assert diff.same_combine


def test_counts_bits_that_differ() -> None:
    mask = example_mask()
    changed = mask.copy()
    changed[0, :5] ^= True
    diff = diff_bundles(bundle_of({"a": mask, "b": mask}), bundle_of({"a": mask, "b": changed}))
    assert [layer.differing for layer in diff.layers] == [0, 5]
    assert diff.layers[1].sparsity_a == 3 / 40
    assert diff.layers[1].sparsity_b == 6 / 40
    assert diff.layers[1].bits == 40
    assert diff.differing == 5


def test_layers_that_can_not_be_compared() -> None:
    mask = example_mask()
    diff = diff_bundles(bundle_of({"a": mask, "b": mask}), bundle_of({"b": mask.T, "c": mask}))
    assert [(layer.name, layer.differing) for layer in diff.layers] == [("a", None), ("b", None), ("c", None)]
    assert diff.layers[0].sparsity_b is None
    assert diff.layers[2].sparsity_a is None


def test_metrics_of_either() -> None:
    other = bundle_of(metrics={"f1": 0.5}, metric="f1")
    metrics = diff_bundles(bundle_of(metrics={"accuracy": 0.9}), other).metrics
    assert metrics == {"accuracy": (0.9, None), "f1": (None, 0.5)}


def test_labels_base_and_head() -> None:
    first = bundle_of()
    mask = example_mask()
    base = first.manifest.base.model_copy(update={"fingerprint": "sha256:" + "00" * 32})
    manifest = manifest_of((layer_of("pooler.dense", mask),), labels=("x", "y"), base=base)
    head = {name: array + np.float32(1) for name, array in HEAD.items()}
    diff = diff_bundles(first, MaskBundle.create(manifest, {"pooler.dense": pack_bits(mask)}, head))
    assert not diff.same_base
    assert not diff.same_labels
    assert not diff.same_head


def test_members_are_compared_by_their_places() -> None:
    first, second = ((published(bundle), bundle) for bundle in member_bundles())
    one, other = ensemble_of("a", "labels", [first, second]), ensemble_of("a", "logits", [second, first])
    diff = diff_bundles(one, other)
    assert [(layer.name, layer.differing) for layer in diff.layers] == [
        ("00.pooler.dense", 6),
        ("01.pooler.dense", 6),
    ]
    assert not diff.same_head
    assert not diff.same_combine
    assert diff_bundles(one, one).differing == 0


def test_a_task_and_an_ensemble_have_no_layer_in_common() -> None:
    diff = diff_bundles(bundle_of(), ensemble_sample())
    assert [(layer.name, layer.differing) for layer in diff.layers] == [
        ("pooler.dense", None),
        ("00.pooler.dense", None),
        ("01.pooler.dense", None),
    ]
    assert diff.same_base
    assert not diff.same_head
    assert not diff.same_combine
    assert diff.metrics == {"accuracy": (0.9375, 0.96875), "loss": (1e-05, None)}
