import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError

from mask_store import (
    BaseInfo,
    FormatVersionError,
    HeadTensorInfo,
    LayerInfo,
    Limits,
    Manifest,
    ManifestError,
    RiceEncoding,
    TaskManifest,
)
from mask_store.format.manifest import read_document, write_document
from tests.support.bundles import canonical, manifest_of


def layer(name: str, rows: int, columns: int, **counts: Any) -> LayerInfo:
    fields = {"zeros": 0, "initial_zeros": 0, "flipped": 0} | counts
    return LayerInfo(name=name, rows=rows, columns=columns, **fields)


def encoder_layers(blocks: range, *, pooler: bool = True) -> tuple[LayerInfo, ...]:
    shapes = {
        "q": (768, 768),
        "k": (768, 768),
        "v": (768, 768),
        "ao": (768, 768),
        "i": (3072, 768),
        "o": (768, 3072),
    }
    layers = [layer(f"{block}.{name}", *shape) for block in blocks for name, shape in shapes.items()]
    return (*layers, layer("pooler", 768, 768)) if pooler else tuple(layers)


def parse(manifest: str) -> Manifest:
    """Read a manifest as the header of a bundle holds it."""
    return read_document(write_document("", manifest), Limits())[1]


class TestGoldenNumbers:
    """The sizes that the paper's method gives, as the manifest's properties."""

    def test_bert_base_blocks_2_to_11_and_pooler(self) -> None:
        manifest = manifest_of(encoder_layers(range(2, 12)))
        assert (manifest.mask_bits, manifest.mask_bytes) == (71_368_704, 8_921_088)

    def test_bert_base_all_blocks_and_pooler(self) -> None:
        assert manifest_of(encoder_layers(range(12))).mask_bits == 85_524_480

    def test_two_class_head(self) -> None:
        manifest = manifest_of((layer("classifier", 2, 768),))
        assert (manifest.mask_bits, manifest.mask_bytes) == (1_536, 192)

    def test_distilbert_blocks_2_to_5_and_dense(self) -> None:
        manifest = manifest_of(encoder_layers(range(2, 6)))
        assert (manifest.mask_bits, manifest.mask_bytes) == (28_901_376, 3_612_672)

    def test_bert_base_finetuned(self) -> None:
        manifest = manifest_of(encoder_layers(range(1)), head=())
        assert manifest.base.parameters == 109_482_240
        assert manifest.finetuned_bytes / 1000 == 437_928.96


def test_head_bytes_are_part_of_a_finetuned_copy() -> None:
    head = (HeadTensorInfo(name="w", shape=(2, 768)), HeadTensorInfo(name="b", shape=(2,)))
    manifest = manifest_of((layer("a", 2, 8),), head=head)
    assert manifest.head_bytes == 4 * (2 * 768 + 2)
    assert manifest.finetuned_bytes == 437_928_960 + manifest.head_bytes


def test_shares_are_over_all_layers() -> None:
    first = layer("a", 10, 10, zeros=10, initial_zeros=6, flipped=8)
    manifest = manifest_of((first, layer("b", 30, 10, zeros=10, initial_zeros=14, flipped=4)))
    assert manifest.sparsity == 20 / 400
    assert manifest.initial_sparsity == 20 / 400
    assert manifest.flipped_share == 12 / 400
    assert manifest.layers[0].sparsity == 0.1


def test_rows_are_padded_to_bytes() -> None:
    assert layer("a", 3, 9).packed_bytes == 6


def test_json_is_canonical_and_comes_back() -> None:
    manifest = manifest_of((layer("a", 2, 8),))
    text = manifest.to_json()
    assert text == canonical(json.loads(text))
    assert text.isascii()
    assert parse(text) == manifest


def test_settings_of_earlier_training_runs_are_still_read() -> None:
    training = {"score_init": "magnitude", "score_gradient": "sigmoid", "temperature": 0.1, "scale_lr": True}
    manifest = manifest_of((layer("a", 4, 4),), training=training)
    read = parse(manifest.to_json())
    assert isinstance(read, TaskManifest)
    assert read.training == training


def test_time_is_kept_in_utc() -> None:
    noon_in_berlin = datetime(2025, 6, 1, 12, tzinfo=timezone(timedelta(hours=2)))
    manifest = manifest_of((layer("a", 2, 8),), created=noon_in_berlin)
    assert manifest.created == datetime(2025, 6, 1, 10, tzinfo=UTC)
    assert '"created":"2025-06-01T10:00:00Z"' in manifest.to_json()


def test_is_immutable() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        manifest_of((layer("a", 2, 8),)).task = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"task": "Demo"}, "task"),
        ({"task": "../etc"}, "task"),
        ({"task": "a\n"}, "task"),
        ({"task": "a" * 65}, "task"),
        ({"labels": ["bad", "good"]}, "labels"),
        ({"labels": ()}, "at least 2 labels, found 0"),
        ({"labels": ("only",)}, "at least 2 labels, found 1"),
        ({"labels": ("a", "a")}, "labels repeat: a"),
        ({"kind": "multiple-choice"}, "has no labels"),
        ({"kind": "summarization"}, "kind"),
        ({"kind": "regression", "labels": ()}, "at least 1 labels"),
        ({"kind": "reranking"}, "has one label"),
        ({"kind": "reranking", "labels": ("a",), "pair": False}, "takes pairs"),
        ({"thresholds": (0.5, 0.5)}, "has no thresholds"),
        ({"kind": "multi-label-classification", "thresholds": (0.5,)}, "1 thresholds for 2 labels"),
        ({"kind": "multi-label-classification", "thresholds": (0.5, 1.0)}, "thresholds"),
        ({"kind": "token-classification", "pair": True}, "can't take pairs"),
        ({"kind": "embedding", "labels": (), "pooling": "mean", "pair": True}, "can't take pairs"),
        ({"kind": "embedding", "labels": ()}, "has a pooling"),
        (
            {"kind": "embedding", "labels": (), "pooling": "mean", "head_activation": "relu"},
            "an embedding task has no head_activation",
        ),
        ({"kind": "embedding", "pooling": "mean"}, "has no labels"),
        ({"kind": "embedding", "labels": (), "pooling": "max"}, "pooling"),
        ({"pooling": "mean"}, "others have none"),
        ({"metric": "f1"}, "'f1' is not among metrics"),
        ({"metrics": {"accuracy": float("nan")}}, "finite"),
        ({"training": {"lr": float("inf")}}, "finite"),
        ({"training": {"lr": [1]}}, "training"),
        ({"seed": "0"}, "seed"),
        ({"max_length": 0}, "max_length"),
        ({"created": datetime(2025, 1, 1)}, "timezone"),
        ({"layers": ()}, "layers"),
        ({"layers": (layer("a", 2, 8), layer("a", 2, 8))}, "names in layers repeat: a"),
        ({"head": (HeadTensorInfo(name="w", shape=(1,)),) * 2}, "names in head repeat: w"),
        ({"format_version": 2}, "format_version"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_refuses(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        manifest_of(**({"layers": (layer("a", 2, 8),)} | changes))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"zeros": 17, "flipped": 17}, "zeros 17 of a layer of 16 bits"),
        ({"initial_zeros": 17}, "initial_zeros 17"),
        ({"flipped": 17}, "flipped 17"),
        ({"zeros": 5, "initial_zeros": 1, "flipped": 3}, "from 1 to 5 with only 3"),
        ({"name": "a b"}, "name"),
        ({"name": ""}, "name"),
        ({"rows": 0}, "rows"),
        ({"encoding": RiceEncoding(parameter=1, symbol=1, count=0)}, "must code the 0 bits that are 0"),
        ({"encoding": RiceEncoding(parameter=1, symbol=0, count=2)}, "must code the 0 bits that are 0"),
    ],
)
def test_layer_refuses(fields: dict[str, Any], message: str) -> None:
    counts = {"zeros": 0, "initial_zeros": 0, "flipped": 0}
    good: dict[str, Any] = {"name": "a", "rows": 2, "columns": 8, **counts}
    with pytest.raises(ValidationError, match=message):
        LayerInfo(**(good | fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"blocks": (3, 2)}, "ascend"),
        ({"blocks": (2, 2)}, "ascend"),
        ({"score_low": 0.6}, "must be below"),
        ({"initial_sparsity": 1.0}, "initial_sparsity"),
        ({"head": "none"}, "head"),
    ],
)
def test_masking_info_refuses(fields: dict[str, Any], message: str) -> None:
    good = manifest_of((layer("a", 2, 8),)).masking
    with pytest.raises(ValidationError, match=message):
        type(good)(**(good.model_dump() | fields))


@pytest.mark.parametrize("text", ["", "[]", "{}", "3", "[" * 100_000])
def test_json_that_is_no_manifest(text: str) -> None:
    with pytest.raises(ManifestError):
        parse(text)


@pytest.mark.parametrize("version", [0, 4, "1", True, 1.0])
def test_json_of_another_version(version: object) -> None:
    with pytest.raises(FormatVersionError, match="expected 1, 2 or 3"):
        parse(json.dumps({"format_version": version}))


def test_json_errors_name_every_field() -> None:
    fields = json.loads(manifest_of((layer("a", 2, 8),)).to_json())
    del fields["seed"]
    fields["layers"][0]["rows"] = "two"
    with pytest.raises(ManifestError, match=r"layers\.0\.rows.*; seed: Field required"):
        parse(json.dumps(fields))


class TestIdentityOfTheBase:
    TOKENIZER, CONFIGURATION = "sha256:" + "cd" * 32, "sha256:" + "ef" * 32

    def manifest(self, **changes: Any) -> TaskManifest:
        base = manifest_of((layer("a", 1, 8),)).base
        fields = {"tokenizer": self.TOKENIZER, "configuration": self.CONFIGURATION} | changes
        return manifest_of((layer("a", 1, 8),), base=BaseInfo(**base.model_dump() | fields))

    def test_is_read_as_it_was_written(self) -> None:
        manifest = self.manifest()
        assert parse(manifest.to_json()) == manifest
        assert list(manifest.base.identity) == ["weights", "tokenizer", "configuration"]

    def test_of_bundles_of_0_1_0_is_of_the_weights_and_has_no_other_fields(self) -> None:
        manifest = manifest_of((layer("a", 1, 8),))
        assert list(manifest.base.identity) == ["weights"]
        assert json.loads(manifest.to_json())["base"].keys() == {
            "name",
            "revision",
            "architecture",
            "fingerprint",
            "parameters",
        }
        assert parse(manifest.to_json()) == manifest

    @pytest.mark.parametrize("name", ["tokenizer", "configuration"])
    def test_has_both_further_parts_or_none(self, name: str) -> None:
        fields = self.manifest().base.model_dump()
        del fields[name]
        with pytest.raises(ValidationError, match="tokenizer and configuration go together"):
            BaseInfo(**fields)

    def test_parts_that_are_known_of_both_are_compared(self) -> None:
        whole, weights = self.manifest().base, manifest_of((layer("a", 1, 8),)).base
        other = self.manifest(tokenizer=self.CONFIGURATION).base
        assert whole.differing(other) == ("tokenizer",)
        assert whole.differing(weights) == weights.differing(other) == ()
        assert whole.differing(weights.model_copy(update={"fingerprint": self.TOKENIZER})) == ("weights",)
