"""Binary bodies of the Open Inference Protocol: the header that tells where the JSON of one ends."""

from typing import Annotated

from fastapi import Header, Response
from pydantic.json_schema import SkipJsonSchema

from server.http.oip.tensors import InferReply

JSON_LENGTH = "inference-header-content-length"
JsonLength = Annotated[
    str | SkipJsonSchema[None],
    Header(
        alias=JSON_LENGTH,
        description="bytes of the JSON, where binary tensors follow it",
        json_schema_extra={"pattern": "^[0-9]{1,18}$"},
    ),
]


def infer_response(reply: InferReply) -> Response:
    """Return the response with a reply's body."""
    if reply.json_length is None:
        return Response(reply.content, media_type="application/json")
    headers = {JSON_LENGTH: str(reply.json_length)}
    return Response(reply.content, media_type="application/octet-stream", headers=headers)
