import json
from pathlib import Path

import pytest
import torch

from benchmarks.__main__ import main
from benchmarks.cases.training_step import FINETUNED, MASKED, Setting, Step, open_base
from masking import FinetunedModel, MaskedModel
from masking.base import base_tensors


def tiny_setting(base: str) -> Setting:
    return Setting(base, "bert-base", "1-", batch=4, tokens=8, threads=1, device="cpu")


def test_both_methods_learn_from_the_same_batch_and_leave_the_base_alone(tiny_bert: str) -> None:
    setting = tiny_setting(tiny_bert)
    base = open_base(setting)
    before = [tensor.clone() for _, tensor in base_tensors(base.encoder, base.pooler)]
    masked, finetuned = (Step(setting, base, method) for method in (MASKED, FINETUNED))
    assert isinstance(masked.model, MaskedModel)
    assert isinstance(finetuned.model, FinetunedModel)
    assert torch.equal(masked.batch["input_ids"], finetuned.batch["input_ids"])
    for step in (masked, finetuned):
        start = step.model.learned_state()
        step()
        learned = step.model.learned_state()
        assert any(not torch.equal(learned[name], start[name]) for name in start)
        assert all(parameter.grad is None for parameter in step.model.parameters())
    after = [tensor for _, tensor in base_tensors(base.encoder, base.pooler)]
    assert all(map(torch.equal, before, after))


def test_command_line(tiny_bert: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out.json"
    small = ["--blocks", "1-", "--batch", "2", "--tokens", "8", "--runs", "2", "--threads", "1"]
    assert main(["training_step", "--base", tiny_bert, *small, "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["ratios"].keys() == {"min", "median", "cpu"}
    assert len(report["times"][MASKED]["wall"]) == 2
    assert report["machine"]["versions"]["torch"]
    for memory in report["memory"].values():
        assert 0 < memory["libraries"] < memory["peak"]
    printed = capsys.readouterr().out
    assert "2 x 8 tokens, blocks 1-; cpu, threads: 1; runs: 2" in printed
    assert "| fastest step, s |" in printed
    assert "| bf16 over fp32, fastest |" in printed
