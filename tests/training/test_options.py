from pathlib import Path
from typing import Any

import pytest

from tests.support.learning_data import write_lines
from training.errors import OptionsError
from training.options import EXTRA_SETTINGS, LEARNING_SETTINGS, PRESETS, LearnOptions, Method, options_of


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


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("text-classification", "sequence-classification"),
        ("multi_label_classification", "multi-label-classification"),
        ("text-ranking", "reranking"),
        ("ner", "token-classification"),
        ("regression", "regression"),
    ],
)
def test_kinds_have_the_names_of_hugging_face_too(settings: dict[str, Any], name: str, kind: str) -> None:
    assert LearnOptions(**(settings | {"kind": name})).kind == kind


def test_all_mistakes_are_told_at_once(settings: dict[str, Any]) -> None:
    wrong = {"train": "absent.jsonl", "lr": float("nan"), "epochs": 0, "blocks": "2-x", "metric": "mrr"}
    wrong |= {"tags_column": "t", "initial_sparsity": 1.0, "score_low": 0.5, "seed": -1, "threads": 0}
    wrong |= {"average": 1.0, "accumulate": 0, "final_sparsity": 0.0, "precision": "fp8", "scale_lr": True}
    wrong |= {"head": "random", "head_lr": 0.1}
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
        ({"train": None, "dev": None}, "--train missing: give --train FILE, and --dev FILE"),
        ({"kind": "regression", "class_weights": "balanced"}, "a regression task has no classes to weigh"),
        ({"track": ["tea leaves"]}, "--track"),
        ({"validation_share": 0.1}, "--validation-share takes the place of --dev"),
        ({"dev": None, "validation_share": 1.0}, "--validation-share 1.0: must lie between 0 and 1"),
        ({"train": "nothing-*.jsonl"}, r"--train nothing-\*.jsonl: no such file"),
        ({"store": __file__}, r"--store .*test_options.py: that is a file; name a folder or a URL"),
        ({"train": "."}, r"--train \.: a folder; name its files.*--dataset \."),
        ({"encoding": "latin-99"}, "--encoding latin-99: there is no such encoding"),
        ({"delimiter": "||"}, "must be one character, or comma, semicolon, tab, bar"),
        ({"kind": "summarization"}, "not one of sequence-classification"),
        ({"max_length": 2}, "--max-length 2: must be at least 8"),
        ({"lr": float("inf")}, "--lr inf"),
        ({"metric": "pearson"}, "choose from accuracy, matthews_correlation"),
        ({"score_init": "magnitude"}, "--score-init: there is no such option"),
        ({"threshold": -1.0}, "--score-low -0.02: must be below the threshold, -1.0"),
        ({"head": "masked", "head_lr": 1e-3}, "a masked head does not learn"),
        ({"head": "trained", "head_lr": 0.0}, "--head-lr 0.0: must be a number above 0"),
        ({"average": float("nan")}, "--average nan: must lie between 0 and 1"),
        ({"keep_epoch": 11}, "--keep-epoch 11: there are 10 --epochs"),
        ({"keep_epoch": 9, "final_sparsity": 0.2}, "does not go together with --final-sparsity"),
    ],
)
def test_mistakes(settings: dict[str, Any], change: dict[str, Any], message: str) -> None:
    with pytest.raises(OptionsError, match=message):
        LearnOptions(**(settings | change))


def test_files_are_one_or_several_or_a_pattern(settings: dict[str, Any], tmp_path: Path) -> None:
    paths = [str(write_lines(tmp_path / f"part-{n}.jsonl", [])) for n in (1, 0, 2)]
    for given in (paths, [paths[0], str(tmp_path / "part-[02].jsonl")]):
        assert sorted(LearnOptions(**(settings | {"train": given})).train or ()) == sorted(paths)
    pattern = str(tmp_path / "part-*.jsonl")
    assert LearnOptions(**(settings | {"train": pattern})).train == tuple(sorted(paths))
    (tmp_path / "a[b].jsonl").touch()
    assert LearnOptions(**(settings | {"train": tmp_path / "a[b].jsonl"})).train == (
        str(tmp_path / "a[b].jsonl"),
    )


def test_delimiters_have_names(settings: dict[str, Any]) -> None:
    for name, character in (("tab", "\t"), ("semicolon", ";"), (":", ":")):
        assert LearnOptions(**settings, delimiter=name).delimiter_character == character
    assert LearnOptions(**settings).delimiter_character is None


def test_where_a_run_is_kept_does_not_change_what_it_learns(settings: dict[str, Any]) -> None:
    one = LearnOptions(**settings)
    other = LearnOptions(**(settings | {"store": "t", "run_dir": "r", "fresh": True, "threads": 3}))
    assert one.learning_settings() == other.learning_settings()
    assert one.learning_settings() != LearnOptions(**(settings | {"seed": 1})).learning_settings()


def test_a_setting_beyond_the_paper_is_part_of_what_a_run_is_once_it_is_on(settings: dict[str, Any]) -> None:
    plain = LearnOptions(**settings).learning_settings()
    assert not plain.keys() & set(EXTRA_SETTINGS)
    on = {"average": 0.9, "final_sparsity": 0.2, "head": "trained", "head_lr": 1e-4}
    assert LearnOptions(**(settings | on)).learning_settings() == plain | on
    assert LearnOptions(**(settings | {"keep_epoch": 3})).learning_settings() == plain | {"keep_epoch": 3}
    weighted = {"class_weights": "balanced"}
    assert LearnOptions(**(settings | weighted)).learning_settings() == plain | weighted
    assert set(EXTRA_SETTINGS) <= {*on, *weighted, "keep_epoch"}


def test_a_run_is_known_by_the_names_of_options(settings: dict[str, Any]) -> None:
    """The keys and values of a stored run's identity, which must not change."""
    assert LearnOptions(**settings, ema_decay=0.9, gradient_accumulation_steps=2).learning_settings() == {
        "kind": "sequence-classification",
        "lr": 1e-3,
        "seed": 0,
        **{name: value for name, value in PRESETS["paper"].items() if value not in (None, "cut")},
        "head": "trained",
        "accumulate": 2,
        "average": 0.9,
    }


def test_options_are_replaced_by_either_name_and_checked(settings: dict[str, Any]) -> None:
    options = LearnOptions(**settings, ema_decay=0.9)
    assert options.replaced(ema_decay=0.5, lr=1.0) == LearnOptions(**(settings | {"average": 0.5, "lr": 1.0}))
    assert options.replaced(average=None) == LearnOptions(**settings)
    with pytest.raises(OptionsError, match=r"--average 2\.0: must lie between 0 and 1"):
        options.replaced(ema_decay=2.0)


def test_the_papers_preset_is_these_values() -> None:
    assert PRESETS["paper"] == {
        "epochs": 10,
        "patience": 2,
        "batch_size": 32,
        "accumulate": 1,
        "group_by_length": False,
        "precision": "fp32",
        "max_length": 128,
        "long_sentences": "cut",
        "blocks": "2-",
        "initial_sparsity": 0.05,
        "threshold": 0.01,
        "score_low": -0.02,
        "head": "masked",
        "final_sparsity": None,
        "average": None,
        "head_lr": None,
        "keep_epoch": None,
        "class_weights": None,
    }


def test_the_preset_sets_all_that_decides_a_mask_but_task_rate_and_seed() -> None:
    assert PRESETS["paper"].keys() == set(LEARNING_SETTINGS) - {"kind", "lr", "seed"}


def test_given_values_a_preset_and_the_defaults_make_the_options(settings: dict[str, Any]) -> None:
    given = settings | {"lr": 3e-3, "seed": 7}
    options = options_of(given, "paper")
    assert options == LearnOptions(**{**PRESETS["paper"], **given})
    assert (options.lr, options.seed, options.device) == (3e-3, 7, "auto")
    assert options_of(given) == LearnOptions(**given)


@pytest.mark.parametrize(
    ("task", "base", "method", "expected"),
    [
        ("sst2", "bert-base-uncased", "mask", (5e-4, 32)),
        ("SST-2", "google-bert/bert-base-uncased", "finetune", (1e-5, 32)),
        ("agnews", "FacebookAI/roberta-base", "mask", (5e-4, 128)),
        ("ag", "distilbert-base-uncased", "mask", (1e-3, 128)),
        ("qnli", "b", "finetune", (5e-5, 128)),
        ("questions", "bert-base-uncased", "mask", (1e-3, 32)),
    ],
)
def test_the_paper_has_rates_and_batch_sizes_of_its_tasks(
    settings: dict[str, Any], task: str, base: str, method: Method, expected: tuple[float, int]
) -> None:
    given = settings | {"task": task, "base": base}
    options = options_of(given, "paper", method)
    assert (options.lr, options.batch_size) == expected
    assert options_of(given | {"lr": 0.5}, "paper", method).lr == 0.5
    assert options_of(given, None, method).batch_size == 32


def test_a_setting_of_the_preset_is_not_given_as_well_and_all_mistakes_are_told(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(OptionsError) as caught:
        options_of(settings | {"batch_size": 32, "average": 2.0, "lr": 0.0}, "paper")
    assert caught.value.problems == (
        "--batch-size: --preset paper sets it; leave out one of the two",
        "--average: --preset paper sets it; leave out one of the two",
        "--lr 0.0: must be a number above 0",
        "--average 2.0: must lie between 0 and 1",
    )
