"""OpenAPI entries of the Open Inference Protocol's bodies, with examples that work when pasted."""

from typing import Any

from server.http.oip.replies import InferResponse
from server.http.oip.tensors import InferRequest
from server.http.openapi import example, json_body


def _tensor(name: str, values: list[Any], shape: list[int], datatype: str = "BYTES") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": values}


_INFER_EXAMPLES = {
    "texts": example(
        "texts", {"inputs": [_tensor("text", ["I want my money back", "thanks, it works"], [2])]}
    ),
    "pairs": example(
        "pairs of texts",
        {"inputs": [_tensor("text", ["A man sleeps."], [1]), _tensor("text_pair", ["He is awake."], [1])]},
    ),
    "words": example("token classification", {"inputs": [_tensor("text", ["Anna works in London."], [1])]}),
    "questions": example(
        "multiple choice, two choices per question",
        {
            "inputs": [
                _tensor("context", ["She opened the door and"], [1]),
                _tensor("choices", ["walked in.", "ate the roof."], [1, 2]),
            ]
        },
    ),
    "logits": example(
        "the logits alone, of texts that may be cut",
        {
            "id": "7",
            "parameters": {"raw_scores": True, "truncate": True},
            "inputs": [_tensor("text", ["I want my money back"], [1])],
            "outputs": [{"name": "scores"}],
        },
    ),
}
_BINARY = {"schema": {"type": "string", "format": "binary"}}
INFER_REQUEST_BODY = json_body(InferRequest, _INFER_EXAMPLES)
INFER_REQUEST_BODY["description"] = (
    "JSON; or JSON followed by the data of binary tensors, with Inference-Header-Content-Length"
)
INFER_REQUEST_BODY["content"]["application/octet-stream"] = _BINARY
INFER_REPLY: dict[str, Any] = {
    "model": InferResponse,
    "description": "The outputs; binary ones follow the JSON, as Inference-Header-Content-Length says",
    "content": {
        "application/json": {
            "example": {
                "model_name": "inbox",
                "model_version": "1",
                "outputs": [
                    _tensor("label", ["refund"], [1]),
                    _tensor("scores", [0.9, 0.1], [1, 2], "FP32"),
                ],
            }
        },
        "application/octet-stream": _BINARY,
    },
}
