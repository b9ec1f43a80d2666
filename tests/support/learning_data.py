"""Learning data: small made-up tasks of every kind, in words that the tiny models' tokenizer knows.

And how one of them was answered.
"""

import gzip
import json
import random
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mask_store import TaskKind
from training.judging.evaluation import Bin, ClassScores, Confusion, Evaluation, WorstError
from training.options import LearnOptions

Rows = list[dict[str, Any]]

_GOOD = ("good", "great")
_BAD = ("bad", "terrible")
_FILLER = ("the", "movie", "film", "plot", "acting", "was", "is", "a", "it")
_LABELLED = {"praise": _GOOD, "blame": _BAD, "place": ("paris", "london")}
_NAMES = {"anna": "B-PER", "paris": "B-LOC", "london": "B-LOC", "acme": "B-ORG"}


def reviews(count: int, seed: int = 0) -> Rows:
    """Sentiment: the label follows from one word."""
    chooser = random.Random(seed)
    rows: Rows = []
    for number in range(count):
        label, words = (("positive", _GOOD), ("negative", _BAD))[number % 2]
        text = " ".join([*chooser.choices(_FILLER, k=chooser.randint(2, 6)), chooser.choice(words)])
        rows.append({"text": text, "label": label})
    return rows


def pairs(count: int, seed: int = 0) -> Rows:
    chooser = random.Random(seed)
    rows: Rows = []
    for number in range(count):
        text = " ".join(chooser.choices(_FILLER, k=3))
        other = text if number % 2 else " ".join(chooser.choices(_FILLER, k=4))
        rows.append({"text": text, "text_pair": other, "label": number % 2})
    return rows


def entities(count: int, seed: int = 0) -> Rows:
    chooser = random.Random(seed)
    rows: Rows = []
    for _ in range(count):
        words = [*chooser.choices([*_FILLER, *_NAMES], k=chooser.randint(3, 8)), "anna"]
        rows.append({"tokens": words, "tags": [_NAMES.get(word, "O") for word in words]})
    rows[0] = {"tokens": list(_NAMES), "tags": list(_NAMES.values())}
    return rows


def stories(count: int, seed: int = 0) -> Rows:
    """Multiple choice with two to four choices, of which the right one is good."""
    chooser = random.Random(seed)
    rows: Rows = []
    for number in range(count):
        choices = [f"it was {chooser.choice(_BAD)}" for _ in range(2 + number % 3)]
        label = chooser.randrange(len(choices))
        choices[label] = f"it was {chooser.choice(_GOOD)}"
        rows.append({"context": "the movie was on", "choices": choices, "label": label})
    return rows


def notes(count: int, seed: int = 0) -> Rows:
    """Any number of labels, each of which follows from one word."""
    chooser = random.Random(seed)
    rows: Rows = []
    for number in range(count):
        given = [label for label, words in _LABELLED.items() if number % 4 and chooser.random() < 0.5]
        words = [chooser.choice(_LABELLED[label]) for label in given]
        rows.append({"text": " ".join([*chooser.choices(_FILLER, k=3), *words]), "labels": given})
    return rows


def ratings(count: int, seed: int = 0) -> Rows:
    """A number that follows from one word."""
    return [{"text": row["text"], "score": 2 + (row["label"] == "positive")} for row in reviews(count, seed)]


def hits(count: int, seed: int = 0) -> Rows:
    """Four documents of each query, of which the good ones are relevant."""
    chooser = random.Random(seed)
    rows: Rows = []
    for number in range(count):
        query = " ".join(random.Random(1000 * seed + number // 4).choices(_FILLER, k=3))
        words = (_GOOD, _BAD)[number % 2]
        document = " ".join([chooser.choice(words), *chooser.choices(_FILLER, k=2)])
        rows.append({"query": query, "document": document, "label": 1 - number % 2})
    return rows


def alike(count: int, seed: int = 0) -> Rows:
    """Pairs of texts, similar where both are good or both are bad."""
    chooser = random.Random(seed)
    rows: Rows = []
    for number in range(count):
        first, second = chooser.choice((_GOOD, _BAD)), chooser.choice((_GOOD, _BAD))
        texts = [
            " ".join([*chooser.choices(_FILLER, k=2 + number % 3), chooser.choice(words)])
            for words in (first, second)
        ]
        rows.append({"sentence1": texts[0], "sentence2": texts[1], "score": 5.0 * (first is second)})
    return rows


def partners(count: int, seed: int = 0) -> Rows:
    """Pairs of texts that belong together: the second has the first's words in another order."""
    chooser = random.Random(seed)
    rows: Rows = []
    for _ in range(count):
        words = chooser.sample(_FILLER + _GOOD + _BAD, k=3)
        rows.append({"anchor": " ".join(words), "positive": " ".join(reversed(words))})
    return rows


ROWS = {
    "sequence-classification": reviews,
    "token-classification": entities,
    "multiple-choice": stories,
    "multi-label-classification": notes,
    "regression": ratings,
    "reranking": hits,
    "embedding": alike,
}


def write_lines(path: Path, rows: Iterable[Mapping[str, Any] | str]) -> Path:
    """Writes rows as JSON lines (a string stands for itself), gzipped where the name ends in .gz."""
    text = "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)
    data = text.encode()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def without_dropout(base: str, folder: Path) -> str:
    """A copy of a base that drops nothing in learning, so that a batch may be split and come to the same."""
    shutil.copytree(base, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {name: 0.0 for name in config if name.endswith("dropout_prob")}
    (folder / "config.json").write_text(json.dumps(config))
    return str(folder)


def tiny_options(
    folder: Path, base: str, kind: TaskKind = "sequence-classification", /, **changes: Any
) -> LearnOptions:
    """Options that learn a made-up task in `folder` within about a second."""
    make = ROWS[kind]
    settings: dict[str, Any] = {
        "task": "demo",
        "kind": kind,
        "base": base,
        "store": str(folder / "store"),
        "train": str(write_lines(folder / "train.jsonl", make(48))),
        "dev": str(write_lines(folder / "dev.jsonl", make(16, seed=1))),
        "run_dir": str(folder / "run"),
        "epochs": 3,
        "patience": 3,
        "batch_size": 8,
        "max_length": 32,
        "blocks": "0-",
        "lr": 5e-3,
        "device": "cpu",
    }
    return LearnOptions(**(settings | changes))


def command_line(folder: Path, base: str, /, **changes: str) -> list[str]:
    """The command line of a small run; an empty value leaves an option out."""
    options = tiny_options(folder, base)
    names = ("task", "kind", "base", "store", "train", "dev", "run_dir", "max_length", "device", "blocks")
    values = {name: getattr(options, name) for name in names} | {"epochs": "1"} | changes
    values |= {name: own[0] if isinstance(own, tuple) else str(own) for name, own in values.items()}
    return [
        part for name, value in values.items() if value for part in (f"--{name.replace('_', '-')}", value)
    ]


def evaluation_of(**changes: Any) -> Evaluation:
    """Twenty answers of a task with two labels."""
    fields: dict[str, Any] = {
        "kind": "sequence-classification",
        "file": "dev.jsonl",
        "examples": 20,
        "unusable": 1,
        "metric": "accuracy",
        "metrics": {"accuracy": 0.8, "f1_macro": 0.7917},
        "baseline": 0.5,
        "baseline_answer": "'a' for everything",
        "classes": (
            ClassScores("a", 9 / 12, 0.9, 9 / 11, 10),
            ClassScores("b", 7 / 8, 0.7, 7 / 9, 10),
        ),
        "confusion": (
            Confusion("a", "a", 9),
            Confusion("b", "b", 7),
            Confusion("b", "a", 3),
            Confusion("a", "b", 1),
        ),
        "calibration_error": 0.05,
        "bins": (Bin(0.5, 0.6, 10, 0.55, 0.6), Bin(0.9, 1.0, 10, 0.95, 1.0)),
        "worst": (WorstError(7, "<b>odd</b> & bad", "a", "b", 0.9),),
    }
    return Evaluation(**fields | changes)
