import copy
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest
import torch
from transformers import AutoModel, BertConfig

from mask_store import VersionInfo, ensemble_of
from masking import Base, LoadedTask, MaskSettings, TaskSpec, load_base, load_task
from masking.inference import ResidentWeights
from masking.kernels import Precision
from server.memory_report import MemoryReport, memory_report
from server.tasks.registry import ServedTask, TaskEntry
from tests.support.kernels.cases import LINES
from tests.support.models import finetuned, random_bundle, sign_bundle
from tests.support.server_parts import CHOICE, SINGLE, TAGS, loaded, ready_masks


def _served(task: LoadedTask, *, name: str | None = None, version: int = 1) -> TaskEntry:
    return TaskEntry(ServedTask(name or task.name, version, task, datetime.now(UTC), 0.1))


def _report(base: Base, *tasks: LoadedTask, weights: ResidentWeights | None = None) -> MemoryReport:
    served = {task.name: _served(task) for task in tasks}
    return memory_report(base, weights or ResidentWeights(base.device), served, ready_masks(*tasks))


def _base_bytes(base: Base) -> int:
    """Counted here from the tensors themselves."""
    tensors = {t.data_ptr(): t.nbytes for t in base.encoder.parameters()}
    if base.pooler is not None:
        tensors |= {t.data_ptr(): t.nbytes for t in base.pooler.parameters()}
    return sum(tensors.values())


def test_without_tasks(base: Base) -> None:
    report = _report(base)
    assert report.base.bytes == report.total.resident_bytes == _base_bytes(base)
    assert report.base.bytes == 4 * report.base.parameters
    assert report.tasks == {}
    assert (report.finetuned.copies, report.finetuned.bytes, report.finetuned.ratio) == (0, 0, None)
    assert (report.finetuned.bytes_in_precision, report.finetuned.ratio_in_precision) == (0, None)
    assert (report.precision, report.base.lines_bytes) == ("fp32", 0)


@pytest.mark.parametrize("precision", LINES)
def test_the_base_is_counted_in_every_form(base: Base, precision: Precision) -> None:
    weights = ResidentWeights.of(base, precision)
    task = load_task(random_bundle(base, SINGLE), base, weights)
    report = _report(base, task, weights=weights)
    weight, bias = 3 * (4 * 32 * 32 + 2 * 32 * 64), 3 * (5 * 32 + 64)  # of three blocks of width 32
    extra = {
        "fp32": 4 * (weight + bias),
        "bf16": 2 * weight + 4 * bias,
        "int8": weight + 3 * 4 * bias,
    }  # with scales and sums of the rows
    assert (report.precision, report.base.lines_bytes) == (precision, extra[precision])
    assert report.base.bytes == _base_bytes(base)
    assert report.base.resident_bytes == report.base.bytes + report.base.lines_bytes
    held = report.base.resident_bytes + report.tasks["demo"].resident_bytes
    copies = report.finetuned
    assert report.total.resident_bytes == held
    assert copies.bytes == report.tasks["demo"].finetuned_bytes
    assert copies.bytes_in_precision == copies.bytes // {"fp32": 1, "bf16": 2, "int8": 4}[precision]
    assert copies.ratio == round(copies.bytes / held, 4)
    assert copies.ratio_in_precision == round(copies.bytes_in_precision / held, 4)


@pytest.mark.parametrize("precision", LINES)
def test_what_the_base_let_go_of_is_not_counted(tiny_bert: str, precision: Precision) -> None:
    own = load_base(tiny_bert)
    before, linears = own.nbytes, 3 * 4 * (4 * 32 * 32 + 2 * 32 * 64)
    weights = ResidentWeights.of(own, precision)
    task = load_task(random_bundle(own, SINGLE), own, weights)
    weights.release(own)
    report = _report(own, task, weights=weights)
    assert report.base.bytes == before - linears
    assert report.base.resident_bytes == before - linears + weights.nbytes
    assert report.finetuned.bytes == before + report.tasks["demo"].head_bytes


def test_in_fp32_copies_are_counted_once(base: Base) -> None:
    copies = _report(base, loaded(base, SINGLE)).finetuned
    assert (copies.bytes_in_precision, copies.ratio_in_precision) == (copies.bytes, copies.ratio)


def test_every_byte_is_counted_once(base: Base) -> None:
    specs = {"single": SINGLE, "tags": TAGS, "choice": CHOICE}
    tasks = [loaded(base, spec, task=name) for name, spec in specs.items()]
    report = _report(base, *tasks)
    held = 0
    for task in tasks:
        line = report.tasks[task.name]
        (member,) = task.members
        assert line.members == 1
        assert line.packed_mask_bytes == sum(mask.nbytes for mask in member.masks.layers.values())
        assert line.head_bytes == sum(tensor.nbytes for tensor in member.head.values())
        assert line.resident_bytes == line.packed_mask_bytes + line.head_bytes
        assert line.finetuned_bytes == 4 * base.info.parameters + line.head_bytes
        held += line.resident_bytes
    assert report.total.resident_bytes == report.base.bytes + held
    for name in ("packed_mask_bytes", "head_bytes"):
        assert getattr(report.total, name) == sum(getattr(line, name) for line in report.tasks.values())
    assert report.finetuned.copies == 3
    assert report.finetuned.bytes == sum(line.finetuned_bytes for line in report.tasks.values())
    assert report.finetuned.ratio == pytest.approx(
        report.finetuned.bytes / report.total.resident_bytes, abs=1e-4
    )


def test_a_pooler_of_the_task_counts_as_head(base: Base) -> None:
    assert base.pooler is not None
    line = _report(base, loaded(base, SINGLE)).tasks["demo"]
    assert line.head_bytes == 4 * (3 * 32 + 3)
    without = load_task(random_bundle(own := _without_pooler(base), SINGLE), own)
    other = _report(own, without).tasks["demo"]
    assert other.packed_mask_bytes == line.packed_mask_bytes - 32 * 32 // 8
    assert other.head_bytes == line.head_bytes + 4 * (32 * 32 + 32)


def _without_pooler(base: Base) -> Base:
    parameters = sum(parameter.numel() for parameter in base.encoder.parameters())
    return replace(base, pooler=None, info=base.info.model_copy(update={"parameters": parameters}))


def test_a_report_names_version_and_digest(base: Base) -> None:
    task = loaded(base, SINGLE)
    served = {"served-as": _served(task, name="served-as", version=7)}
    report = memory_report(base, ResidentWeights(base.device), served, ready_masks(task))
    assert (report.tasks["served-as"].version, report.tasks["served-as"].digest) == (7, task.digest)


def test_cold_masks_take_nothing(base: Base) -> None:
    cold, ready = loaded(base, SINGLE, task="cold"), loaded(base, SINGLE, task="ready")
    served = {task.name: _served(task) for task in (cold, ready)}
    masks = ready_masks(ready, budget=1 << 20)
    report = memory_report(base, ResidentWeights(base.device), served, masks)
    assert (report.tasks["cold"].masks, report.tasks["cold"].resident_bytes) == ("cold", 0)
    assert (report.tasks["ready"].masks, report.tasks["ready"].resident_bytes) == ("ready", ready.nbytes)
    assert report.total.resident_bytes == report.base.resident_bytes + ready.nbytes
    assert (report.finetuned.copies, report.mask_memory_bytes) == (2, 1 << 20)


def test_a_task_that_is_not_served_is_not_listed(base: Base) -> None:
    entries = {"loading": TaskEntry(), "unloaded": TaskEntry(unloaded=True)}
    report = memory_report(base, ResidentWeights(base.device), entries, ready_masks())
    assert (report.tasks, report.finetuned.copies) == ({}, 0)


def _bert_base(tiny: Base) -> Base:
    """BERT-base by shape, all its weights zero."""
    with torch.device("meta"):
        model = AutoModel.from_config(BertConfig())
    model.to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        tensor.detach().zero_()
    return Base.from_model(model, copy.copy(tiny.tokenizer), name="bert-base")


def test_table_8_of_the_paper(base: Base) -> None:
    """Two tasks on BERT-base, blocks 2 to 11: the paper's table 8, to the byte."""
    bert = _bert_base(base)
    spec = TaskSpec("sequence-classification", ("no", "yes"), max_length=64)
    bundle = random_bundle(
        bert, spec, settings=MaskSettings()
    )  # one for both: bytes do not depend on the bits
    task = load_task(bundle, bert)
    tasks = {name: _served(task, name=name) for name in ("one", "two")}
    bits = {layer.name: layer.bits for layer in bundle.members[0].info.layers}
    assert bits["classifier"] == 8 * 192
    report = memory_report(bert, ResidentWeights(bert.device), tasks, ready_masks(task))
    assert report.base.bytes == 437_928_960
    for line in report.tasks.values():
        assert line.packed_mask_bytes == 8_921_088
        assert line.head_bytes == 4 * (2 * 768 + 2)
    assert report.total.resident_bytes == 437_928_960 + 2 * (8_921_088 + 6_152)
    assert report.finetuned.bytes == 2 * (437_928_960 + 6_152)
    assert report.finetuned.ratio == pytest.approx(1.92, abs=0.005)


@pytest.mark.parametrize("precision", LINES)
def test_bert_base_served_in_each_precision(base: Base, precision: Precision) -> None:
    bert = _bert_base(base)
    weights = ResidentWeights.of(bert, precision)
    weights.release(bert)
    held = {"fp32": 438_260_736, "bf16": 268_391_424, "int8": 184_120_320}[precision]
    assert memory_report(bert, weights, {}, ready_masks()).base.resident_bytes == held


def test_an_ensemble_counts_every_member(base: Base) -> None:
    bundles = [random_bundle(base, SINGLE, seed=seed) for seed in range(3)]
    sources = [
        (VersionInfo("demo", n, bundle.digest, 1, datetime.now(UTC)), bundle)
        for n, bundle in enumerate(bundles, 1)
    ]
    line = _report(base, load_task(ensemble_of("together", "labels", sources), base)).tasks["together"]
    alone = _report(base, load_task(bundles[0], base)).tasks["demo"]
    assert (line.members, alone.members) == (3, 1)
    for name in ("packed_mask_bytes", "head_bytes", "resident_bytes", "finetuned_bytes"):
        assert getattr(line, name) == 3 * getattr(alone, name)


def test_the_whole_process_is_told_where_the_system_tells(
    base: Base, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = _report(base).process_bytes
    assert told is not None
    assert told == pytest.approx(psutil.Process().memory_info().rss, rel=0.02)
    monkeypatch.setattr("server.memory_report._STATM", Path("/there/is/none"))
    assert _report(base).process_bytes is None


def test_signs_are_counted(tiny_bert: str, base: Base, tmp_path: Path) -> None:
    weights = ResidentWeights(base.device)
    copy = finetuned(tiny_bert, tmp_path / "copy", "sequence-classification")
    task, mask = load_task(sign_bundle(base, copy), base, weights), loaded(base, SINGLE)
    report = _report(base, task, mask, weights=weights)
    line, other = report.tasks["copied"], report.tasks["demo"]
    assert task.members[0].signs is not None
    assert line.sign_bytes == report.total.sign_bytes == task.members[0].signs.nbytes > 0
    assert line.resident_bytes == line.packed_mask_bytes + line.head_bytes + line.sign_bytes
    assert other.sign_bytes == 0
    held = sum(one.resident_bytes for one in report.tasks.values())
    assert report.total.resident_bytes == report.base.resident_bytes + held
