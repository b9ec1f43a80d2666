"""A folder of made-up tasks under the names of the paper's, in words that the tiny models know."""

from pathlib import Path

from tests.support.learning_data import ROWS, write_lines

TASKS = {
    "trec": "sequence-classification",
    "sem": "sequence-classification",
    "sst2": "sequence-classification",
    "ner": "token-classification",
    "codah": "multiple-choice",
}


def write_tasks(folder: Path, *, train: int = 24) -> Path:
    """Writes train and dev files of every task in `TASKS`, no two with the same rows; returns the folder."""
    for number, (name, kind) in enumerate(TASKS.items()):
        task = folder / name
        task.mkdir(parents=True, exist_ok=True)
        write_lines(task / "train.jsonl.gz", ROWS[kind](train, seed=2 * number))
        write_lines(task / "dev.jsonl.gz", ROWS[kind](12, seed=2 * number + 1))
    return folder
