"""Groups as models of the Open Inference Protocol: one request, the outputs of every task of the group.

The model ``group:NAME`` takes the inputs that its tasks take, which have to be the same for all, and has each
output of each task under the name ``TASK.OUTPUT``. A request is computed as one of POST /predict with
`tasks`; only tasks of which an output is wanted are computed. The protocol has no errors of single outputs: a
task that can't answer fails the request, with its name.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Request, Response
from starlette.concurrency import run_in_threadpool

from masking import Prediction
from server.engine.batch import BatchLimits
from server.errors import ConflictError, NotReadyError, one_line
from server.http.auth import require_client
from server.http.body import check_values, read_body, unless_left, utf8
from server.http.dependencies import PRECISION, ServiceDep, served_task, sticky_key
from server.http.error_mapping import part_error
from server.http.kinds import http_kind
from server.http.kinds.kind import ReplyFormat
from server.http.kinds.tensors import OutputTensor, TensorInfo
from server.http.middleware import context_of
from server.http.oip import models as oip
from server.http.oip.binary import JsonLength, infer_response
from server.http.oip.openapi import INFER_REPLY, INFER_REQUEST_BODY
from server.http.oip.replies import IndexedModel, ModelMetadata, ModelReady, oip_errors
from server.http.oip.tensors import InferReply, InferRequest, split_body
from server.http.routes.fan_out import GROUP, fan_out, tasks_of
from server.predictor import Call
from server.service import Service
from server.tasks.registry import ServedTask
from server.telemetry.requests import RequestFacts
from server.tenants.caller import Caller

VERSION = "1"  # a group has no versions; the protocol asks for one

router = APIRouter(
    prefix="/v2/models/group:{group}",
    tags=["open inference protocol"],
    dependencies=[Depends(require_client)],
    responses=oip_errors("4XX", 503),
)


def is_group(model: str) -> bool:
    """Tell whether a model is a group, there or not, and no task."""
    return model.startswith(GROUP)


def take_group(
    name: str, service: Service, caller: Caller, *, key: str | None = None, answers: bool = True
) -> "Group":
    """Take the versions of a group's tasks that a request gets, once.

    Args:
        name: Its name as a model.
        service: What serves them.
        caller: Who asks.
        key: By which the client wants to meet the same versions again; None for none.
        answers: Whether they are asked something, so that their weights count; else they are described.

    Raises:
        ForbiddenError: The caller may not call every task of it.
        GroupNotFoundError: There is no such group.
        TaskNotFoundError, TaskUnavailableError: A task of it is not served.
        ConflictError: Its tasks differ in their inputs.
    """
    take = partial(served_task, service, caller, key=key, answers=answers)
    return Group.of(name, [take(task) for task in tasks_of(name, service, caller)])


async def _group_of(
    request: Request,
    service: ServiceDep,
    group: Annotated[str, Path(description="name of the group", examples=["guards"])],
) -> "Group":
    caller, asked = context_of(request).caller, request.method == "POST"
    return take_group(f"{GROUP}{group}", service, caller, key=sticky_key(request), answers=asked)


@dataclass(frozen=True)
class Group:
    """The tasks of a group, all of which take the same inputs.

    Attributes:
        name: Its name as a model.
        tasks: The versions in service.
        inputs: The input tensors of each.
    """

    name: str
    tasks: Sequence[ServedTask]
    inputs: tuple[TensorInfo, ...]

    @classmethod
    def of(cls, name: str, tasks: Sequence[ServedTask]) -> "Group":
        """Make a model of tasks.

        Raises:
            ConflictError: They differ in their inputs.
        """
        by_task = {served.name: http_kind(served.loaded.spec).input_tensors for served in tasks}
        (first, wanted), *others = by_task.items()
        for other, inputs in others:
            if inputs != wanted:
                named = [", ".join(tensor.name for tensor in one) for one in (wanted, inputs)]
                raise ConflictError(
                    f"{name!r} can't be a model: task {first!r} takes {named[0]}, task {other!r} takes "
                    f"{named[1]}; POST /predict takes it"
                )
        return cls(name, tasks, wanted)

    @property
    def outputs(self) -> dict[str, tuple[ServedTask, TensorInfo]]:
        """Its output tensors by name, and whose they are."""
        return {
            f"{served.name}.{tensor.name}": (served, tensor)
            for served in self.tasks
            for tensor in http_kind(served.loaded.spec).output_tensors
        }

    @property
    def metadata(self) -> ModelMetadata:
        """Its tensors."""
        outputs = [replace(tensor, name=name) for name, (_, tensor) in self.outputs.items()]
        return oip.described_model(self.name, VERSION, self.inputs, outputs)


GroupDep = Annotated[Group, Depends(_group_of)]


@router.get("", summary="The tensors of a group of tasks", responses=oip_errors(404, 409))
async def group_metadata(group: GroupDep) -> ModelMetadata:
    """Name, the inputs that all tasks take, and the outputs of each."""
    return group.metadata


@router.get("/ready", summary="Whether a group of tasks can be asked", responses=oip_errors(404, 409))
async def group_ready(service: ServiceDep, group: GroupDep) -> ModelReady:
    """200 if it can: every task is in service."""
    if (reason := service.why_not_ready()) is not None:
        raise NotReadyError(reason)
    return ModelReady(name=group.name, ready=True)


@router.post(
    "/infer",
    summary="Predict with a group of tasks",
    openapi_extra={"requestBody": INFER_REQUEST_BODY},
    responses={200: INFER_REPLY, **oip_errors(400, 404, 408, 409, 413, 415, 424, 429, 503, 504)},
)
async def infer_group(
    request: Request, service: ServiceDep, group: GroupDep, json_length: JsonLength = None
) -> Response:
    """Answer with the tensors of every task, in JSON or binary as the request asks."""
    context = context_of(request)
    context.headers[PRECISION] = service.precision
    context.caller.quota.check()
    body = await read_body(request)

    def read() -> GroupCall:
        header, binary = split_body(body, json_length)
        check_values(header, service.settings.max_body_values)
        return read_call(oip.parse_infer(utf8(header)), binary, group, service.limits)

    call = await service.predictor.run_by_size(len(body), read)
    results = await unless_left(request, results_of(call, service, context))
    return infer_response(await run_in_threadpool(_reply, group, call, results))


def indexed(name: str, service: Service) -> IndexedModel:
    """Describe a group in the words of the repository index."""
    missing = [task for task in service.settings.group[name] if task not in service.registry.tasks]
    reason = one_line(f"not in service: {', '.join(missing)}") if missing else ""
    state = "UNAVAILABLE" if missing else "READY"
    return IndexedModel(name=f"{GROUP}{name}", version=VERSION, state=state, reason=reason)


@dataclass(frozen=True)
class GroupCall:
    """A request to a group that was understood.

    Attributes:
        id: Its id.
        calls: What each task is asked of which an output is wanted.
        replies: How the reply of each is to look.
        outputs: Names of the outputs, in order, and whether each is to be binary.
    """

    id: str | None
    calls: Sequence[Call]
    replies: Sequence[ReplyFormat]
    outputs: Mapping[str, bool]

    def tensors(self, results: Mapping[int, Sequence[Prediction]]) -> list[OutputTensor]:
        """Return the outputs that are wanted, in order, from the results by number of the call."""
        made: dict[str, OutputTensor] = {}
        for number, (served, wanted) in enumerate(self.calls):
            kind = http_kind(served.loaded.spec)
            own = kind.outputs_of(wanted.inputs, results[number], self.replies[number])
            made |= {
                f"{served.name}.{name}": replace(one, name=f"{served.name}.{name}")
                for name, one in own.items()
            }
        return [made[name] for name in self.outputs]


def read_call(infer: InferRequest, binary: bytes, group: Group, limits: BatchLimits) -> GroupCall:
    """Understand a request to a group.

    Args:
        infer: The JSON of the request.
        binary: What follows the JSON in the body.
        group: The group.
        limits: What can ever be admitted.

    Raises:
        InvalidBodyError, EmptyBatchError: As `oip.read_call`.
    """
    known = group.outputs
    outputs = oip.wanted_outputs(infer, list(known))
    tensors = oip.read_tensors(infer, binary, limits)
    wanted = {known[name][0].name for name in outputs}
    asked = [served for served in group.tasks if served.name in wanted]
    read = [oip.to_inputs(infer, tensors, served.loaded, limits) for served in asked]
    calls = [(served, request) for served, (request, _) in zip(asked, read, strict=True)]
    return GroupCall(infer.id, calls, [reply for _, reply in read], outputs)


async def results_of(call: GroupCall, service: Service, facts: RequestFacts) -> dict[int, list[Prediction]]:
    """Compute what the tasks are asked, by number of the call; the first that can't answer fails all of it.

    Raises:
        ServerError: A task can't answer, or there is no room for all of them.
    """
    facts.rows = sum(wanted.rows for _, wanted in call.calls)
    found: dict[int, list[Prediction]] = {}
    async with aclosing(fan_out(service, call.calls, facts)) as replies:
        async for number, reply in replies:
            if isinstance(reply, Exception):
                error = copy(part_error(reply))  # other requests may have the same
                error.message = one_line(f"task {call.calls[number][0].name!r}: {error.message}")
                raise error
            found[number] = reply
    return found


def _reply(group: Group, call: GroupCall, results: Mapping[int, Sequence[Prediction]]) -> InferReply:
    return InferReply.of((group.name, VERSION), call.id, call.tensors(results), call.outputs)
