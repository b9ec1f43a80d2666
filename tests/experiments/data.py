"""A folder of made-up tasks under the names of the paper's, in words that the tiny models know."""

from pathlib import Path

from tests.training.data import ROWS, write_lines

TASKS = {
    "trec": "sequence-classification",
    "sem": "sequence-classification",
    "sst2": "sequence-classification",
    "ner": "token-classification",
    "codah": "multiple-choice",
}


def write_tasks(folder: Path, *, train: int = 24, dev: int = 12) -> Path:
    """Writes train and dev files of every task in `TASKS`; returns the folder."""
    for name, kind in TASKS.items():
        task = folder / name
        task.mkdir(parents=True, exist_ok=True)
        write_lines(task / "train.jsonl.gz", ROWS[kind](train))
        write_lines(task / "dev.jsonl.gz", ROWS[kind](dev, seed=1))
    return folder
