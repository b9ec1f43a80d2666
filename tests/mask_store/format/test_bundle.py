import hashlib
import inspect
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mask_store
from mask_store import (
    BitsEncoding,
    BundleError,
    BundleTooLargeError,
    ChecksumError,
    FormatVersionError,
    HeaderError,
    HeadTensorInfo,
    HeadValueError,
    Limits,
    ManifestError,
    MaskBundle,
    MaskCodingError,
    NonCanonicalError,
    NotABundleError,
    PaddingError,
    RiceEncoding,
    ScaleValueError,
    StoreFullError,
    StoreNotWritableError,
    TensorLayoutError,
    TensorSetError,
    TensorShapeError,
    TensorTypeError,
    TrailingBytesError,
    TruncatedBundleError,
    ZeroCountError,
    ensemble_of,
    pack_bits,
    read_bundle,
    write_bundle,
)
from mask_store.format.bits import PackedArray
from mask_store.format.bundle import digest_of
from mask_store.format.rice import decode_rice
from tests.support.bundles import (
    EVALUATION,
    HEAD,
    bundle_of,
    canonical,
    example_mask,
    forge,
    layer_of,
    manifest_of,
    published,
    put_together,
    rewrite,
    seal,
    set_item,
    sign_sample,
    take_apart,
)

GOLDEN = Path(__file__).parent / "golden"
DIGESTS = {
    "bits": "sha256:9c301b262eaffbb20e1f6d36ff9df71a521097f4e8eebfe585cea8f683b7bc5f",
    "rice": "sha256:8deaee27e7961271ee4c15a27e9d9a8dd017844ca105c78c69d072636beeca55",
}
EXAMPLE = manifest_of((layer_of("pooler.dense", example_mask()),))
DATA = {
    "bits": "00000000" + "0000803f" + "f7ff0d" + "fffd0f",
    "rice": "00000000" + "0000803f" + "9137",
}


@pytest.mark.parametrize(("name", "compress"), [("bits", False), ("rice", True)])
class TestGoldenBytes:
    """The files in golden/ were written once; reader and writer must agree with them for ever."""

    def test_writer(self, name: str, compress: bool) -> None:
        assert bundle_of(compress=compress).to_bytes() == (GOLDEN / f"{name}.safetensors").read_bytes()

    def test_reader(self, name: str, compress: bool) -> None:
        bundle = read_bundle(GOLDEN / f"{name}.safetensors")
        (member,) = bundle.members
        np.testing.assert_array_equal(member.masks["pooler.dense"], pack_bits(example_mask()))
        np.testing.assert_array_equal(member.head["classifier.bias"], HEAD["classifier.bias"])
        assert bundle.manifest == bundle_of(compress=compress).manifest

    def test_digest(self, name: str, compress: bool) -> None:
        assert bundle_of(compress=compress).digest == DIGESTS[name]

    def test_data_section(self, name: str, compress: bool) -> None:
        assert take_apart(bundle_of(compress=compress).to_bytes())[1].hex() == DATA[name]


def test_masks_may_be_decoded_by_another_function() -> None:
    (member,) = bundle_of(compress=True).members
    asked: list[tuple[int, int]] = []

    def decode(stream: PackedArray, encoding: RiceEncoding, rows: int, columns: int) -> PackedArray:
        asked.append((rows, columns))
        return decode_rice(stream, encoding, rows, columns)

    coded = [layer for layer in member.info.layers if isinstance(layer.encoding, RiceEncoding)]
    masks = member.masks.decoded_by(decode)
    assert masks.keys() == member.masks.keys()
    for name, packed in masks.items():
        np.testing.assert_array_equal(packed, member.masks[name])
        assert not packed.flags.writeable
    assert asked == [(layer.rows, layer.columns) for layer in coded] != []


class TestIdentityOfTheBase:
    """Bundles of 0.1.0, as the files in golden/, know a base by its weights; later ones by more."""

    PARTS: ClassVar = {"tokenizer": "sha256:" + "12" * 32, "configuration": "sha256:" + "34" * 32}
    PATH = GOLDEN / "identity.safetensors"

    def bundle(self) -> MaskBundle:
        return bundle_of(base=EXAMPLE.base.model_copy(update=self.PARTS))

    def test_is_written_and_read_for_ever(self) -> None:
        assert self.bundle().to_bytes() == self.PATH.read_bytes()
        assert read_bundle(self.PATH).manifest == self.bundle().manifest
        assert read_bundle(GOLDEN / "rice.safetensors").manifest.base.tokenizer is None

    @pytest.mark.parametrize(
        "change",
        [
            lambda manifest: manifest["base"].pop("tokenizer"),
            lambda manifest: manifest["base"].update(tokenizer=None, configuration=None),
            lambda manifest: manifest["base"].update(tokenizer="sha256:1"),
        ],
    )
    def test_is_complete_or_absent(self, change: Callable[[dict[str, Any]], Any]) -> None:
        with pytest.raises(ManifestError):
            MaskBundle.from_bytes(forge(self.bundle(), manifest=change))


class TestEvaluation:
    """What a manifest says of the dev set may be missing, and is written in one way."""

    PATH = GOLDEN / "evaluation.safetensors"

    def test_is_written_and_read_for_ever(self) -> None:
        bundle = bundle_of(evaluation=EVALUATION)
        assert bundle.to_bytes() == self.PATH.read_bytes()
        assert read_bundle(self.PATH).manifest.evaluation == EVALUATION
        assert read_bundle(GOLDEN / "rice.safetensors").manifest.evaluation is None

    @pytest.mark.parametrize(
        "change",
        [
            set_item("evaluation", to=None),
            set_item("evaluation", "metric", to="f1"),
            set_item("evaluation", "examples", to=0),
            set_item("evaluation", "classes", 0, "f1", to=1.5),
            set_item("evaluation", "confusion", 0, to=[1]),
            set_item("evaluation", "confusion", to=[[1, 2]]),
            lambda manifest: manifest["evaluation"]["classes"].pop(),
        ],
    )
    def test_refuses_what_contradicts_itself(self, change: Callable[[dict[str, Any]], Any]) -> None:
        with pytest.raises((ManifestError, NonCanonicalError)):
            MaskBundle.from_bytes(forge(bundle_of(evaluation=EVALUATION), manifest=change))

    @pytest.mark.parametrize("bundle", [bundle_of(evaluation=EVALUATION), sign_sample()])
    def test_can_be_added_to_a_bundle(self, bundle: MaskBundle) -> None:
        measured = bundle.evaluated({"accuracy": 0.75, "f1": 0.5}, EVALUATION)
        read = MaskBundle.from_bytes(measured.to_bytes())
        assert read.manifest.evaluation == EVALUATION
        assert read.manifest.metrics == {**bundle.manifest.metrics, "accuracy": 0.75, "f1": 0.5}
        fields = {"evaluation": bundle.manifest.evaluation, "metrics": bundle.manifest.metrics}
        assert read.manifest.model_copy(update=fields) == bundle.manifest
        (before,), (after,) = bundle.members, read.members
        for part in ("masks", "head", "scales", "own"):
            ours, theirs = getattr(before, part), getattr(after, part)
            assert list(ours) == list(theirs)
            assert all(np.array_equal(ours[name], theirs[name]) for name in ours)

    def test_of_another_metric_is_refused(self) -> None:
        with pytest.raises(ValueError, match="is not among metrics"):
            sign_sample().evaluated({"f1": 0.5}, EVALUATION)


class TestHeadActivation:
    """What a learned manifest says of the head may be missing, which is tanh; so it is in earlier bundles."""

    def test_is_read(self) -> None:
        bundle = MaskBundle.from_bytes(bundle_of(head_activation="gelu-norm").to_bytes())
        assert bundle.members[0].info.head_activation == "gelu-norm"
        assert read_bundle(GOLDEN / "rice.safetensors").members[0].info.head_activation is None

    def test_goes_into_an_ensemble(self) -> None:
        parts = [bundle_of(head_activation="relu"), bundle_of(seed=1)]
        pairs = [(published(one, number), one) for number, one in enumerate(parts, 1)]
        read = MaskBundle.from_bytes(ensemble_of("together", "logits", pairs, metrics={}).to_bytes())
        assert [member.info.head_activation for member in read.members] == ["relu", None]
        assert read.manifest.to_json().count("head_activation") == 1

    @pytest.mark.parametrize("activation", [None, "swish"])
    def test_refuses_others(self, activation: str | None) -> None:
        forged = forge(bundle_of(head_activation="relu"), manifest=set_item("head_activation", to=activation))
        with pytest.raises((ManifestError, NonCanonicalError)):
            MaskBundle.from_bytes(forged)


class TestCreate:
    def test_chooses_the_shorter_encoding_for_each_layer(self) -> None:
        rng = np.random.default_rng(0)
        masks = {"sparse": rng.random((20, 40)) > 0.05, "even": rng.random((20, 40)) > 0.5}
        (member,) = bundle_of(masks).members
        encodings = [layer.encoding for layer in member.info.layers]
        assert [type(encoding) for encoding in encodings] == [RiceEncoding, BitsEncoding]
        (raw,) = bundle_of(masks, compress=False).members
        assert {layer.encoding for layer in raw.info.layers} == {BitsEncoding()}

    def test_is_immutable(self) -> None:
        (member,) = bundle_of().members
        with pytest.raises(ValueError, match="read-only"):
            member.masks["pooler.dense"][0] = 0
        with pytest.raises(ValueError, match="read-only"):
            member.head["classifier.bias"][0] = 0
        with pytest.raises(TypeError):
            member.masks["x"] = member.masks["pooler.dense"]  # type: ignore[index]

    def test_does_not_share_memory_with_its_arguments(self) -> None:
        packed = pack_bits(example_mask())
        bundle = MaskBundle.create(EXAMPLE, {"pooler.dense": packed}, HEAD)
        packed[:] = 0
        assert bundle.members[0].masks["pooler.dense"].any()

    @pytest.mark.parametrize(
        ("masks", "head", "error", "message"),
        [
            ({}, HEAD, TensorSetError, "not in the bundle: mask.pooler.dense"),
            ({"pooler.dense": pack_bits(example_mask())}, {}, TensorSetError, "head.classifier.bias"),
            (
                {"pooler.dense": pack_bits(example_mask()), "other": pack_bits(example_mask())},
                HEAD,
                TensorSetError,
                "not in the manifest: mask.other",
            ),
            ({"pooler.dense": example_mask()}, HEAD, TensorTypeError, "expected uint8, found bool"),
            (
                {"pooler.dense": np.zeros((2, 4), np.uint8)},
                HEAD,
                TensorShapeError,
                r"\[2, 3\], found \[2, 4\]",
            ),
            ({"pooler.dense": np.full((2, 3), 255, np.uint8)}, HEAD, PaddingError, "after column 20"),
            (
                {"pooler.dense": np.zeros((2, 3), np.uint8)},
                HEAD,
                ZeroCountError,
                "expected 3 zeros, found 40",
            ),
            (
                {"pooler.dense": pack_bits(example_mask())},
                {"classifier.bias": np.zeros(2)},
                TensorTypeError,
                "expected float32, found float64",
            ),
            (
                {"pooler.dense": pack_bits(example_mask())},
                {"classifier.bias": np.zeros(3, np.float32)},
                TensorShapeError,
                r"expected shape \[2\], found \[3\]",
            ),
            (
                {"pooler.dense": pack_bits(example_mask())},
                {"classifier.bias": np.array([0, np.nan], np.float32)},
                HeadValueError,
                "NaN or infinity",
            ),
        ],
    )
    def test_refuses(self, masks: Any, head: Any, error: type[BundleError], message: str) -> None:
        with pytest.raises(error, match=message):
            MaskBundle.create(EXAMPLE, masks, head)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.lists(st.tuples(st.integers(1, 9), st.integers(1, 40), st.floats(0, 1)), min_size=1, max_size=4),
    st.booleans(),
)
def test_round_trip(seed: int, layers: list[tuple[int, int, float]], compress: bool) -> None:
    rng = np.random.default_rng(seed)
    masks = {f"layer.{i}": rng.random((rows, cols)) >= p for i, (rows, cols, p) in enumerate(layers)}
    bundle = bundle_of(masks, compress=compress)
    again = MaskBundle.from_bytes(bundle.to_bytes())
    assert again.manifest == bundle.manifest
    assert again.digest == bundle.digest
    assert again.to_bytes() == bundle.to_bytes()
    for name, mask in masks.items():
        np.testing.assert_array_equal(again.members[0].masks[name], pack_bits(mask))


def test_bytes_do_not_depend_on_the_order_of_the_arguments() -> None:
    mask = example_mask()
    masks, head = (
        {"a": pack_bits(mask), "b": pack_bits(~mask)},
        {"x": HEAD["classifier.bias"], "y": np.ones(1, "f4")},
    )
    manifest = manifest_of(
        (layer_of("b", ~mask), layer_of("a", mask)),
        head=(HeadTensorInfo(name="y", shape=(1,)), HeadTensorInfo(name="x", shape=(2,))),
    )
    one = MaskBundle.create(manifest, masks, head)
    reverse = MaskBundle.create(manifest, dict(reversed(masks.items())), dict(reversed(head.items())))
    assert one.to_bytes() == reverse.to_bytes()
    assert [layer.name for layer in one.members[0].info.layers] == ["b", "a"]


def bits() -> MaskBundle:
    return bundle_of(compress=False)


def rice() -> MaskBundle:
    return bundle_of()


def add_header_byte(data: bytes) -> bytes:
    """Eight more spaces after the header: the same contents for a lenient reader."""
    (length,) = struct.unpack_from("<Q", data)
    return struct.pack("<Q", length + 8) + data[8 : 8 + length] + b" " * 8 + data[8 + length :]


def raw_header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def with_document(document: str) -> bytes:
    fields, section = take_apart(bits().to_bytes())
    return put_together(fields | {"__metadata__": {"mask_bundle": document}}, section)


def flip_data(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def integer_for_float() -> bytes:
    """A threshold written as 0 where a float's one text is 0.0."""
    fields, section = take_apart(bits().to_bytes())
    manifest = json.loads(fields["__metadata__"]["mask_bundle"])["manifest"]
    manifest["masking"]["threshold"] = 0
    whole = json.loads(json.dumps(manifest))
    whole["masking"]["threshold"] = 0.0
    sealed, _ = take_apart(seal(fields, whole, section))
    document = sealed["__metadata__"]["mask_bundle"]
    return with_document(document.replace('"threshold":0.0', '"threshold":0'))


MASK, BIAS = "mask.pooler.dense", "head.classifier.bias"
LAYER = ("layers", 0)

ATTACKS: dict[str, tuple[type[BundleError], Callable[[], bytes]]] = {
    "empty file": (TruncatedBundleError, lambda: b""),
    "a length alone": (TruncatedBundleError, lambda: bits().to_bytes()[:8]),
    "cut in the header": (TruncatedBundleError, lambda: bits().to_bytes()[:100]),
    "cut in the tensors": (TruncatedBundleError, lambda: bits().to_bytes()[:-1]),
    "more bytes at the end": (TrailingBytesError, lambda: bits().to_bytes() + b"\0"),
    "header of exabytes": (BundleTooLargeError, lambda: b"\xff" * 7 + b"\x7f{}"),
    "pickle": (BundleTooLargeError, lambda: b"\x80\x04\x95\x1a\0\0\0\0\0\0\0}\x94."),
    "layer of a terabyte without zeros": (
        BundleTooLargeError,
        lambda: forge(rice(), manifest=set_item(*LAYER, "rows", to=10**11)),
    ),
    "head tensor over the limit": (
        BundleTooLargeError,
        lambda: forge(rice(), manifest=set_item("head", 0, "shape", to=[10**10])),
    ),
    "layers each within the limit, together over it": (
        BundleTooLargeError,
        lambda: forge(rice(), manifest=lambda m: m.update(layers=[_big_layer(i) for i in range(20)])),
    ),
    "header that is no JSON": (HeaderError, lambda: raw_header(b"{not json")),
    "header that is no UTF-8": (HeaderError, lambda: raw_header(b'{"\xff":1}')),
    "header that is a list": (HeaderError, lambda: raw_header(b"[]")),
    "header that begins with a space": (HeaderError, lambda: raw_header(b' {"a":1}')),
    "header nested deep": (HeaderError, lambda: raw_header(b'{"a":' * 30_000)),
    "header with a number of a million digits": (
        HeaderError,
        lambda: raw_header(b'{"a":' + b"1" * 10**6 + b"}"),
    ),
    "a name twice": (HeaderError, lambda: raw_header(b'{"__metadata__":{},"__metadata__":{}}')),
    "tensor without offsets": (
        HeaderError,
        lambda: rewrite(bits().to_bytes(), lambda f: f[MASK].pop("data_offsets")),
    ),
    "tensor with one more field": (
        HeaderError,
        lambda: rewrite(bits().to_bytes(), set_item(MASK, "note", to="")),
    ),
    "negative offset": (
        HeaderError,
        lambda: rewrite(bits().to_bytes(), set_item(BIAS, "data_offsets", 0, to=-8)),
    ),
    "boolean in a shape": (
        HeaderError,
        lambda: rewrite(bits().to_bytes(), set_item(BIAS, "shape", 0, to=True)),
    ),
    "more metadata": (
        HeaderError,
        lambda: rewrite(bits().to_bytes(), set_item("__metadata__", "format", to="pt")),
    ),
    "hole": (TensorLayoutError, lambda: rewrite(bits().to_bytes(), set_item(BIAS, "data_offsets", 0, to=4))),
    "overlap": (
        TensorLayoutError,
        lambda: rewrite(bits().to_bytes(), set_item(MASK, "data_offsets", 0, to=4)),
    ),
    "end before begin": (
        TensorLayoutError,
        lambda: rewrite(bits().to_bytes(), set_item(MASK, "data_offsets", 1, to=7)),
    ),
    "shape and offsets disagree": (
        TensorLayoutError,
        lambda: rewrite(bits().to_bytes(), set_item(MASK, "shape", to=[2, 2])),
    ),
    "shape whose product overflows 64 bits": (
        TensorLayoutError,
        lambda: rewrite(bits().to_bytes(), set_item(MASK, "shape", to=[2**62, 2**62])),
    ),
    "safetensors file without metadata": (
        NotABundleError,
        lambda: rewrite(bits().to_bytes(), lambda f: f.pop("__metadata__")),
    ),
    "safetensors file of something else": (
        NotABundleError,
        lambda: rewrite(bits().to_bytes(), set_item("__metadata__", to={"format": "pt"})),
    ),
    "format version of the future": (
        FormatVersionError,
        lambda: forge(bits(), manifest=set_item("format_version", to=4)),
    ),
    "document that is no JSON": (ManifestError, lambda: with_document("{")),
    "document that is a list": (ManifestError, lambda: with_document("[]")),
    "document nested deep": (ManifestError, lambda: with_document("[" * 10**5)),
    "manifest that is a number": (ManifestError, lambda: with_document('{"checksum":"","manifest":1}')),
    "manifest with NaN": (
        ManifestError,
        lambda: with_document(canonical({"checksum": "", "manifest": {"format_version": float("nan")}})),
    ),
    "manifest without a field": (ManifestError, lambda: forge(bits(), manifest=lambda m: m.pop("seed"))),
    "manifest with one more field": (ManifestError, lambda: forge(bits(), manifest=set_item("note", to="x"))),
    "task name that climbs out": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item("task", to="../../etc")),
    ),
    "label with half a surrogate": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item("labels", 0, to="\ud800")),
    ),
    "document with half a surrogate": (
        ManifestError,
        lambda: with_document('{"checksum":"\ud800","manifest":{}}'),
    ),
    "format version as a float": (
        FormatVersionError,
        lambda: forge(bits(), manifest=set_item("format_version", to=1.0)),
    ),
    "more zeros than bits": (ManifestError, lambda: forge(bits(), manifest=set_item(*LAYER, "zeros", to=41))),
    "rice codes of the wrong count": (
        ManifestError,
        lambda: forge(rice(), manifest=set_item(*LAYER, "encoding", "count", to=4)),
    ),
    "unknown encoding": (
        ManifestError,
        lambda: forge(bits(), manifest=set_item(*LAYER, "encoding", to={"name": "zip"})),
    ),
    "spaces after the header": (NonCanonicalError, lambda: add_header_byte(bits().to_bytes())),
    "float written as an integer": (NonCanonicalError, integer_for_float),
    "document with spaces": (
        NonCanonicalError,
        lambda: rewrite(
            bits().to_bytes(),
            lambda f: f["__metadata__"].update(mask_bundle=f["__metadata__"]["mask_bundle"] + " "),
        ),
    ),
    "tensors in another order": (
        NonCanonicalError,
        lambda: rewrite(bits().to_bytes(), lambda f: f.update({BIAS: f.pop(BIAS)})),
    ),
    "a scale below zero": (
        ScaleValueError,
        lambda: forge(sign_sample(), data=lambda d: d.__setitem__(-1, 0xBF)),
    ),
    "a data bit flipped": (ChecksumError, lambda: flip_data(bits().to_bytes())),
    "a manifest field changed": (
        ChecksumError,
        lambda: with_document(
            take_apart(bits().to_bytes())[0]["__metadata__"]["mask_bundle"].replace('"seed":0', '"seed":1')
        ),
    ),
    "layer that is not in the file": (
        TensorSetError,
        lambda: forge(bits(), manifest=set_item(*LAYER, "name", to="other")),
    ),
    "tensor that is not in the manifest": (
        TensorSetError,
        lambda: forge(bits(), manifest=set_item("head", to=[])),
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
    "coded mask with two axes": (
        TensorShapeError,
        lambda: forge(rice(), fields=set_item(MASK, "shape", to=[1, 2])),
    ),
    "head of another shape": (
        TensorShapeError,
        lambda: forge(bits(), fields=set_item(BIAS, "shape", to=[2, 1])),
    ),
    "padding of a row": (PaddingError, lambda: forge(bits(), data=set_item(-1, to=0xFF))),
    "padding of coded remainders": (PaddingError, lambda: forge(rice(), data=set_item(-1, to=0xB7))),
    "one zero too few": (ZeroCountError, lambda: forge(bits(), data=set_item(8, to=0xFF))),
    "coded bit beyond the mask": (
        MaskCodingError,
        lambda: forge(rice(), manifest=lambda m: m["layers"][0].update(rows=1)),
    ),
    "fewer codes than announced": (MaskCodingError, lambda: forge(rice(), data=set_item(-2, to=0x81))),
    "codes longer than the bits": (
        MaskCodingError,
        lambda: forge(bits(), manifest=_claim_rice, fields=set_item(MASK, "shape", to=[6])),
    ),
    "NaN in the head": (
        HeadValueError,
        lambda: forge(bits(), data=set_item(slice(0, 4), to=b"\0\0\xc0\x7f")),
    ),
    "infinity in the head": (
        HeadValueError,
        lambda: forge(bits(), data=set_item(slice(0, 4), to=b"\0\0\x80\x7f")),
    ),
}


def _big_layer(number: int) -> dict[str, Any]:
    layer = {
        "name": f"l{number}",
        "rows": 2**14,
        "columns": 2**15,
        "zeros": 0,
        "initial_zeros": 0,
        "flipped": 0,
    }
    return layer | {"encoding": {"name": "rice", "parameter": 0, "symbol": 0, "count": 0}}


def _claim_rice(manifest: dict[str, Any]) -> None:
    manifest["layers"][0]["encoding"] = {"name": "rice", "parameter": 2, "symbol": 0, "count": 3}


def test_a_digest_that_was_verified_is_kept_and_nothing_else_is_hashed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    data = bits().to_bytes()
    digest = digest_of(data)

    def fail(*_: object) -> None:
        raise AssertionError("hashed again")

    monkeypatch.setattr(hashlib, "sha256", fail)
    again = MaskBundle.from_bytes(data, digest=digest)
    assert again.digest == digest
    assert again.to_bytes() == data


@pytest.mark.parametrize("limit", ["file", "header", "values", "objects", "tensors", "tensor", "total"])
def test_a_bundle_over_a_limit_says_which(limit: str) -> None:
    bundle = rice()
    bundle.check_limits(Limits())
    with pytest.raises(BundleTooLargeError, match=f"over the {limit} limit of 1 "):
        bundle.check_limits(Limits(**{limit: 1}))
    with pytest.raises(BundleTooLargeError, match=f"over the {limit} limit of 1 "):
        MaskBundle.from_bytes(bundle.to_bytes(), limits=Limits(**{limit: 1}))


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_file(name: str) -> None:
    error, make = ATTACKS[name]
    with pytest.raises(BundleError) as caught:
        MaskBundle.from_bytes(make())
    assert type(caught.value) is error, str(caught.value)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


def test_each_way_to_be_wrong_has_an_attack_file() -> None:
    classes = {
        value
        for value in vars(mask_store).values()
        if inspect.isclass(value) and issubclass(value, BundleError) and value is not BundleError
    }
    assert {error for error, _ in ATTACKS.values()} == classes


def test_forging_nothing_gives_the_same_file() -> None:
    assert forge(bits()) == bits().to_bytes()


@pytest.mark.parametrize("make", [bits, rice])
def test_every_shorter_file_is_refused(make: Callable[[], MaskBundle]) -> None:
    data = make().to_bytes()
    for length in range(len(data)):
        with pytest.raises(TruncatedBundleError):
            MaskBundle.from_bytes(data[:length])


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([bits().to_bytes(), rice().to_bytes()]), st.data())
def test_every_flipped_bit_is_refused(data: bytes, draw: st.DataObject) -> None:
    place, bit = draw.draw(st.integers(0, len(data) - 1)), draw.draw(st.integers(0, 7))
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    with pytest.raises(BundleError):
        MaskBundle.from_bytes(bytes(changed))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_rubbish_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        MaskBundle.from_bytes(data)


class TestFiles:
    def test_round_trip(self, tmp_path: Path) -> None:
        path = tmp_path / "new" / "demo.safetensors"
        write_bundle(path, bits())
        write_bundle(str(path), rice())
        assert read_bundle(path).digest == rice().digest
        assert list(path.parent.iterdir()) == [path]

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            read_bundle(tmp_path / "none")

    def test_file_over_the_limit_is_not_read(self, tmp_path: Path) -> None:
        write_bundle(tmp_path / "a", bits())
        with pytest.raises(BundleTooLargeError, match="over the file limit of 10 bytes"):
            read_bundle(tmp_path / "a", limits=Limits(file=10))

    def test_truncated_file(self, tmp_path: Path) -> None:
        (tmp_path / "a").write_bytes(bits().to_bytes()[:-3])
        with pytest.raises(TruncatedBundleError, match="expected 14 bytes, found 11"):
            read_bundle(tmp_path / "a")

    def test_not_writable(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreNotWritableError):
            write_bundle(tmp_path / "file" / "below", bits())

    def test_full_disk_keeps_the_old_file(self, tmp_path: Path, full_disk: Callable[[int], Any]) -> None:
        path = tmp_path / "demo.safetensors"
        write_bundle(path, bits())
        with full_disk(100), pytest.raises(StoreFullError):
            write_bundle(path, rice())
        assert read_bundle(path).digest == bits().digest
        assert list(tmp_path.iterdir()) == [path]
