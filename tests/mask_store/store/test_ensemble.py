import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from mask_store import (
    BaseInfo,
    BundleError,
    BundleTooLargeError,
    ChecksumError,
    CombineRule,
    EnsembleError,
    EnsembleManifest,
    HeadValueError,
    InvalidTaskNameError,
    LearnedInfo,
    Limits,
    ManifestError,
    MaskBundle,
    MaskCodingError,
    MaskStore,
    NonCanonicalError,
    PaddingError,
    RiceEncoding,
    TaskManifest,
    TensorSetError,
    TensorShapeError,
    TensorTypeError,
    TruncatedBundleError,
    UnknownTaskError,
    UnknownVersionError,
    ZeroCountError,
    ensemble_of,
    pack_bits,
    read_bundle,
)
from mask_store.format.manifest import read_document, write_document
from tests.support.bundles import (
    bundle_of,
    ensemble_sample,
    example_mask,
    forge,
    member_bundles,
    published,
    rewrite,
    set_item,
    take_apart,
    version_bundle,
)

GOLDEN = Path(__file__).parents[1] / "format" / "golden"
DIGESTS = {
    "bits": "sha256:df0789e4d2e58a220d2864585024e2f5749f5d99b5757fcd19c8cd7ea2ae669d",
    "rice": "sha256:d107369a456b95db9f60f6b1668e6f07c4c0fd4a03e88d8d15965db381f1b284",
}
HEADS = "00000000" + "0000803f" + "00000040" + "00004040"
DATA = {"bits": HEADS + "f7ff0dfffd0f" + "fffd0ff7ff0d", "rice": HEADS + "9137" + "2a6901"}


def manifest_of(bundle: MaskBundle) -> EnsembleManifest:
    assert isinstance(bundle.manifest, EnsembleManifest)
    return bundle.manifest


@pytest.mark.parametrize(("name", "compress"), [("bits", False), ("rice", True)])
class TestGoldenBytes:
    """The files in golden/ were written once; reader and writer must agree with them for ever."""

    def test_writer(self, name: str, compress: bool) -> None:
        written = ensemble_sample(compress=compress).to_bytes()
        assert written == (GOLDEN / f"ensemble-{name}.safetensors").read_bytes()

    def test_reader(self, name: str, compress: bool) -> None:
        bundle = read_bundle(GOLDEN / f"ensemble-{name}.safetensors")
        assert bundle.manifest == ensemble_sample(compress=compress).manifest
        assert bundle.combine == "probabilities"
        for member, source in zip(bundle.members, member_bundles(), strict=True):
            (alone,) = source.members
            np.testing.assert_array_equal(member.masks["pooler.dense"], alone.masks["pooler.dense"])
            np.testing.assert_array_equal(member.head["classifier.bias"], alone.head["classifier.bias"])

    def test_digest(self, name: str, compress: bool) -> None:
        assert ensemble_sample(compress=compress).digest == DIGESTS[name]

    def test_data_section(self, name: str, compress: bool) -> None:
        header, section = take_apart(ensemble_sample(compress=compress).to_bytes())
        assert section.hex() == DATA[name]
        assert list(header)[1:] == [
            "head.00.classifier.bias",
            "head.01.classifier.bias",
            "mask.00.pooler.dense",
            "mask.01.pooler.dense",
        ]

    def test_is_what_the_safetensors_package_writes(self, name: str, compress: bool) -> None:
        data = ensemble_sample(compress=compress).to_bytes()
        header, _ = take_apart(data)
        tensors = safetensors.numpy.load(data)
        assert safetensors.numpy.save(tensors, metadata=header["__metadata__"]) == data


class TestManifest:
    def test_a_task_has_itself_as_its_only_learned_set(self) -> None:
        manifest = bundle_of().manifest
        assert isinstance(manifest, TaskManifest)
        assert manifest.learned == {"": manifest}
        assert bundle_of().combine is None

    def test_members_carry_what_they_learned_and_where_they_come_from(self) -> None:
        for number, (member, bundle) in enumerate(
            zip(manifest_of(ensemble_sample()).members, member_bundles(), strict=True), 3
        ):
            assert (member.version, member.digest) == (number, bundle.digest)
            for field in LearnedInfo.model_fields:
                assert getattr(member, field) == getattr(bundle.manifest, field), field

    def test_sizes_are_those_of_all_members(self) -> None:
        manifest = ensemble_sample().manifest
        assert isinstance(manifest, EnsembleManifest)
        parts = [bundle.manifest for bundle in member_bundles()]
        for size in ("mask_bits", "mask_bytes", "head_bytes", "finetuned_bytes"):
            assert getattr(manifest, size) == sum(getattr(part, size) for part in parts), size
        assert manifest.finetuned_bytes == 2 * (4 * 109_482_240 + 8)
        assert manifest.sparsity == manifest.initial_sparsity == 6 / 80
        assert manifest.flipped_share == 0

    def test_json_comes_back(self) -> None:
        manifest = ensemble_sample().manifest
        assert read_document(write_document("", manifest.to_json()), Limits())[1] == manifest

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"combine": "median"}, "combine"),
            ({"members": ()}, "at least 2 items"),
            ({"format_version": 1}, "format_version"),
            ({"labels": ("only",)}, "at least 2 labels"),
            ({"seed": 0}, "seed"),
        ],
    )
    def test_refuses(self, changes: dict[str, Any], message: str) -> None:
        fields = dict(manifest_of(ensemble_sample()))
        with pytest.raises(ValidationError, match=message):
            EnsembleManifest(**(fields | changes))


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(
        st.lists(st.tuples(st.integers(1, 6), st.integers(1, 30), st.floats(0, 1)), min_size=1, max_size=3),
        min_size=2,
        max_size=12,
    ),
    st.sampled_from(get_args(CombineRule)),
)
def test_round_trip(seed: int, members: list[list[tuple[int, int, float]]], combine: CombineRule) -> None:
    rng = np.random.default_rng(seed)
    bundles = [
        bundle_of(
            {f"{i}.layer": rng.random((rows, cols)) >= p for i, (rows, cols, p) in enumerate(layers)},
            seed=number,
        )
        for number, layers in enumerate(members)
    ]
    made = ensemble_of("together", combine, [(published(bundle), bundle) for bundle in bundles])
    again = MaskBundle.from_bytes(made.to_bytes())
    assert again.manifest == made.manifest
    assert again.to_bytes() == made.to_bytes()
    assert again.combine == combine
    for member, bundle in zip(again.members, bundles, strict=True):
        (alone,) = bundle.members
        assert member.info.layers == alone.info.layers
        assert list(member.masks) == list(alone.masks)
        for name, mask in alone.masks.items():
            np.testing.assert_array_equal(member.masks[name], mask)


SECOND = ("members", 1)
LAYER = (*SECOND, "layers", 0)
MASK, BIAS = "mask.01.pooler.dense", "head.01.classifier.bias"


def bits() -> MaskBundle:
    return ensemble_sample(compress=False)


def rice() -> MaskBundle:
    return ensemble_sample()


def repeat_members(times: int) -> Callable[[dict[str, Any]], None]:
    """Members with digests of their own, in the manifest alone."""

    def change(manifest: dict[str, Any]) -> None:
        first = manifest["members"][0]
        manifest["members"] = [first | {"digest": f"sha256:{number:064x}"} for number in range(times)]

    return change


def rename(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(header: dict[str, Any]) -> None:
        moved = {new if name == old else name: header.pop(name) for name in list(header)}
        header.update(moved)

    return change


def with_big_layers(manifest: dict[str, Any]) -> None:
    """Each layer within the limit, each member too, all together over it."""
    for member in manifest["members"]:
        layer = member["layers"][0] | {"rows": 2**14, "columns": 2**15, "zeros": 0, "initial_zeros": 0}
        layer["encoding"] = {"name": "rice", "parameter": 0, "symbol": 0, "count": 0}
        member["layers"] = [layer | {"name": f"l{number}"} for number in range(9)]


ATTACKS: dict[str, tuple[type[BundleError], Callable[[], bytes]]] = {
    "one member": (ManifestError, lambda: forge(bits(), manifest=repeat_members(1))),
    "65 members": (ManifestError, lambda: forge(bits(), manifest=repeat_members(65))),
    "no members": (ManifestError, lambda: forge(bits(), manifest=lambda m: m.pop("members"))),
    "one bundle as two members": (
        ManifestError,
        lambda: forge(bits(), manifest=lambda m: m["members"][1].update(digest=m["members"][0]["digest"])),
    ),
    "a member that is an ensemble": (
        ManifestError,
        lambda: forge(bits(), manifest=lambda m: m["members"].append({**m, "members": m["members"][:]})),
    ),
    "a member with labels of its own": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item(*SECOND, "labels", to=["x", "y"])),
    ),
    "a member without its source": (ManifestError, lambda: forge(bits(), manifest=drop_version)),
    "a member of version 0": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item(*SECOND, "version", to=0)),
    ),
    "unknown rule": (ManifestError, lambda: forge(bits(), manifest=set_item("combine", to="median"))),
    "rule that is a list": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item("combine", to=["labels"])),
    ),
    "an ensemble that says version 1": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item("format_version", to=1)),
    ),
    "a task that says version 2": (
        ManifestError,
        lambda: forge(bundle_of(), manifest=set_item("format_version", to=2)),
    ),
    "a task with members beside its own masks": (
        ManifestError,
        lambda: forge(bundle_of(), manifest=set_item("members", to=[])),
    ),
    "an ensemble with masks beside its members": (
        ManifestError,
        lambda: forge(bits(), manifest=lambda m: m.update(layers=m["members"][0]["layers"])),
    ),
    "a layer twice in a member": (ManifestError, lambda: forge(bits(), manifest=repeat_layer)),
    "more zeros than bits in a member": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item(*LAYER, "zeros", to=41)),
    ),
    "a member's tensors lack": (TensorSetError, lambda: forge(bits(), manifest=repeat_members(3))),
    "tensors of a member too many": (
        TensorSetError,
        lambda: forge(bits(), fields=rename(MASK, "mask.02.pooler.dense")),
    ),
    "member's number with one digit": (
        TensorSetError,
        lambda: forge(bits(), fields=rename(MASK, "mask.1.pooler.dense")),
    ),
    "mask that belongs to no member": (
        TensorSetError,
        lambda: forge(bits(), fields=rename(MASK, "mask.pooler.dense")),
    ),
    "layer terabytes large in a member": (
        BundleTooLargeError,
        lambda: forge(rice(), manifest=set_item(*LAYER, "rows", to=10**11)),
    ),
    "members each within the limit, together over it": (
        BundleTooLargeError,
        lambda: forge(rice(), manifest=with_big_layers),
    ),
    "cut in the last member": (TruncatedBundleError, lambda: bits().to_bytes()[:-1]),
    "tensors of members in another order": (
        NonCanonicalError,
        lambda: rewrite(bits().to_bytes(), lambda f: f.update({BIAS: f.pop(BIAS)})),
    ),
    "a bit of the last member flipped": (
        ChecksumError,
        lambda: bits().to_bytes()[:-1] + bytes([bits().to_bytes()[-1] ^ 1]),
    ),
    "mask of another dtype": (
        TensorTypeError,
        lambda: forge(bits(), fields=set_item(MASK, "dtype", to="I8")),
    ),
    "head of another dtype": (
        TensorTypeError,
        lambda: forge(bits(), fields=set_item(BIAS, "dtype", to="I32")),
    ),
    "mask of another shape": (
        TensorShapeError,
        lambda: forge(bits(), fields=set_item(MASK, "shape", to=[3, 2])),
    ),
    "head of another shape": (
        TensorShapeError,
        lambda: forge(bits(), fields=set_item(BIAS, "shape", to=[2, 1])),
    ),
    "padding of a member's row": (PaddingError, lambda: forge(bits(), data=set_item(-1, to=0xFF))),
    "one zero too few in a member": (ZeroCountError, lambda: forge(bits(), data=set_item(-3, to=0xFF))),
    "coded bit beyond a member's mask": (
        MaskCodingError,
        lambda: forge(rice(), manifest=set_item(*LAYER, "rows", to=1)),
    ),
    "NaN in a member's head": (
        HeadValueError,
        lambda: forge(bits(), data=set_item(slice(8, 12), to=b"\0\0\xc0\x7f")),
    ),
}


def repeat_layer(manifest: dict[str, Any]) -> None:
    manifest["members"][1]["layers"] *= 2


def drop_version(manifest: dict[str, Any]) -> None:
    del manifest["members"][1]["version"]


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_file(name: str) -> None:
    error, make = ATTACKS[name]
    with pytest.raises(BundleError) as caught:
        MaskBundle.from_bytes(make())
    assert type(caught.value) is error, str(caught.value)
    assert "\n" not in str(caught.value)


def test_errors_name_the_member() -> None:
    with pytest.raises(ZeroCountError, match=r"mask '01\.pooler\.dense': expected 3 zeros, found 2"):
        MaskBundle.from_bytes(forge(bits(), data=set_item(-3, to=0xFF)))
    with pytest.raises(ManifestError, match=r"members\.1\.layers\.0: Value error, zeros 41"):
        MaskBundle.from_bytes(forge(bits(), manifest=set_item(*LAYER, "zeros", to=41)))


def test_forging_nothing_gives_the_same_file() -> None:
    assert forge(bits()) == bits().to_bytes()


def test_every_shorter_file_is_refused() -> None:
    data = rice().to_bytes()
    for length in range(len(data)):
        with pytest.raises(TruncatedBundleError):
            MaskBundle.from_bytes(data[:length])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_every_flipped_bit_is_refused(draw: st.DataObject) -> None:
    changed = bytearray(rice().to_bytes())
    place, bit = draw.draw(st.integers(0, len(changed) - 1)), draw.draw(st.integers(0, 7))
    changed[place] ^= 1 << bit
    with pytest.raises(BundleError):
        MaskBundle.from_bytes(bytes(changed))


class TestCreate:
    def test_wrong_number_of_members(self) -> None:
        made = ensemble_sample()
        (first, _) = made.members
        with pytest.raises(TensorSetError, match="expected tensors of 2 members, found 1"):
            MaskBundle.create_ensemble(manifest_of(made), [(first.masks, first.head)])

    def test_a_member_that_is_not_what_the_manifest_says(self) -> None:
        made = ensemble_sample()
        first, second = ((member.masks, member.head) for member in made.members)
        packed = {"pooler.dense": pack_bits(~example_mask())}
        with pytest.raises(ZeroCountError, match=r"'01\.pooler\.dense': expected 3 zeros, found 37"):
            MaskBundle.create_ensemble(manifest_of(made), [first, (packed, second[1])])
        with pytest.raises(TensorSetError, match=r"not in the bundle: head\.01\.classifier\.bias"):
            MaskBundle.create_ensemble(manifest_of(made), [first, (second[0], {})])

    def test_members_are_coded_one_by_one(self) -> None:
        rng = np.random.default_rng(0)
        masks = [rng.random((20, 40)) > 0.05, rng.random((20, 40)) > 0.5]
        bundles = [bundle_of({"a": mask}, compress=False) for mask in masks]
        made = ensemble_of("together", "logits", [(published(bundle), bundle) for bundle in bundles])
        encodings = [member.info.layers[0].encoding for member in made.members]
        assert [isinstance(encoding, RiceEncoding) for encoding in encodings] == [True, False]


def other_base(**changes: Any) -> BaseInfo:
    return bundle_of().manifest.base.model_copy(update=changes)


class TestEnsembleOf:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"base": other_base(fingerprint="sha256:" + "00" * 32)}, "differ in base: .*abab.*0000"),
            ({"kind": "token-classification"}, "differ in kind: .*has sequence-.*has token-classification"),
            ({"pair": True}, "differ in pair: .*has False.*has True"),
            ({"labels": ("good", "bad")}, r"differ in labels: .*'gut ü'\).*\('good', 'bad'\)"),
            ({"max_length": 64}, "differ in longest input: .*has 128.*has 64"),
        ],
    )
    def test_says_what_differs(self, changes: dict[str, Any], message: str) -> None:
        first, other = bundle_of(), bundle_of(task="other", **changes)
        with pytest.raises(EnsembleError, match=message) as caught:
            ensemble_of("together", "logits", [(published(first), first), (published(other, 7), other)])
        assert "task 'demo' version 1 has" in str(caught.value)
        assert "task 'other' version 7 has" in str(caught.value)

    def test_a_base_may_go_by_several_names(self) -> None:
        first, other = bundle_of(), bundle_of(base=other_base(name="/models/bert", revision="main"))
        made = ensemble_of("together", "logits", [(published(first), first), (published(other), other)])
        assert made.manifest.base == first.manifest.base

    def test_a_member_that_knows_the_weights_alone_goes_with_one_that_knows_more(self) -> None:
        parts = {"tokenizer": "sha256:" + "11" * 32, "configuration": "sha256:" + "22" * 32}
        old, new = bundle_of(), bundle_of(base=other_base(**parts))
        third = bundle_of(task="third", base=other_base(**parts | {"tokenizer": parts["configuration"]}))
        made = ensemble_of("together", "logits", [(published(old), old), (published(new), new)])
        assert made.manifest.base == new.manifest.base
        members = [(published(bundle), bundle) for bundle in (old, new, third)]
        with pytest.raises(EnsembleError, match=r"differ in base: .*tokenizer sha256:11.* sha256:22"):
            ensemble_of("together", "logits", members)

    @pytest.mark.parametrize("count", [0, 1, 65])
    def test_number_of_members(self, count: int) -> None:
        members = [(published(bundle), bundle) for bundle in map(seeded, range(count))]
        with pytest.raises(EnsembleError, match=f"2 to 64 members, found {count}"):
            ensemble_of("together", "labels", members)

    def test_64_members(self) -> None:
        members = [(published(bundle), bundle) for bundle in map(seeded, range(64))]
        made = MaskBundle.from_bytes(ensemble_of("together", "labels", members).to_bytes())
        assert isinstance(made.manifest, EnsembleManifest)
        assert [member.seed for member in made.manifest.members] == list(range(64))

    def test_members_that_were_never_published(self) -> None:
        bundles = [seeded(0), seeded(1)]
        made = ensemble_of("together", "labels", [(None, bundle) for bundle in bundles])
        again = manifest_of(MaskBundle.from_bytes(made.to_bytes()))
        assert [(member.version, member.digest) for member in again.members] == [
            (None, bundle.digest) for bundle in bundles
        ]
        assert [str(member) for member in again.members] == ["task 'demo' seed 0", "task 'demo' seed 1"]
        with pytest.raises(EnsembleError, match="task 'demo' seed 0 and task 'demo' seed 0 are one bundle"):
            ensemble_of("together", "labels", [(None, bundles[0])] * 2)

    def test_one_bundle_twice(self) -> None:
        members = [(published(bundle_of(), number), bundle_of()) for number in (1, 4)]
        with pytest.raises(EnsembleError, match="version 1 and task 'demo' version 4 are one bundle"):
            ensemble_of("together", "labels", members)

    def test_an_ensemble_as_a_member(self) -> None:
        members = [(published(bundle), bundle) for bundle in (bundle_of(), ensemble_sample())]
        with pytest.raises(EnsembleError, match="'together' version 1 is an ensemble itself"):
            ensemble_of("more", "labels", members)


def seeded(seed: int) -> MaskBundle:
    return version_bundle(seed=seed)


class TestStore:
    @pytest.fixture
    def filled(self, store: MaskStore) -> MaskStore:
        """Three versions of demo, one of other."""
        for seed in range(3):
            store.publish(version_bundle(seed=seed))
        store.publish(version_bundle("other", seed=9))
        return store

    def test_publishes_copies_of_versions_and_current_ones(self, filled: MaskStore) -> None:
        version = filled.publish_ensemble(
            "together", "labels", [("demo", 1), ("demo", None), ("other", None)], metrics={"accuracy": 0.5}
        )
        assert (version.task, version.number) == ("together", 1)
        made = filled.load("together")
        assert made.combine == "labels"
        assert made.manifest.metrics == {"accuracy": 0.5}
        sources = [(m.task, m.version, m.seed) for m in manifest_of(made).members]
        assert sources == [("demo", 1, 0), ("demo", 3, 2), ("other", 1, 9)]

    def test_outlives_its_members(self, filled: MaskStore) -> None:
        filled.publish_ensemble("together", "logits", [("demo", 1), ("other", 1)])
        before = filled.load("together").digest
        filled.delete("demo")
        filled.delete("other")
        assert filled.load("together").digest == before
        assert filled.verify() == ()

    def test_is_a_version_like_any_other(self, filled: MaskStore) -> None:
        version = filled.publish_ensemble("demo", "logits", [("demo", 1), ("demo", 2)])
        assert version.number == 4
        assert filled.rollback("demo").number == 3
        assert filled.load("demo").combine is None
        assert filled.load("demo", 4).combine == "logits"

    @pytest.mark.parametrize(
        ("task", "members", "error"),
        [
            ("Together", [("demo", 1), ("demo", 2)], InvalidTaskNameError),
            ("together", [("demo", 1), ("nosuch", None)], UnknownTaskError),
            ("together", [("demo", 1), ("demo", 9)], UnknownVersionError),
            ("together", [("demo", 1)], EnsembleError),
        ],
    )
    def test_publishes_nothing_where_something_is_wrong(
        self, filled: MaskStore, task: str, members: list[tuple[str, int | None]], error: type[Exception]
    ) -> None:
        with pytest.raises(error):
            filled.publish_ensemble(task, "labels", members)
        assert filled.tasks() == ("demo", "other")

    def test_what_readers_would_refuse_as_too_large_is_not_published(self, folder: Path) -> None:
        store = MaskStore.open(folder, limits=Limits(total=80))
        for seed in range(4):
            store.publish(version_bundle(seed=seed))
        store.publish_ensemble("three", "labels", [("demo", number) for number in (1, 2, 3)])
        with pytest.raises(BundleTooLargeError, match=re.escape("masks and head: 80 bytes")):
            MaskStore.open(folder, limits=Limits(total=79)).publish_ensemble(
                "four", "labels", [("demo", number) for number in (1, 2, 3, 4)]
            )
        assert "four" not in store.tasks()
