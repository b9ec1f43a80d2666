import argparse

import pytest

from training.cli.parser import add_method, build_parser, parse_options
from training.options import LearnOptions

REQUIRED = ["--task", "t", "--kind", "multiple-choice", "--base", "b", "--store", "s", "--dataset", "d"]


def _parser() -> argparse.ArgumentParser:
    return build_parser("python -m training.learn_mask", "Learns a task.")


def test_every_option_has_the_default_of_the_settings() -> None:
    parsed = parse_options(_parser().parse_args(REQUIRED))
    assert parsed == LearnOptions(task="t", kind="multiple-choice", base="b", store="s", dataset="d")


def test_every_setting_is_an_option() -> None:
    names = {action.dest for action in _parser()._actions}
    assert {field.alias or name for name, field in LearnOptions.model_fields.items()} <= names


def test_a_preset_leaves_the_rate_to_be_given() -> None:
    parsed = parse_options(_parser().parse_args([*REQUIRED, "--preset", "paper", "--lr", "0.01"]))
    assert (parsed.lr, parsed.initial_sparsity, parsed.head) == (0.01, 0.05, "masked")


def test_the_rate_belongs_to_the_method() -> None:
    def rate(*options: str) -> float:
        parser = _parser()
        add_method(parser)
        return parse_options(parser.parse_args([*REQUIRED, *options])).lr

    assert (rate("--method", "mask"), rate("--method", "finetune")) == (1e-3, 5e-5)
    assert rate("--method", "finetune", "--lr", "0.5") == 0.5


def test_what_a_preset_comes_to_for_a_task_is_told(log: pytest.LogCaptureFixture) -> None:
    def told(*options: str) -> str:
        log.clear()
        parse_options(_parser().parse_args([*REQUIRED, "--preset", "paper", *options]))
        return log.messages[-1]

    swag = ("--task", "swag", "--base", "FacebookAI/roberta-base")
    assert told(*swag) == (
        "preset paper: lr 0.0001 (the paper's for swag on roberta-base, Table 4, is 0.0001), batch size 32"
    )
    assert told(*swag, "--lr", "0.5").startswith("preset paper: lr 0.5 (the paper's for swag")
    assert "lr 0.001 (the paper has none for t on b; training.search finds one)" in told()
