"""Sources of rows: files by the ends of their names, and splits of datasets of the Hugging Face hub.

Files are read here and not by `datasets`, which keeps no line numbers; those of a local folder that it knows
as a dataset too, so that the same data are the same rows whichever way they come. This is the boundary to the
libraries that read: whatever they raise becomes one line that names the source.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from training.data.files import conll
from training.data.files.delimited import read_delimited
from training.data.files.json_rows import read_json
from training.data.files.names import with_class_names
from training.data.files.parquet import read_parquet
from training.data.files.text import COMPRESSED, read_text
from training.data.rows import Row, RowSet
from training.errors import DataError, DataFileError

FORMATS = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", *conll.SUFFIXES, ".parquet")

_LONGEST_REASON = 300
_SAVED = ("dataset_dict.json", "state.json")


def read_file(path: str | Path, *, encoding: str | None = None, delimiter: str | None = None) -> RowSet:
    """Read every row of a file.

    Args:
        path: A file whose name ends in one of `FORMATS`, text formats also with ``.gz`` and the like behind.
        encoding: Encoding of a text file; None to find it, see `training.data.files.text`.
        delimiter: What stands between the fields of CSV or TSV; None to find it.

    Raises:
        DataFileError: The file can't be opened, its format is unknown, or one line is malformed.
    """
    path = Path(path)
    suffix = file_format(path)
    with _translated(f"{path}: can't be read"):
        if suffix == ".parquet":
            return read_parquet(path)
        text = read_text(path, encoding)
        if suffix in {".csv", ".tsv"}:
            return read_delimited(path, text, tabs=suffix == ".tsv", delimiter=delimiter)
        if suffix in conll.SUFFIXES:
            return conll.read_conll(path, text)
        return read_json(path, text, document=suffix == ".json")


def read_files(
    paths: Sequence[str | Path], *, encoding: str | None = None, delimiter: str | None = None
) -> RowSet:
    """Read files as one: the shards of a data set; see `read_file`. Rows are numbered over all of them."""
    sets = [read_file(path, encoding=encoding, delimiter=delimiter) for path in paths]
    if len(sets) == 1:
        return sets[0]
    rows = tuple(Row(n, row.values) for n, row in enumerate((row for one in sets for row in one.rows), 1))
    ends = [sum(len(one.rows) for one in sets[: place + 1]) for place in range(len(sets))]
    shares = (f"{one.source} to row {end}" for one, end in zip(sets, ends, strict=True))
    notes: tuple[str, ...] = (f"rows are numbered over {len(sets)} files: {', '.join(shares)}",)
    notes += tuple(dict.fromkeys(note for one in sets for note in one.notes))
    warnings = tuple(f"{one.source}: {warning}" for one in sets for warning in one.warnings)
    return RowSet(f"{sets[0].source} and {len(sets) - 1} more", "row", rows, notes, warnings)


def file_format(path: Path) -> str:
    """Return the format of a file by its name, one of `FORMATS`.

    Raises:
        DataFileError: The name ends in nothing that is known.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    packed = bool(suffixes) and suffixes[-1] in COMPRESSED
    suffix = next(iter(suffixes[-1 - packed :]), "")
    if suffix not in FORMATS or (packed and suffix == ".parquet"):
        known = ", ".join(FORMATS[:-1])
        raise DataFileError(
            f"{path}: unknown format; the name must end in {known} (each also with .gz) or .parquet"
        )
    return suffix


def read_dataset(
    name: str, split: str, *, encoding: str | None = None, delimiter: str | None = None
) -> RowSet:
    """Read one split of a dataset of the hub, or of a local folder in a form that `datasets` knows.

    Labels stored as numbers with names (``ClassLabel``) come back as their names; -1, the hub's mark for "no
    label", comes back as None.

    Args:
        name: ``ID`` or ``ID:CONFIG``.
        split: Such as ``train``, or ``train[:1000]``.
        encoding: Of the text files of a local folder, see `read_file`.
        delimiter: Of its CSV and TSV files.

    Raises:
        DataFileError: It could not be loaded; the message says why.
    """
    import datasets  # noqa: PLC0415 (slow to import, and most runs read a file)

    identifier, _, config = name.partition(":")
    source = f"{name} [{split}]"
    with _translated(f"dataset {name}, split {split}"):
        if any((Path(identifier) / file).is_file() for file in _SAVED):  # Dataset.save_to_disk
            data = datasets.load_from_disk(identifier)
            data = data[split] if isinstance(data, dict) else data
            return with_class_names(source, data, data.features)
        if Path(identifier).is_dir():
            builder = datasets.load_dataset_builder(identifier, config or None)
            files = [Path(file) for file in (builder.config.data_files or {}).get(split, ())]
            if files and all(_is_known(file) for file in files):
                features = builder.info.features or {}
                rows = read_files(files, encoding=encoding, delimiter=delimiter)
                return _renamed(rows, source, features)
        data = datasets.load_dataset(identifier, config or None, split=split)
        return with_class_names(source, data, data.features)


def lacks_split(name: str, split: str) -> bool:
    """Tell whether a dataset is known to have no such split; see `read_dataset`."""
    import datasets  # noqa: PLC0415 (as above)

    identifier, _, config = name.partition(":")
    try:
        if any((Path(identifier) / file).is_file() for file in _SAVED):
            data = datasets.load_from_disk(identifier)
            return not isinstance(data, dict) or split not in data
        return split not in datasets.get_dataset_split_names(identifier, config or None)
    except Exception:  # as below; what is wrong is told where the dataset is read
        return False


def _renamed(rows: RowSet, source: str, features: Any) -> RowSet:
    named = with_class_names(source, [row.values for row in rows.rows], features)
    numbered = tuple(Row(row.line, own.values) for row, own in zip(rows.rows, named.rows, strict=True))
    return replace(rows, source=source, rows=numbered, notes=rows.notes + named.notes)


def _is_known(path: Path) -> bool:
    try:
        return bool(file_format(path))
    except DataFileError:
        return False


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Turn whatever a library raises into one line, beginning with what was done."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # the libraries raise dozens of unrelated classes
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        line = " ".join(reason.split())[:_LONGEST_REASON] or type(error).__name__
        raise DataFileError(f"{what}: {line}") from error
