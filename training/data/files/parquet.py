"""Parquet rows; the names of classes that `datasets` keeps in the schema take the place of their numbers."""

from pathlib import Path
from typing import Any

from training.data.files.names import refuse_repeated, with_class_names
from training.data.rows import RowSet

_FEATURES = b"huggingface"


def read_parquet(path: Path) -> RowSet:
    """Read all rows.

    Raises:
        DataFileError: Two columns have one name.
        OSError, pyarrow.ArrowException: It can't be read, or is no Parquet file.
    """
    import pyarrow.parquet as pq  # noqa: PLC0415 (slow to import, and most runs read JSON lines)

    schema = pq.read_schema(path)
    refuse_repeated(path, schema.names)
    rows = pq.read_table(path, partitioning=None).to_pylist()
    return with_class_names(str(path), rows, _features(schema))


def _features(schema: Any) -> Any:
    if _FEATURES not in (schema.metadata or {}):
        return {}
    from datasets import Features  # noqa: PLC0415 (slow to import)

    return Features.from_arrow_schema(schema)
