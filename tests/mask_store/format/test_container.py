import json
import struct

import numpy as np
import pytest
import safetensors
import safetensors.numpy

from mask_store import BundleTooLargeError, Limits
from mask_store.format.container import build_header, join, layout, read_container
from tests.support.bundles import bundle_of, take_apart


@pytest.mark.parametrize("compress", [True, False])
def test_is_what_the_safetensors_package_writes_and_reads(compress: bool) -> None:
    mask = np.random.default_rng(0).random((5, 100)) > 0.1
    data = bundle_of({"b.weight": mask, "a": ~mask}, compress=compress).to_bytes()
    tensors = safetensors.numpy.load(data)
    assert sorted(tensors) == ["head.classifier.bias", "mask.a", "mask.b.weight"]
    header, _ = take_apart(data)
    assert safetensors.numpy.save(tensors, metadata=header["__metadata__"]) == data


def test_data_section_is_aligned_and_without_holes() -> None:
    data = bundle_of().to_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header, section = take_apart(data)
    assert length % 8 == 0
    offsets = [value["data_offsets"] for name, value in header.items() if name != "__metadata__"]
    assert [begin for begin, _ in offsets] == [0, *(end for _, end in offsets[:-1])]
    assert offsets[-1][1] == len(section)


def test_order_does_not_depend_on_the_order_of_the_arguments() -> None:
    shapes = [
        ("mask.a", "U8", (3,)),
        ("head.z", "F32", (2,)),
        ("mask.b", "U8", (0,)),
        ("head.a", "F32", (1,)),
    ]
    entries = layout(shapes)  # type: ignore[arg-type]
    assert list(entries) == ["head.a", "head.z", "mask.a", "mask.b"]
    assert entries == layout(reversed(shapes))  # type: ignore[arg-type]


def test_reads_what_it_wrote() -> None:
    entries = layout([("head.a", "F32", (1,)), ("mask.b", "U8", (2, 1))])
    data = join(build_header('{"x":1}', entries), b"\0" * 4 + b"\1\2")
    container = read_container(data, Limits())
    assert json.loads(container.document) == {"x": 1}
    assert container.tensors.entries == entries
    assert bytes(container.tensors.read("mask.b")) == b"\1\2"


@pytest.mark.parametrize("limit", ["file", "header"])
def test_limits_come_before_anything_else(limit: str) -> None:
    data = bundle_of().to_bytes()
    with pytest.raises(BundleTooLargeError, match=f"over the {limit} limit of 100 bytes"):
        read_container(data, Limits(**{limit: 100}))


def test_an_announced_header_of_exabytes_is_not_allocated() -> None:
    with pytest.raises(BundleTooLargeError, match="over the header limit"):
        read_container(struct.pack("<Q", 2**62) + b"{}", Limits())
