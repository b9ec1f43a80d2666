"""Messages of the Open Inference Protocol over gRPC, made from `open_inference.binpb`.

They have a descriptor pool of their own: a process that imports a client of the protocol has messages of the
same names already.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "inference"
SERVICE = f"{PACKAGE}.GRPCInferenceService"

_FILE = "open_inference.binpb"


def message(kind: str, /, **fields: Any) -> Any:
    """Make a message of the protocol.

    Args:
        kind: Its name in the package, such as ``ServerLiveResponse``.
        fields: Its fields.
    """
    return GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{kind}"))(**fields)


def methods() -> Mapping[str, tuple[type[Message], type[Message]]]:
    """Return the methods of the service: the classes of request and response, by name."""
    service: ServiceDescriptor = _pool().FindServiceByName(SERVICE)
    return {
        method.name: (GetMessageClass(method.input_type), GetMessageClass(method.output_type))
        for method in service.methods
    }


@cache
def _pool() -> DescriptorPool:
    pool = DescriptorPool()
    compiled = FileDescriptorSet.FromString(files("server.http.grpc").joinpath(_FILE).read_bytes())
    for file in compiled.file:
        pool.Add(file)
    return pool
