"""Bundles: small ones, and files forged from them that keep every rule except one."""

import hashlib
import json
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mask_store import (
    BaseInfo,
    BinInfo,
    ChangedRows,
    ClassInfo,
    CombineRule,
    CopyInfo,
    EnsembleManifest,
    EvaluationInfo,
    HeadTensorInfo,
    LayerBits,
    LayerInfo,
    MaskBundle,
    MaskingInfo,
    SignManifest,
    TaskManifest,
    VersionInfo,
    ensemble_of,
    pack_bits,
)

HEAD = {"classifier.bias": np.array([0.0, 1.0], np.float32)}

EVALUATION = EvaluationInfo(
    metric="accuracy",
    examples=32,
    baseline=0.5,
    baseline_answer="'bad' for everything",
    classes=(
        ClassInfo(precision=1.0, recall=0.875, f1=0.9375, count=16),
        ClassInfo(precision=0.875, recall=1.0, f1=0.9375, count=16),
    ),
    confusion=((14, 2), (0, 16)),
    calibration_error=0.0625,
    bins=(BinInfo(low=0.5, high=1.0, count=32, confidence=0.875, accuracy=0.9375),),
)


def example_mask() -> NDArray[np.bool_]:
    """The worked example of docs/bundle-format.md: 2 x 20, zeros at bits 3, 17 and 29."""
    mask = np.ones(40, np.bool_)
    mask[[3, 17, 29]] = False
    return mask.reshape(2, 20)


def layer_of(name: str, mask: NDArray[np.bool_]) -> LayerInfo:
    rows, columns = mask.shape
    zeros = int((~mask).sum())
    return LayerInfo(name=name, rows=rows, columns=columns, zeros=zeros, initial_zeros=zeros, flipped=0)


def manifest_of(layers: tuple[LayerInfo, ...], **changes: Any) -> TaskManifest:
    fields: dict[str, Any] = {
        "task": "demo",
        "kind": "sequence-classification",
        "pair": False,
        "labels": ("bad", "gut ü"),
        "base": BaseInfo(
            name="bert-base-uncased",
            revision=None,
            architecture="bert",
            fingerprint="sha256:" + "ab" * 32,
            parameters=109_482_240,
        ),
        "max_length": 128,
        "masking": MaskingInfo(
            blocks=(2, 3),
            threshold=0.01,
            score_low=-0.02,
            score_high=0.58,
            initial_sparsity=0.05,
            head="masked",
        ),
        "seed": 0,
        "layers": layers,
        "head": tuple(HeadTensorInfo(name=name, shape=array.shape) for name, array in HEAD.items()),
        "metric": "accuracy",
        "metrics": {"accuracy": 0.9375, "loss": 1e-05},
        "training": {"lr": 0.001, "epochs": 10, "device": "cpu", "resumed": False, "limit": None},
        "data_digest": "sha256:" + "cd" * 32,
        "libraries": {"torch": "2.11.0"},
        "created": datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC),
    }
    return TaskManifest(**(fields | changes))


def bundle_of(
    masks: dict[str, NDArray[np.bool_]] | None = None, *, compress: bool = True, **changes: Any
) -> MaskBundle:
    masks = {"pooler.dense": example_mask()} if masks is None else masks
    manifest = manifest_of(tuple(layer_of(name, mask) for name, mask in masks.items()), **changes)
    packed = {name: pack_bits(mask) for name, mask in masks.items()}
    return MaskBundle.create(manifest, packed, HEAD, compress=compress)


def version_bundle(task: str = "demo", seed: int = 0) -> MaskBundle:
    """A bundle whose bits, and so its digest, depend on the seed."""
    return bundle_of(
        {"pooler.dense": np.random.default_rng(seed).random((4, 20)) > 0.2}, task=task, seed=seed
    )


def published(bundle: MaskBundle, number: int = 1) -> VersionInfo:
    """What a store would write down of the bundle."""
    return VersionInfo(
        bundle.manifest.task,
        number,
        bundle.digest,
        len(bundle.to_bytes()),
        datetime(2025, 1, 2, tzinfo=UTC),
    )


def member_bundles() -> list[MaskBundle]:
    """Two bundles of one task that differ in every bit of what they learned."""
    masks = {"pooler.dense": example_mask()[::-1]}
    second = manifest_of((layer_of("pooler.dense", masks["pooler.dense"]),), seed=1)
    packed = {name: pack_bits(mask) for name, mask in masks.items()}
    return [bundle_of(), MaskBundle.create(second, packed, {"classifier.bias": HEAD["classifier.bias"] + 2})]


def ensemble_sample(
    *, combine: CombineRule = "probabilities", compress: bool = True, **changes: Any
) -> MaskBundle:
    """The two bundles above as one ensemble, always with the same bytes."""
    members = [(published(bundle, number), bundle) for number, bundle in enumerate(member_bundles(), 3)]
    made = ensemble_of("together", combine, members, metrics={"accuracy": 0.96875})
    created = {"created": datetime(2025, 2, 3, 4, 5, 6, tzinfo=UTC)}
    manifest = made.manifest.model_copy(update=created | changes)
    assert isinstance(manifest, EnsembleManifest)
    tensors = [(member.masks, member.head) for member in made.members]
    return MaskBundle.create_ensemble(manifest, tensors, compress=compress)


def sign_sample(*, rows: bool = False, **changes: Any) -> MaskBundle:
    """The worked example's bits as signs, with scales and a bias of the base; always the same bytes.

    With rows there are two of nine of an embedding, too, the second and the last.
    """
    mask = example_mask()
    own = {"encoder.bias": np.array([0.5], np.float32)}
    like = manifest_of((layer_of("pooler.dense", mask),))
    kept = ("task", "kind", "pair", "labels", "base", "max_length", "head", "libraries", "created")
    fields: dict[str, Any] = {name: getattr(like, name) for name in kept} | {
        "layers": (LayerBits(name="pooler.dense", rows=2, columns=20, zeros=3),),
        "own": tuple(HeadTensorInfo(name=name, shape=array.shape) for name, array in own.items()),
        "head_activation": "tanh",
        "word_piece": None,
        "copied": CopyInfo(name="my-trec", revision=None, fingerprint="sha256:" + "ef" * 32),
        "settings": {"scales": "mean", "factor": 1.5},
        "metrics": {"agreement": 0.984375},
    }
    scales = {"pooler.dense": np.array([0.25, 0.0], np.float32)}
    signs = {"pooler.dense": pack_bits(mask)}
    values = {}
    if rows:
        fields["embeddings"] = (ChangedRows(name="embeddings.words", rows=1, columns=9, zeros=7, width=2),)
        signs["embeddings.words"] = np.array([[0b10, 0b1]], np.uint8)
        values["embeddings.words"] = np.array([[0.5, -1.0], [0.25, 2.0]], np.float32)
    manifest = SignManifest(**(fields | changes))
    return MaskBundle.create_signs(manifest, signs, scales=scales, own=own, head=HEAD, rows=values)


def take_apart(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Header fields and data section of a file."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def put_together(fields: dict[str, Any], data: bytes) -> bytes:
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def seal(fields: dict[str, Any], manifest: Any, data: bytes) -> bytes:
    """A file with this manifest and a checksum that fits."""
    return seal_text(fields, canonical(manifest), data)


def seal_text(fields: dict[str, Any], manifest: str, data: bytes) -> bytes:
    """A file with this text as its manifest, whatever it is, and a checksum that fits."""
    checksum = hashlib.sha256(manifest.encode(errors="surrogatepass") + b"\n" + data).hexdigest()
    document = f'{{"checksum":"sha256:{checksum}","manifest":{manifest}}}'
    return put_together(fields | {"__metadata__": {"mask_bundle": document}}, data)


def forge(
    bundle: MaskBundle,
    *,
    manifest: Callable[[dict[str, Any]], Any] = lambda manifest: None,
    fields: Callable[[dict[str, Any]], Any] = lambda fields: None,
    data: Callable[[bytearray], Any] = lambda data: None,
) -> bytes:
    """The bundle's file after changes to its manifest, header or data, with a checksum that fits."""
    header, section = take_apart(bundle.to_bytes())
    document = json.loads(header["__metadata__"]["mask_bundle"])["manifest"]
    changed = bytearray(section)
    manifest(document)
    data(changed)
    fields(header)
    return seal(header, document, bytes(changed))


def set_item(*path: Any, to: Any) -> Callable[[Any], None]:
    """A change that puts a value where the path leads."""

    def change(fields: Any) -> None:
        for key in path[:-1]:
            fields = fields[key]
        fields[path[-1]] = to

    return change


def rewrite(data: bytes, change: Callable[[dict[str, Any]], Any]) -> bytes:
    """The file with another header and everything else as it was."""
    fields, section = take_apart(data)
    change(fields)
    return put_together(fields, section)
