"""Memory report: what is really held, to the byte, compared with what finetuned copies would take.

Counts tensors: the base in every form in which it is held, every task's masks, heads. Only in the process's
own figure: the interpreter, manifests, activations, and versions on their way out with the last requests that
hold them.
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydantic import BaseModel, Field

from masking import Base
from masking.inference import ResidentWeights
from masking.kernels import Precision
from server.engine.ready_masks import ReadyMasks, Residency
from server.tasks.registry import ServedTask, TaskEntry

_STATM = Path("/proc/self/statm")
_WIDTHS: Mapping[Precision, int] = {"fp32": 4, "tf32": 4, "tf32x3": 4, "bf16": 2, "int8": 1}
"""Bytes that a number takes in a finetuned copy of each precision."""


class BaseMemory(BaseModel):
    """The one resident encoder."""

    name: str
    parameters: int
    bytes: int = Field(description="fp32 tensors of the encoder and its pretrained pooler that are held")
    lines_bytes: int = Field(
        description="its layers in the precision and the order of the CPU kernel, instead of their fp32 "
        "tensors, and the matrices of ones that signs are multiplied with; without signs 0 on a GPU and on a "
        "CPU without AVX2"
    )
    resident_bytes: int = Field(description="the sum of both")


class VersionMemory(BaseModel):
    """What one version of a task holds, in bytes; nothing where its masks are cold."""

    version: int
    digest: str
    masks: Residency = Field(
        description="ready: in memory; loading: on their way there; cold: loaded by the next request"
    )
    members: int = Field(description="masks that answer together; 1 but for ensembles")
    packed_mask_bytes: int = Field(
        description="masks of the base's layers, one bit per weight; in int8 also 4 bytes for each row"
    )
    head_bytes: int = Field(description="fp32 head tensors that travel with the mask, masks applied")
    sign_bytes: int = Field(
        description="fp32 scales, biases, LayerNorms and rows of embeddings of signs; 0 for masks"
    )
    resident_bytes: int = Field(description="the sum of the above")
    finetuned_bytes: int = Field(description="a finetuned fp32 copy of the base with this head per member")


class TaskMemory(VersionMemory):
    """What a task holds: of versions side by side the stable one, and then the others."""

    others: list[VersionMemory] = Field(
        description="versions in service beside this one, by weight, by name or as a shadow; of several with "
        "the same bundle, which hold it once, only one is listed"
    )


class TotalMemory(BaseModel):
    """Sums over the tasks in all their versions, in bytes."""

    packed_mask_bytes: int
    head_bytes: int
    sign_bytes: int
    resident_bytes: int = Field(description="base in all its forms, masks, heads and what signs have")


class FinetunedMemory(BaseModel):
    """What the same tasks would take as finetuned copies, one for each version in service."""

    copies: int
    bytes: int = Field(description="in fp32")
    ratio: float | None = Field(
        description="bytes of the copies over resident bytes here; null without tasks"
    )
    bytes_in_precision: int = Field(
        description="with every number in the precision used here: bf16 half, int8 a quarter of fp32"
    )
    ratio_in_precision: float | None = Field(description="the same ratio for these")


class MemoryReport(BaseModel):
    """Reply of GET /memory."""

    precision: Precision = Field(description="in which masked layers are multiplied")
    base: BaseMemory
    tasks: dict[str, TaskMemory]
    total: TotalMemory
    mask_memory_bytes: int | None = Field(description="most bytes of masks and heads; null without a limit")
    finetuned: FinetunedMemory
    process_bytes: int | None = Field(
        description="resident memory of the whole process: the total, interpreter, libraries, manifests and "
        "work space; null where the system does not tell"
    )


def memory_report(
    base: Base, weights: ResidentWeights, tasks: Mapping[str, TaskEntry], masks: ReadyMasks
) -> MemoryReport:
    """Count every byte of the base and of the served tasks, in all their versions."""
    of_base = BaseMemory(
        name=base.info.name,
        parameters=base.info.parameters,
        bytes=base.nbytes,
        lines_bytes=weights.nbytes,
        resident_bytes=base.nbytes + weights.nbytes,
    )
    served = {name: entry.bundles for name, entry in sorted(tasks.items()) if entry.served is not None}
    lines = {name: _task_memory(versions, masks) for name, versions in served.items()}
    held = [one for line in lines.values() for one in (line, *line.others)]
    total = _total(of_base, held)
    return MemoryReport(
        precision=weights.precision,
        base=of_base,
        tasks=lines,
        total=total,
        mask_memory_bytes=masks.budget,
        finetuned=_finetuned(held, total.resident_bytes, weights.precision),
        process_bytes=_process_bytes(),
    )


def _process_bytes() -> int | None:
    """Read the resident memory of this process from Linux; None elsewhere."""
    try:
        pages = int(_STATM.read_text().split()[1])
    except OSError:
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")


def _task_memory(versions: Sequence[ServedTask], masks: ReadyMasks) -> TaskMemory:
    stable, *others = (_version_memory(version, masks) for version in versions)
    return TaskMemory(**stable.model_dump(), others=others)


def _version_memory(task: ServedTask, masks: ReadyMasks) -> VersionMemory:
    ready = masks.peek(task.digest)
    return VersionMemory(
        version=task.version,
        digest=task.digest,
        masks=masks.state(task.digest),
        members=task.loaded.copies,
        packed_mask_bytes=0 if ready is None else ready.masks_nbytes,
        head_bytes=0 if ready is None else ready.head_nbytes,
        sign_bytes=0 if ready is None else ready.signs_nbytes,
        resident_bytes=0 if ready is None else ready.nbytes,
        finetuned_bytes=task.loaded.finetuned_bytes,
    )


def _finetuned(lines: Sequence[VersionMemory], held: int, precision: Precision) -> FinetunedMemory:
    wide = sum(line.finetuned_bytes for line in lines)
    rounded = wide * _WIDTHS[precision] // _WIDTHS["fp32"]
    return FinetunedMemory(
        copies=len(lines),
        bytes=wide,
        ratio=round(wide / held, 4) if lines else None,
        bytes_in_precision=rounded,
        ratio_in_precision=round(rounded / held, 4) if lines else None,
    )


def _total(base: BaseMemory, lines: Sequence[VersionMemory]) -> TotalMemory:
    return TotalMemory(
        packed_mask_bytes=sum(line.packed_mask_bytes for line in lines),
        head_bytes=sum(line.head_bytes for line in lines),
        sign_bytes=sum(line.sign_bytes for line in lines),
        resident_bytes=base.resident_bytes + sum(line.resident_bytes for line in lines),
    )
