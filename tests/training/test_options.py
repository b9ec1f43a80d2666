from pathlib import Path
from typing import Any

import pytest

from tests.support.learning_data import write_lines
from training.errors import OptionsError
from training.options import EXTRA_SETTINGS, LearnOptions, parse_blocks


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, Any]:
    path = str(write_lines(tmp_path / "rows.jsonl", []))
    return {
        "task": "demo",
        "kind": "sequence-classification",
        "base": "b",
        "store": "s",
        "train": path,
        "dev": path,
    }


def test_defaults_are_the_papers_but_for_the_head(settings: dict[str, Any]) -> None:
    options = LearnOptions(**settings)
    assert (options.epochs, options.patience, options.batch_size, options.max_length) == (10, 2, 32, 128)
    assert (options.blocks, options.initial_sparsity, options.threshold) == ("2-", 0.05, 0.01)
    assert (options.score_low, options.head, options.lr) == (-0.02, "trained", 1e-3)
    assert options.run_folder == Path("runs/demo")


def test_all_mistakes_are_told_at_once(settings: dict[str, Any]) -> None:
    wrong = {"train": "absent.jsonl", "lr": float("nan"), "epochs": 0, "blocks": "2-x", "metric": "f1"}
    wrong |= {"tags_column": "t", "initial_sparsity": 1.0, "score_low": 0.5, "seed": -1, "threads": 0}
    wrong |= {"score_init": "normal", "score_gradient": "identity", "temperature": 0.1, "average": 1.0}
    wrong |= {"final_sparsity": 0.0, "head": "random", "head_lr": 0.1}
    with pytest.raises(OptionsError) as caught:
        LearnOptions(**(settings | wrong))
    told = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == len(wrong)
    for name in wrong:
        assert f"--{name.replace('_', '-')}" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dataset": "d"}, "--dataset takes the place of --train and --dev"),
        ({"train": None}, "--train missing"),
        ({"train": None, "dev": None}, "--train and --dev missing"),
        ({"kind": "regression"}, "not one of sequence-classification"),
        ({"max_length": 2}, "--max-length 2: must be at least 8"),
        ({"lr": float("inf")}, "--lr inf"),
        ({"metric": "f1"}, "choose from accuracy, matthews_correlation"),
        ({"temperature": 0.1}, "goes with --score-gradient sigmoid only"),
        ({"score_gradient": "sigmoid"}, "--temperature None: --score-gradient sigmoid needs a number"),
        ({"score_gradient": "sigmoid", "temperature": -1.0}, "--temperature -1.0"),
        ({"head": "masked", "head_lr": 1e-3}, "a masked head does not learn"),
        ({"head": "trained", "head_lr": 0.0}, "--head-lr 0.0: must be a number above 0"),
        ({"average": float("nan")}, "--average nan: must lie between 0 and 1"),
    ],
)
def test_mistakes(settings: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        LearnOptions(**(settings | change))


def test_where_a_run_is_kept_does_not_change_what_it_learns(settings: dict[str, Any]) -> None:
    one = LearnOptions(**settings)
    other = LearnOptions(**(settings | {"store": "t", "run_dir": "r", "fresh": True, "threads": 3}))
    assert one.learning_settings() == other.learning_settings()
    assert one.learning_settings() != LearnOptions(**(settings | {"seed": 1})).learning_settings()


def test_a_setting_beyond_the_paper_is_part_of_what_a_run_is_once_it_is_on(settings: dict[str, Any]) -> None:
    plain = LearnOptions(**settings).learning_settings()
    assert not plain.keys() & EXTRA_SETTINGS.keys()
    on = {"score_init": "magnitude", "score_gradient": "sigmoid", "temperature": 0.1, "average": 0.9}
    on |= {"final_sparsity": 0.2, "scale_lr": True, "head": "trained", "head_lr": 1e-4}
    assert LearnOptions(**(settings | on)).learning_settings() == plain | on
    assert EXTRA_SETTINGS.keys() <= on.keys()


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("2-", (2, 3, 4, 5)),
        ("0-2", (0, 1, 2)),
        ("5", (5,)),
        ("4-,0, 2-2,0", (0, 2, 4, 5)),
    ],
)
def test_blocks(text: str, blocks: tuple[int, ...]) -> None:
    assert parse_blocks(text, 5) == blocks


@pytest.mark.parametrize("text", ["", "a", "-3", "1--2", "3-1", "6-", "1,,2", "99999"])
def test_lists_of_blocks_that_make_no_sense(text: str) -> None:
    with pytest.raises(ValueError, match="--blocks"):
        parse_blocks(text, 5)
