import numpy as np
import pytest

from server.errors import InvalidBodyError
from server.http.grpc.messages import message
from server.http.grpc.tensors import read_request, response
from server.http.kinds.tensors import OutputTensor
from tests.support.server_parts import limits


def test_parameters_are_values_of_json() -> None:
    request = message("ModelInferRequest", model_name="task")
    request.parameters["truncate"].bool_param = True
    request.parameters["sequence_id"].int64_param = 0
    request.parameters["nothing"].SetInParent()
    one = request.inputs.add(name="text", datatype="BYTES", shape=[1])
    one.contents.bytes_contents.append(b"a text")
    one.parameters["content_type"].string_param = "str"
    read, binary = read_request(request, limits())
    assert read.parameters.truncate
    assert (read.inputs[0].data, read.inputs[0].parameters.content_type) == (["a text"], "str")
    assert (read.id, binary) == (None, b"")


def test_raw_contents_become_the_binary_part() -> None:
    request = message("ModelInferRequest", raw_input_contents=[b"\1\0\0\0a", b"\1\0\0\0b"])
    for name in ("text", "text_pair"):
        request.inputs.add(name=name, datatype="BYTES", shape=[1])
    read, binary = read_request(request, limits())
    assert [tensor.parameters.binary_data_size for tensor in read.inputs] == [5, 5]
    assert binary == b"\1\0\0\0a\1\0\0\0b"
    request.raw_input_contents.append(b"")
    with pytest.raises(InvalidBodyError, match="2 inputs have 3 raw_input_contents"):
        read_request(request, limits())


def test_more_rows_than_are_ever_admitted_are_refused_unread() -> None:
    request = message("ModelInferRequest")
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[101])
    tensor.contents.bytes_contents.append(b"\xff")  # which would be refused too, were it read
    with pytest.raises(InvalidBodyError, match=r"shape \[101\]; at most 100 rows are read"):
        read_request(request, limits(waiting=100))


@pytest.mark.parametrize("raw", [True, False])
def test_a_reply_has_the_form_of_its_request(raw: bool) -> None:
    scores = np.array([[0.25, 0.75]], np.float32)
    outputs = [OutputTensor("label", ["yes"]), OutputTensor("scores", scores)]
    made = response("task", "3", None, outputs, raw=raw)
    assert [(one.name, one.datatype, list(one.shape)) for one in made.outputs] == [
        ("label", "BYTES", [1]),
        ("scores", "FP32", [1, 2]),
    ]
    if raw:
        assert list(made.raw_output_contents) == [b"\3\0\0\0yes", scores.tobytes()]
    else:
        assert list(made.outputs[0].contents.bytes_contents) == [b"yes"]
        assert list(made.outputs[1].contents.fp32_contents) == [0.25, 0.75]
