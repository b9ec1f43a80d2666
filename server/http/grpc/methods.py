"""Methods of the Open Inference Protocol over gRPC; each takes a message and a call, and returns a message.

They answer as the routes of the same names do (`server.http.oip.routes`).
"""

from collections.abc import Mapping
from typing import Any

from server.errors import (
    BodyTooLargeError,
    ForbiddenError,
    InvalidBodyError,
    ServerError,
    VersionNotFoundError,
)
from server.http.grpc.calls import Access, Call, Method
from server.http.grpc.messages import message
from server.http.grpc.tensors import read_request, response
from server.http.oip import groups
from server.http.oip import models as oip
from server.http.oip.routes import EXTENSIONS, check_load, index, versions_of
from server.predictor import rows_of

_HTTP_ONLY = {"binary_tensor_data", "model_configuration", "statistics"}


async def server_live(_request: Any, _call: Call) -> Any:
    """Answer as long as the process can answer at all."""
    return message("ServerLiveResponse", live=True)


async def server_ready(_request: Any, call: Call) -> Any:
    """Tell whether requests can be answered."""
    return message("ServerReadyResponse", ready=call.service.why_not_ready() is None)


async def server_metadata(_request: Any, call: Call) -> Any:
    """Return name, version and extensions."""
    extensions = [name for name in EXTENSIONS if name not in _HTTP_ONLY]
    return message(
        "ServerMetadataResponse", name=oip.PLATFORM, version=call.service.version, extensions=extensions
    )


async def model_ready(request: Any, call: Call) -> Any:
    """Tell whether a task, in this version if one is named, or every task of a group can be asked."""
    try:
        if groups.is_group(request.name):
            await _take_group(request.name, request.version, call, answers=False)
        else:
            await call.take_task(request.name, request.version, answers=False)
    except ForbiddenError:
        raise
    except ServerError:
        return message("ModelReadyResponse", ready=False)
    return message("ModelReadyResponse", ready=call.service.why_not_ready() is None)


async def model_metadata(request: Any, call: Call) -> Any:
    """Return the tensors of a task, or of a group."""
    if groups.is_group(request.name):
        told = (await _take_group(request.name, request.version, call, answers=False)).metadata
    else:
        served = await call.take_task(request.name, request.version, answers=False)
        told = oip.metadata(served.name, versions_of(call.service, served), served.loaded.spec)
    return message("ModelMetadataResponse", **told.model_dump())


async def model_infer(request: Any, call: Call) -> Any:
    """Predict with a task, or with a group."""
    call.facts.caller.quota.check()
    if groups.is_group(request.model_name):
        return await _infer_group(request, call)
    service, facts = call.service, call.facts
    served = await call.take_task(request.model_name, request.model_version)
    service.predictor.check_room(served)
    _check_values(request, service.settings.max_body_values)

    def read() -> oip.InferCall:
        return oip.read_call(*read_request(request, service.limits), served.loaded, service.limits)

    asked = await service.predictor.run_by_size(call.size, read)
    with facts.caller.quota.admit(rows_of(served, asked.wanted)):
        predictions = await service.predictor.predict(served, asked.wanted, facts.request_id, facts.timings)
    facts.rows = asked.wanted.rows

    def reply() -> Any:
        outputs, raw = asked.tensors(served.loaded, predictions), bool(request.raw_input_contents)
        return response(served.name, str(served.version), asked.id, outputs, raw=raw)

    return await service.predictor.run_by_size(call.size, reply)


async def _infer_group(request: Any, call: Call) -> Any:
    """Predict with every task of a group of which an output is wanted."""
    service = call.service
    group = await _take_group(request.model_name, request.model_version, call)
    _check_values(request, service.settings.max_body_values)

    def read() -> groups.GroupCall:
        return groups.read_call(*read_request(request, service.limits), group, service.limits)

    asked = await service.predictor.run_by_size(call.size, read)
    results = await groups.results_of(asked, service, call.facts)

    def reply() -> Any:
        raw = bool(request.raw_input_contents)
        return response(group.name, groups.VERSION, asked.id, asked.tensors(results), raw=raw)

    return await service.predictor.run_by_size(call.size, reply)


async def repository_index(request: Any, call: Call) -> Any:
    """Return every task of the store and every group, or those in service alone."""
    shown = index(call.service, call.facts.caller, only_ready=request.ready)
    return message("RepositoryIndexResponse", models=[one.model_dump() for one in shown])


async def load_model(request: Any, call: Call) -> Any:
    """Serve the version that the store calls current, at once."""
    name = _model_of(request, call)
    await call.service.change(call.facts, call.service.lifecycle.load, name)
    return message("RepositoryModelLoadResponse", model_name=name, isLoaded=True)


async def unload_model(request: Any, call: Call) -> Any:
    """Take a task out of service until it is loaded again."""
    name = _model_of(request, call)
    await call.service.change(call.facts, call.service.lifecycle.unload, name)
    return message("RepositoryModelUnloadResponse", model_name=name, isUnloaded=True)


async def _take_group(name: str, version: str, call: Call, *, answers: bool = True) -> groups.Group:
    """Take a group; a version that is named has to be the one that all groups have."""
    group = await call.take_group(name, answers=answers)
    if version not in ("", groups.VERSION):
        raise VersionNotFoundError(f"{group.name!r} is a group and has no versions but {groups.VERSION}")
    return group


def _model_of(request: Any, call: Call) -> str:
    """Return the task that is to be loaded or unloaded, in the words of the protocol or of Triton."""
    check_load(request.parameters)
    name: str = request.model_name or request.model_or_repository_name
    if not name:
        raise InvalidBodyError("model_name is empty; it is the task's name")
    call.facts.caller.require(name)
    return name


def _check_values(request: Any, most: int) -> None:
    """Refuse more elements than a body of HTTP may have values, before they become texts."""
    if sum(len(tensor.contents.bytes_contents) for tensor in request.inputs) > most:
        raise BodyTooLargeError(f"the inputs have more than {most} elements; send them in parts")


METHODS: Mapping[str, tuple[Method, Access]] = {
    "ServerLive": (server_live, "open"),
    "ServerReady": (server_ready, "open"),
    "ServerMetadata": (server_metadata, "open"),
    "ModelReady": (model_ready, "client"),
    "ModelMetadata": (model_metadata, "client"),
    "ModelInfer": (model_infer, "client"),
    "RepositoryIndex": (repository_index, "client"),
    "RepositoryModelLoad": (load_model, "admin"),
    "RepositoryModelUnload": (unload_model, "admin"),
}
"""Every method of the service, and whose key it needs."""
