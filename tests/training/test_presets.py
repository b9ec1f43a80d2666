from pathlib import Path
from typing import Any

import pytest

from tests.support.learning_data import write_lines
from training.errors import OptionsError
from training.options import LEARNING_SETTINGS, LearnOptions
from training.presets import PRESETS, options_of


@pytest.fixture
def required(tmp_path: Path) -> dict[str, Any]:
    path = str(write_lines(tmp_path / "rows.jsonl", []))
    kind = "sequence-classification"
    return {"task": "demo", "kind": kind, "base": "b", "store": "s", "train": path, "dev": path}


def test_the_papers_preset_is_these_values() -> None:
    assert PRESETS["paper"] == {
        "epochs": 10,
        "patience": 2,
        "batch_size": 32,
        "accumulate": 1,
        "group_by_length": False,
        "precision": "fp32",
        "max_length": 128,
        "blocks": "2-",
        "initial_sparsity": 0.05,
        "threshold": 0.01,
        "score_low": -0.02,
        "head": "masked",
        "score_init": "uniform",
        "score_gradient": "straight-through",
        "temperature": None,
        "final_sparsity": None,
        "average": None,
        "scale_lr": False,
        "head_lr": None,
    }


def test_the_preset_sets_all_that_decides_a_mask_but_task_rate_and_seed() -> None:
    assert PRESETS["paper"].keys() == set(LEARNING_SETTINGS) - {"kind", "lr", "seed"}


def test_given_values_a_preset_and_the_defaults_make_the_options(required: dict[str, Any]) -> None:
    given = required | {"lr": 3e-3, "seed": 7}
    options = options_of(given, "paper")
    assert options == LearnOptions(**{**PRESETS["paper"], **given})
    assert (options.lr, options.seed, options.device) == (3e-3, 7, "auto")
    assert options_of(given) == LearnOptions(**given)


def test_a_setting_of_the_preset_is_not_given_as_well_and_all_mistakes_are_told(
    required: dict[str, Any],
) -> None:
    with pytest.raises(OptionsError) as caught:
        options_of(required | {"batch_size": 32, "average": 2.0, "lr": 0.0}, "paper")
    assert caught.value.problems == (
        "--batch-size: --preset paper sets it; leave out one of the two",
        "--average: --preset paper sets it; leave out one of the two",
        "--lr 0.0: must be a number above 0",
        "--average 2.0: must lie between 0 and 1",
    )
