import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mask_store import (
    BundleError,
    BundleTooLargeError,
    EnsembleError,
    HeadValueError,
    Limits,
    ManifestError,
    MaskBundle,
    PaddingError,
    ScaleValueError,
    SignManifest,
    TensorSetError,
    TensorShapeError,
    TensorTypeError,
    ensemble_of,
    pack_bits,
    read_bundle,
    unpack_bits,
)
from tests.support.bundles import bundle_of, example_mask, forge, set_item, sign_sample

GOLDEN = Path(__file__).parent / "golden" / "signs.safetensors"
GOLDEN_ROWS = GOLDEN.with_name("signs-rows.safetensors")
ROWS = "row.embeddings.words"
SCALE = "scale.pooler.dense"


class TestGoldenBytes:
    """The file was written once; reader and writer must agree with it for ever."""

    def test_writer(self) -> None:
        assert sign_sample().to_bytes() == GOLDEN.read_bytes()

    def test_reader(self) -> None:
        bundle = read_bundle(GOLDEN)
        (member,) = bundle.members
        np.testing.assert_array_equal(member.masks["pooler.dense"], pack_bits(example_mask()))
        np.testing.assert_array_equal(member.scales["pooler.dense"], np.array([0.25, 0.0], np.float32))
        np.testing.assert_array_equal(member.own["encoder.bias"], np.array([0.5], np.float32))
        assert bundle.manifest == sign_sample().manifest


class TestGoldenRows:
    """Likewise with rows of an embedding."""

    def test_writer(self) -> None:
        assert sign_sample(rows=True).to_bytes() == GOLDEN_ROWS.read_bytes()

    def test_reader(self) -> None:
        bundle = read_bundle(GOLDEN_ROWS)
        (member,) = bundle.members
        np.testing.assert_array_equal(member.rows["embeddings.words"], [[0.5, -1.0], [0.25, 2.0]])
        bits = unpack_bits(member.changed["embeddings.words"], 9)
        assert bits.nonzero()[1].tolist() == [1, 8]
        assert list(member.masks) == ["pooler.dense"]
        manifest = bundle.manifest
        assert manifest == sign_sample(rows=True).manifest
        assert isinstance(manifest, SignManifest)
        assert (manifest.mask_bits, manifest.sign_bytes) == (40, 4 + 8 + 16 + 2)


def test_numbers_are_immutable() -> None:
    (member,) = sign_sample().members
    with pytest.raises(ValueError, match="read-only"):
        member.scales["pooler.dense"][0] = 1
    with pytest.raises(TypeError):
        member.own["x"] = member.own["encoder.bias"]  # type: ignore[index]


def test_masks_have_no_scales() -> None:
    (member,) = bundle_of().members
    assert (dict(member.scales), dict(member.own)) == ({}, {})


def test_a_copy_that_is_the_base_has_no_signs() -> None:
    fields = {"kind": "embedding", "labels": (), "pooling": "cls", "head_activation": None, "head": ()}
    manifest = SignManifest(**{**dict(sign_sample().manifest), **fields, "layers": (), "own": ()})
    bundle = MaskBundle.create_signs(manifest, {}, scales={}, own={}, head={})
    read = MaskBundle.from_bytes(bundle.to_bytes())
    assert read.manifest == manifest
    assert (read.manifest.mask_bits, read.manifest.sparsity, read.manifest.pooling) == (0, 0.0, "cls")
    (member,) = read.members
    assert (dict(member.masks), dict(member.scales), dict(member.own), dict(member.head)) == ({}, {}, {}, {})


def scale(value: float) -> Callable[[bytearray], None]:
    def change(data: bytearray) -> None:
        data[-8:-4] = struct.pack("<f", value)

    return change


def words(manifest: dict[str, Any]) -> None:
    manifest["kind"] = "token-classification"


def drop_scales(fields: dict[str, Any]) -> None:
    del fields[SCALE]


ATTACKS: dict[str, tuple[type[BundleError], dict[str, Callable[[Any], Any]]]] = {
    "scale below zero": (ScaleValueError, {"data": scale(-0.5)}),
    "scale of minus zero": (ScaleValueError, {"data": scale(-0.0)}),
    "scale that is no number": (HeadValueError, {"data": scale(float("nan"))}),
    "scales of another number of rows": (TensorShapeError, {"fields": set_item(SCALE, "shape", to=[2, 1])}),
    "scales of another dtype": (TensorTypeError, {"fields": set_item(SCALE, "dtype", to="I32")}),
    "scales missing": (
        TensorSetError,
        {"fields": drop_scales, "data": lambda data: data.__delitem__(slice(-8, None))},
    ),
    "bits and zeros disagree": (ManifestError, {"manifest": set_item("layers", 0, "zeros", to=4)}),
    "learned fields": (ManifestError, {"manifest": set_item("seed", to=0)}),
    "flipped bits": (ManifestError, {"manifest": set_item("layers", 0, "flipped", to=0)}),
    "activation of a head that it has not": (ManifestError, {"manifest": words}),
    "unknown activation": (ManifestError, {"manifest": set_item("head_activation", to="swish")}),
    "copy without fingerprint": (ManifestError, {"manifest": set_item("copied", "fingerprint", to="")}),
    "no signs and own tensors": (ManifestError, {"manifest": set_item("layers", to=[])}),
    "own tensors missing": (TensorSetError, {"manifest": set_item("own", to=[])}),
    "pooling of a classifier": (ManifestError, {"manifest": set_item("pooling", to="mean")}),
    "own tensor twice": (ManifestError, {"manifest": lambda m: m["own"].append(m["own"][0])}),
}


def wider(manifest: dict[str, Any]) -> None:
    manifest["embeddings"][0]["width"] = 3


ATTACKS_ON_ROWS: dict[str, tuple[type[BundleError], dict[str, Callable[[Any], Any]]]] = {
    "rows of another width": (TensorShapeError, {"manifest": wider}),
    "another number of rows": (ManifestError, {"manifest": set_item("embeddings", 0, "zeros", to=9)}),
    "more rows than bits": (TensorShapeError, {"manifest": set_item("embeddings", 0, "zeros", to=6)}),
    "two rows of bits": (ManifestError, {"manifest": set_item("embeddings", 0, "rows", to=2)}),
    "no width": (ManifestError, {"manifest": set_item("embeddings", 0, "width", to=0)}),
    "the name of a layer": (
        ManifestError,
        {"manifest": set_item("embeddings", 0, "name", to="pooler.dense")},
    ),
    "no rows after all": (ManifestError, {"manifest": set_item("embeddings", to=None)}),
    "a list of none": (TensorSetError, {"manifest": set_item("embeddings", to=[])}),
    "rows without signs": (
        ManifestError,
        {"manifest": lambda m: m.update(layers=[], own=[])},
    ),
    "another dtype": (TensorTypeError, {"fields": set_item(ROWS, "dtype", to="I32")}),
    "a bit after the last row": (PaddingError, {"data": lambda data: data.__setitem__(9, 0b11)}),
}


@pytest.mark.parametrize("name", ATTACKS_ON_ROWS)
def test_attack_on_rows(name: str) -> None:
    error, changes = ATTACKS_ON_ROWS[name]
    with pytest.raises(BundleError) as caught:
        MaskBundle.from_bytes(forge(sign_sample(rows=True), **changes))
    assert type(caught.value) is error, str(caught.value)


def test_rows_that_are_no_numbers_are_refused() -> None:
    def change(data: bytearray) -> None:
        data[-24:-20] = struct.pack("<f", float("nan"))  # rows, then two scales

    with pytest.raises(HeadValueError, match=r"rows of 'embeddings.words': expected finite numbers"):
        MaskBundle.from_bytes(forge(sign_sample(rows=True), data=change))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack(name: str) -> None:
    error, changes = ATTACKS[name]
    with pytest.raises(BundleError) as caught:
        MaskBundle.from_bytes(forge(sign_sample(), **changes))
    assert type(caught.value) is error, str(caught.value)


def test_masks_may_not_bring_scales() -> None:
    def add(fields: dict[str, Any]) -> None:
        end = max(entry["data_offsets"][1] for name, entry in fields.items() if name != "__metadata__")
        fields[SCALE] = {"dtype": "F32", "shape": [1], "data_offsets": [end, end + 4]}

    with pytest.raises(TensorSetError, match="not in the manifest"):
        MaskBundle.from_bytes(forge(bundle_of(), fields=add, data=lambda data: data.extend(bytes(4))))


@pytest.mark.parametrize("limit", [{"tensors": 3}, {"total": 25}])
def test_numbers_count_against_the_limits(limit: dict[str, int]) -> None:
    assert MaskBundle.from_bytes(sign_sample().to_bytes(), limits=Limits(tensors=4, total=26))
    with pytest.raises(BundleTooLargeError):
        MaskBundle.from_bytes(sign_sample().to_bytes(), limits=Limits(**limit))


def test_an_ensemble_has_no_signs() -> None:
    with pytest.raises(EnsembleError, match="signs"):
        ensemble_of("together", "labels", [(None, bundle_of()), (None, sign_sample())])
