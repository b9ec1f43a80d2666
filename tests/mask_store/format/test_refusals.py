"""Small files that would cost minutes or gigabytes, or break a reader: refused by the store's own error."""

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

from mask_store import (
    BundleError,
    BundleTooLargeError,
    HeaderError,
    ManifestError,
    MaskBundle,
    MaskCodingError,
    NonCanonicalError,
    TensorLayoutError,
    TensorSetError,
)
from mask_store.format.bundle import digest_of
from mask_store.messages import LONGEST_MESSAGE
from tests.support.bundles import (
    bundle_of,
    canonical,
    forge,
    put_together,
    seal,
    seal_text,
    set_item,
    take_apart,
)

MASK = "mask.pooler.dense"
CONSTANT_BYTES = 64 << 20  # docs/bundle-format.md, section 6

Change = Callable[[Any], Any]


def bits() -> MaskBundle:
    return bundle_of(compress=False)


def with_document(document: str) -> bytes:
    fields, section = take_apart(bits().to_bytes())
    return put_together(fields | {"__metadata__": {"mask_bundle": document}}, section)


def with_header(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def with_text(old: str, new: str) -> bytes:
    """The bundle with one piece of its manifest's text replaced, under a checksum that fits."""
    fields, section = take_apart(bits().to_bytes())
    text = canonical(json.loads(fields["__metadata__"]["mask_bundle"])["manifest"])
    assert text.count(old) == 1
    return seal_text(fields, text.replace(old, new), section)


def with_layers(layers: list[dict[str, Any]], stream: bytes = b"") -> bytes:
    """The bundle with these layers in place of its own, each coded in the same bytes."""
    fields, section = take_apart(bits().to_bytes())
    manifest = json.loads(fields["__metadata__"]["mask_bundle"])["manifest"] | {"layers": layers}
    del fields[MASK]
    begin = 8  # after the head
    for name in sorted(layer["name"] for layer in layers):
        end = begin + len(stream)
        fields[f"mask.{name}"] = {"dtype": "U8", "shape": [len(stream)], "data_offsets": [begin, end]}
        begin = end
    return seal(fields, manifest, section[:8] + stream * len(layers))


def layer(number: int, rows: int, columns: int, *, zeros: int = 0, parameter: int = 0) -> dict[str, Any]:
    encoding = {"name": "rice", "parameter": parameter, "symbol": 0, "count": zeros}
    named = {"name": f"l{number:05d}", "rows": rows, "columns": columns, "encoding": encoding}
    return named | {"zeros": zeros, "initial_zeros": zeros, "flipped": 0}


def changed(*path: Any, to: Any) -> Callable[[], bytes]:
    return lambda: forge(bits(), manifest=set_item(*path, to=to))


def renamed(name: str) -> Callable[[], bytes]:
    """The bundle whose one mask has another name in the header."""
    return lambda: forge(bits(), fields=lambda fields: fields.update({name: fields.pop(MASK)}))


LAYER = ("layers", 0)
REFUSED: dict[str, tuple[type[BundleError], Callable[[], bytes]]] = {
    "number with an exponent": (ManifestError, lambda: with_text('"seed":0', '"seed":1e999999999999')),
    "metric beyond any double": (ManifestError, lambda: with_text('"loss":1e-05', '"loss":-1e999')),
    "metric below any double": (NonCanonicalError, lambda: with_text('"loss":1e-05', '"loss":1e-9999999')),
    "metric of a million digits": (
        NonCanonicalError,
        lambda: with_text('"loss":1e-05', f'"loss":0.{"3" * 10**6}'),
    ),
    "integer of a million digits": (ManifestError, lambda: with_text('"seed":0', f'"seed":{"7" * 10**6}')),
    "integer beyond 64 bits": (ManifestError, changed("seed", to=1 << 63)),
    "integer beyond 64 bits among the settings": (
        ManifestError,
        changed("training", "epochs", to=10**20),
    ),
    "rows of 4,000 digits": (ManifestError, lambda: with_text('"rows":2', f'"rows":{"9" * 4000}')),
    "rows over 2^40": (ManifestError, changed(*LAYER, "rows", to=(1 << 40) + 1)),
    "rows and columns of 2^40": (
        BundleTooLargeError,
        lambda: with_layers([layer(0, 1 << 40, 1 << 40)]),
    ),
    "head of four axes of 2^40": (BundleTooLargeError, changed("head", 0, "shape", to=[1 << 40] * 4)),
    "head of 100,000 axes": (ManifestError, changed("head", 0, "shape", to=[1] * 100_000)),
    "tensor of 500 axes of 4,000 digits": (
        HeaderError,
        lambda: with_header(b'{"mask.a":{"shape":[' + b",".join([b"9" * 4000] * 500) + b"]}}"),
    ),
    "tensor of nine axes": (HeaderError, lambda: forge(bits(), fields=set_item(MASK, "shape", to=[1] * 9))),
    "tensor of eight axes of 2^60": (
        TensorLayoutError,
        lambda: forge(bits(), fields=set_item(MASK, "shape", to=[1 << 60] * 8)),
    ),
    "made before the first year": (ManifestError, changed("created", to="0001-01-01T00:00:00+14:00")),
    "made after the last year": (ManifestError, changed("created", to="9999-12-31T23:59:59-14:00")),
    "made in another time zone": (NonCanonicalError, changed("created", to="2025-01-02T05:04:05+02:00")),
    "tensor with a line feed in its name": (TensorSetError, renamed("mask.x\n2026-01-01 forged")),
    "tensor with half a surrogate in its name": (TensorSetError, renamed("mask.\ud800")),
    "tensor with a name of a megabyte": (TensorSetError, renamed("mask." + "x" * 10**6)),
    "field with a line feed and half a surrogate": (ManifestError, changed("x\n\udfff", to=1)),
    "field with a line feed": (ManifestError, changed("x\n2026-01-01 forged", to=1)),
    "field that occurs twice": (ManifestError, lambda: with_text('"seed":0', '"seed":0,"seed":0')),
    "label that is half a surrogate": (ManifestError, changed("labels", 1, to="\udc00")),
    "100,000 labels of a wrong type": (ManifestError, changed("labels", to=[1] * 100_000)),
    "30,000 labels, each twice": (ManifestError, changed("labels", to=[f"{i:x}" for i in range(30_000)] * 2)),
    "100,000 blocks in disorder": (ManifestError, changed("masking", "blocks", to=[*range(10**5), 0])),
    "100,000 unknown fields": (
        ManifestError,
        lambda: forge(bits(), manifest=lambda m: m.update({f"x{i}": i for i in range(100_000)})),
    ),
    "300 metrics": (ManifestError, changed("metrics", to={f"x{i}": 0.5 for i in range(300)})),
    "1,000 layers with 200 faults each": (
        ManifestError,
        changed("layers", to=[{f"x{i}": i for i in range(200)}] * 1000),
    ),
    "name of a base of megabytes, in a shape that does not fit": (
        ManifestError,
        changed("base", to={"name": "x" * 3_000_000}),
    ),
    "a million empty lists": (BundleTooLargeError, lambda: with_document("[" + "[]," * 10**6 + "[]]")),
    "chains of objects": (
        BundleTooLargeError,
        lambda: with_document("[" + ",".join(['{"a":' * 90 + "0" + "}" * 90] * 2800) + "]"),
    ),
    "commas hidden as escapes": (
        BundleTooLargeError,
        lambda: with_header(b'{"__metadata__":{"mask_bundle":"[1' + b"\\u002c1" * 500_000 + b']"}}'),
    ),
    "20,000 tensors": (
        BundleTooLargeError,
        lambda: forge(bits(), fields=lambda f: f.update({f"mask.{i}": f[MASK] for i in range(20_000)})),
    ),
    "coded bit far beyond the mask": (
        MaskCodingError,
        lambda: with_layers(
            [layer(0, 1 << 14, 1 << 14, zeros=1, parameter=30)], bytes(1000) + b"\1" + bytes(4)
        ),
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_is_refused_in_little_memory_by_a_message_that_can_be_shown(name: str) -> None:
    error, make = REFUSED[name]
    data = make()
    tracemalloc.start()
    with pytest.raises(BundleError) as caught:
        MaskBundle.from_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert type(caught.value) is error, str(caught.value)
    assert peak < 3 * len(data) + CONSTANT_BYTES
    message = str(caught.value)
    assert message.isprintable()
    assert len(message) <= LONGEST_MESSAGE
    with pytest.raises(error):  # as a store reads what a record names
        MaskBundle.from_bytes(data, digest=digest_of(data))


@pytest.mark.parametrize(
    "layers",
    [
        [layer(number, 1 << 13, 1 << 16) for number in range(15)],
        [layer(number, 1 << 26, 1) for number in range(2)],
        [layer(number, 2, 20) for number in range(2_000)],
    ],
    ids=["nearly a gibibyte of masks without zeros", "long columns", "thousands of layers"],
)
def test_what_is_accepted_takes_the_memory_of_its_file_whatever_it_announces(
    layers: list[dict[str, Any]],
) -> None:
    data = with_layers(layers)
    tracemalloc.start()
    bundle = MaskBundle.from_bytes(data)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3 * len(data) + CONSTANT_BYTES
    (member,) = bundle.members
    assert len(member.masks) == len(layers)


def test_time_grows_in_proportion_to_the_labels() -> None:
    def seconds(count: int) -> float:
        data = changed("labels", to=[f"{i:x}" for i in range(count)])()
        started = time.process_time()
        MaskBundle.from_bytes(data)
        return time.process_time() - started

    seconds(10)
    assert seconds(100_000) < 20
