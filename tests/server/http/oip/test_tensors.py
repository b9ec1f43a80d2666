import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.http import InferInput
from tritonclient.utils import deserialize_bytes_tensor

from server.errors import InvalidBodyError
from server.http.kinds.tensors import OutputTensor, Texts
from server.http.oip.tensors import InferReply, InputTensor, read_texts, split_body, to_binary


def tensor(**values: Any) -> InputTensor:
    return InputTensor.model_validate({"name": "text", "datatype": "BYTES", "shape": [1], **values})


def binary(size: int, **values: Any) -> InputTensor:
    return tensor(parameters={"binary_data_size": size}, **values)


def element(text: bytes) -> bytes:
    return struct.pack("<I", len(text)) + text


def refused(inputs: list[InputTensor], content: bytes = b"") -> str:
    with pytest.raises(InvalidBodyError) as caught:
        read_texts(inputs, content)
    return caught.value.message


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_tritons_client_writes_is_read(texts: list[str]) -> None:
    given_input = InferInput("text", [len(texts)], "BYTES")
    given_input.set_data_from_numpy(np.array(texts, dtype=np.object_))
    content = given_input._get_binary_data()
    found = read_texts([InputTensor.model_validate(given_input._get_tensor())], content)
    assert found == {"text": Texts((len(texts),), tuple(texts))}


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_what_is_written_tritons_client_reads(texts: list[str]) -> None:
    found = deserialize_bytes_tensor(to_binary(OutputTensor("label", texts)))
    assert [text.decode() for text in found] == texts


def test_tensors_follow_each_other_in_the_binary_part() -> None:
    first, second = element("é".encode()), element(b"b") + element(b"")
    found = read_texts([binary(len(first)), binary(len(second), name="more", shape=[1, 2])], first + second)
    assert found == {"text": Texts((1,), ("é",)), "more": Texts((1, 2), ("b", ""))}


@pytest.mark.parametrize("data", [["a", "b", "c", "d"], [["a", "b"], ["c", "d"]]])
def test_data_in_json_is_flat_or_nested_as_its_shape(data: list[Any]) -> None:
    assert read_texts([tensor(shape=[2, 2], data=data)], b"")["text"].elements == ("a", "b", "c", "d")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (["a"], "has 1 elements, but its shape [2, 2] has 4"),
        ([["a", "b", "c", "d"]], "not nested"),
        ([["a", "b"], "c"], "not nested"),
        ([["a", "b"], ["c", 1]], "not a text"),
        ([["a", "b"], [["c"], "d"]], "not a text"),
        ([1, 2, 3, 4], "not a text"),
    ],
)
def test_data_in_json_that_is_not_what_it_says(data: list[Any], said: str) -> None:
    assert said in refused([tensor(shape=[2, 2], data=data)])


@pytest.mark.parametrize(
    ("size", "shape", "content", "said"),
    [
        (9, [1], element(b"abc"), "only 7 bytes are left in the body"),
        (7, [1], element(b"abc") + b"x", "1 bytes at the end of the body belong to no input"),
        (6, [1], element(b"abc"), "has 3 bytes, but only 2 are left in the tensor"),
        (2, [1], b"\1\0", "ends within the length"),
        (7, [2], element(b"abc"), "has 1 elements, but its shape [2] has 2"),
        (7, [0], element(b"abc"), "has 1 elements, but its shape [0] has 0"),
        (4, [10**9, 10**9], element(b""), "has 1 elements, but its shape"),
        (6, [1], element(b"\xff\xfe"), "is not UTF-8"),
        (4, [1], b"\xff\xff\xff\xff", "has 4294967295 bytes, but only 0 are left"),
    ],
)
def test_binary_data_that_is_not_what_it_says(size: int, shape: list[int], content: bytes, said: str) -> None:
    assert said in refused([binary(size, shape=shape)], content)


def test_tensors_that_are_no_texts_or_are_nowhere() -> None:
    assert "has datatype 'FP32', not 'BYTES'" in refused([tensor(datatype="FP32", data=[1.0])])
    assert "needs either data or" in refused([tensor()])
    assert "needs either data or" in refused([binary(5, data=["a"])], element(b"a"))
    assert "there twice" in refused([tensor(data=["a"]), tensor(data=["b"])])
    shared = tensor(parameters={"shared_memory_region": "r", "binary_data_size": 3})
    assert "shared memory" in refused([shared])


@pytest.mark.parametrize("length", ["-1", "x", "", "11", "1" * 5000, "\N{ARABIC-INDIC DIGIT ONE}"])
def test_a_length_of_the_json_that_the_body_does_not_have(length: str) -> None:
    with pytest.raises(InvalidBodyError, match="Inference-Header-Content-Length"):
        split_body(b"0123456789", length)


def test_a_body_is_split_where_its_json_ends() -> None:
    assert split_body(b"{}abc", "2") == (b"{}", b"abc")
    assert split_body(b"{}", "2") == (b"{}", b"")
    assert split_body(b"{}", None) == (b"{}", b"")


def test_a_reply_in_both_forms_says_the_same() -> None:
    outputs = [
        OutputTensor("label", ["a", "é"]),
        OutputTensor("scores", np.array([[0.25, 0.75], [1, 0]], np.float32)),
    ]
    plain = InferReply.of(("m", "3"), None, outputs, {"label": False, "scores": False})
    assert plain.json_length is None
    assert json.loads(plain.content) == {
        "model_name": "m",
        "model_version": "3",
        "outputs": [
            {"name": "label", "datatype": "BYTES", "shape": [2], "data": ["a", "é"]},
            {"name": "scores", "datatype": "FP32", "shape": [2, 2], "data": [0.25, 0.75, 1, 0]},
        ],
    }
    mixed = InferReply.of(("m", "3"), "17", outputs, {"label": False, "scores": True})
    assert mixed.json_length is not None
    reply = json.loads(mixed.content[: mixed.json_length])
    assert reply["id"] == "17"
    described = reply["outputs"]
    assert described[0]["data"] == ["a", "é"]
    assert described[1]["parameters"] == {"binary_data_size": 16}
    assert np.frombuffer(mixed.content[mixed.json_length :], "<f4").tolist() == [0.25, 0.75, 1, 0]
