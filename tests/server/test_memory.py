import copy
from dataclasses import replace
from datetime import UTC, datetime

import pytest
import torch
from transformers import AutoModel, BertConfig

from mask_store import BaseInfo
from masking import Base, LoadedTask, MaskSettings, TaskSpec, load_task
from server.cache import MaskCache
from server.memory import MemoryReport, memory_report
from server.registry import ServedTask
from tests.server.parts import CHOICE, SINGLE, TAGS, base_of, loaded
from tests.tiny import random_bundle


@pytest.fixture(scope="module")
def base(tiny_bert: str) -> Base:
    return base_of(tiny_bert)


def _served(task: LoadedTask, *, name: str | None = None, version: int = 1) -> ServedTask:
    return ServedTask(name or task.manifest.task, version, task, datetime.now(UTC), 0.1)


def _report(base: Base, cache: MaskCache, *tasks: LoadedTask) -> MemoryReport:
    return memory_report(base, {task.manifest.task: _served(task) for task in tasks}, cache)


def _base_bytes(base: Base) -> int:
    """Counted here from the tensors themselves."""
    tensors = {t.data_ptr(): t.nbytes for t in base.encoder.parameters()}
    if base.pooler is not None:
        tensors |= {t.data_ptr(): t.nbytes for t in base.pooler.parameters()}
    return sum(tensors.values())


def test_without_tasks(base: Base) -> None:
    report = _report(base, MaskCache(5))
    assert report.base.bytes == report.total.resident_bytes == _base_bytes(base)
    assert report.base.bytes == 4 * report.base.parameters
    assert report.tasks == {}
    assert (report.finetuned.copies, report.finetuned.bytes, report.finetuned.ratio) == (0, 0, None)
    assert (report.cache.budget_bytes, report.cache.bytes) == (5, 0)


def test_every_byte_is_counted_once(base: Base) -> None:
    specs = {"single": SINGLE, "tags": TAGS, "choice": CHOICE}
    tasks = [loaded(base, spec, task=name) for name, spec in specs.items()]
    cache = MaskCache(1 << 30)
    cache.masks_of(tasks[0])
    report = _report(base, cache, *tasks)
    held = 0
    for task in tasks:
        line = report.tasks[task.manifest.task]
        packed = sum(tensor.nbytes for tensor in task.masks.tensors.values())
        assert line.packed_mask_bytes + line.packed_head_mask_bytes == packed
        assert line.head_bytes == sum(tensor.nbytes for tensor in task.head.values())
        parts = (
            line.packed_mask_bytes,
            line.packed_head_mask_bytes,
            line.unpacked_mask_bytes,
            line.head_bytes,
        )
        assert line.resident_bytes == sum(parts)
        assert line.finetuned_bytes == 4 * base.info.parameters + line.head_bytes
        held += line.resident_bytes
    assert report.total.resident_bytes == report.base.bytes + held
    assert report.cache.bytes == report.total.unpacked_mask_bytes == cache.nbytes
    for name in ("packed_mask_bytes", "packed_head_mask_bytes", "unpacked_mask_bytes", "head_bytes"):
        assert getattr(report.total, name) == sum(getattr(line, name) for line in report.tasks.values())
    assert report.finetuned.copies == 3
    assert report.finetuned.bytes == sum(line.finetuned_bytes for line in report.tasks.values())
    assert report.finetuned.ratio == pytest.approx(
        report.finetuned.bytes / report.total.resident_bytes, abs=1e-4
    )


def test_unpacked_masks_count_while_they_are_held(base: Base) -> None:
    task, cache = loaded(base, SINGLE), MaskCache(1 << 30)
    cold = _report(base, cache, task)
    assert cold.tasks["demo"].unpacked_mask_bytes == 0
    cache.masks_of(task)
    warm = _report(base, cache, task)
    assert warm.tasks["demo"].unpacked_mask_bytes == task.manifest.mask_bits
    assert warm.total.resident_bytes - cold.total.resident_bytes == task.manifest.mask_bits
    cache.retain(())
    assert _report(base, cache, task) == cold


def test_a_mask_of_the_pretrained_pooler_counts_as_one_of_the_base(base: Base) -> None:
    assert base.pooler is not None
    task = loaded(base, SINGLE)
    line = _report(base, MaskCache(0), task).tasks["demo"]
    assert line.packed_head_mask_bytes == 3 * 32 // 8  # the classifier: 3 labels, width 32
    without = load_task(random_bundle(own := _without_pooler(base), SINGLE), own)
    line = _report(own, MaskCache(0), without).tasks["demo"]
    assert line.packed_head_mask_bytes == 3 * 32 // 8 + 32 * 32 // 8
    assert line.head_bytes == 4 * (3 * 32 + 3 + 32 * 32 + 32)


def _without_pooler(base: Base) -> Base:
    parameters = sum(parameter.numel() for parameter in base.encoder.parameters())
    return replace(base, pooler=None, info=base.info.model_copy(update={"parameters": parameters}))


def test_a_report_names_version_and_digest(base: Base) -> None:
    task = loaded(base, SINGLE)
    report = memory_report(base, {"served-as": _served(task, name="served-as", version=7)}, MaskCache(0))
    assert (report.tasks["served-as"].version, report.tasks["served-as"].digest) == (7, task.digest)


def test_a_trained_head_has_no_mask(base: Base) -> None:
    bundle = random_bundle(base, SINGLE, settings=MaskSettings(head="trained"))
    line = _report(base, MaskCache(0), load_task(bundle, base)).tasks["demo"]
    assert line.packed_head_mask_bytes == 0
    assert line.head_bytes > 0


def _bert_base(tiny: Base) -> Base:
    """BERT-base by shape, its weights never written; its fingerprint is made up."""
    with torch.device("meta"):
        model = AutoModel.from_config(BertConfig())
    model = model.to_empty(device="cpu").requires_grad_(False).eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    pooler = model.pooler.dense
    model.pooler = None
    info = BaseInfo(
        name="bert-base",
        revision=None,
        architecture="bert",
        fingerprint="sha256:" + "b" * 64,
        parameters=parameters,
    )
    return Base(model, pooler, copy.copy(tiny.tokenizer), info)


def test_table_8_of_the_paper(base: Base) -> None:
    """Two tasks on BERT-base, blocks 2 to 11: the paper's table 8, to the byte."""
    bert = _bert_base(base)
    spec = TaskSpec("sequence-classification", False, ("no", "yes"), 64)
    bundle = random_bundle(
        bert, spec, settings=MaskSettings()
    )  # one for both: bytes do not depend on the bits
    tasks = {name: _served(load_task(bundle, bert), name=name) for name in ("one", "two")}
    report = memory_report(bert, tasks, MaskCache(0))
    assert report.base.bytes == 437_928_960
    for line in report.tasks.values():
        assert line.packed_mask_bytes == 8_921_088
        assert line.packed_head_mask_bytes == 192
        assert line.head_bytes == 4 * (2 * 768 + 2)
    assert report.total.resident_bytes == 437_928_960 + 2 * (8_921_088 + 192 + 6_152)
    assert report.finetuned.bytes == 2 * (437_928_960 + 6_152)
    assert report.finetuned.ratio == pytest.approx(1.92, abs=0.005)
