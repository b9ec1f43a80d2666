"""The memory report: what is really held, to the byte, beside what finetuned copies would take.

Counts tensors: the base, every task's masks in each form, heads. Not counted: the interpreter, activations,
and versions that are on their way out with the last requests that hold them.
"""

from collections.abc import Mapping

from pydantic import BaseModel, Field

from masking import Base
from server.cache import MaskCache
from server.registry import ServedTask


class BaseMemory(BaseModel):
    """The one resident encoder."""

    name: str
    parameters: int
    bytes: int = Field(description="fp32 tensors of the encoder and its pretrained pooler")


class TaskMemory(BaseModel):
    """What one task holds, in bytes."""

    version: int
    digest: str
    packed_mask_bytes: int = Field(description="masks of the base's layers, one bit per weight")
    packed_head_mask_bytes: int = Field(description="masks of the head's own layers, one bit per weight")
    unpacked_mask_bytes: int = Field(description="all masks as booleans, 0 while they are not in the cache")
    head_bytes: int = Field(description="fp32 head tensors that travel with the mask")
    resident_bytes: int = Field(description="the sum of the above")
    finetuned_bytes: int = Field(description="a finetuned fp32 copy of the base with this head")


class TotalMemory(BaseModel):
    """Sums over the tasks, in bytes."""

    packed_mask_bytes: int
    packed_head_mask_bytes: int
    unpacked_mask_bytes: int
    head_bytes: int
    resident_bytes: int = Field(description="base, masks in every form, and heads")


class CacheMemory(BaseModel):
    """The cache of unpacked masks."""

    budget_bytes: int
    bytes: int


class FinetunedMemory(BaseModel):
    """What the same tasks would take as finetuned copies."""

    copies: int
    bytes: int
    ratio: float | None = Field(
        description="bytes of the copies over resident bytes here; null without tasks"
    )


class MemoryReport(BaseModel):
    """Reply of GET /memory."""

    base: BaseMemory
    tasks: dict[str, TaskMemory]
    cache: CacheMemory
    total: TotalMemory
    finetuned: FinetunedMemory


def memory_report(base: Base, tasks: Mapping[str, ServedTask], cache: MaskCache) -> MemoryReport:
    """Count every byte of the base, of the served tasks and of the cache."""
    lines = {name: _task_memory(task, cache) for name, task in sorted(tasks.items())}
    total = _total(base, list(lines.values()))
    copies = sum(line.finetuned_bytes for line in lines.values())
    return MemoryReport(
        base=BaseMemory(name=base.info.name, parameters=base.info.parameters, bytes=base.nbytes),
        tasks=lines,
        cache=CacheMemory(budget_bytes=cache.budget, bytes=cache.nbytes),
        total=total,
        finetuned=FinetunedMemory(
            copies=len(lines), bytes=copies, ratio=round(copies / total.resident_bytes, 4) if lines else None
        ),
    )


def _task_memory(task: ServedTask, cache: MaskCache) -> TaskMemory:
    loaded = task.loaded
    of_head = sum(
        tensor.nbytes for name, tensor in loaded.masks.tensors.items() if f"{name}.weight" in loaded.head
    )
    unpacked = cache.held_bytes(task.digest)
    return TaskMemory(
        version=task.version,
        digest=task.digest,
        packed_mask_bytes=loaded.masks.nbytes - of_head,
        packed_head_mask_bytes=of_head,
        unpacked_mask_bytes=unpacked,
        head_bytes=loaded.head_nbytes,
        resident_bytes=loaded.masks.nbytes + unpacked + loaded.head_nbytes,
        finetuned_bytes=loaded.manifest.finetuned_bytes,
    )


def _total(base: Base, lines: list[TaskMemory]) -> TotalMemory:
    return TotalMemory(
        packed_mask_bytes=sum(line.packed_mask_bytes for line in lines),
        packed_head_mask_bytes=sum(line.packed_head_mask_bytes for line in lines),
        unpacked_mask_bytes=sum(line.unpacked_mask_bytes for line in lines),
        head_bytes=sum(line.head_bytes for line in lines),
        resident_bytes=base.nbytes + sum(line.resident_bytes for line in lines),
    )
