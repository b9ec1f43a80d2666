"""The table in docs/masking.md of what is masked in each architecture: made of the code."""

from pathlib import Path

import pytest

from masking import Base, load_base
from masking.inference.packing import can_pack
from tests.support.models import ARCHITECTURES, LATER, tiny_base

PAGE = Path(__file__).parents[3] / "docs" / "masking.md"
NAMES = {
    "albert": "ALBERT",
    "bert": "BERT, mBERT",
    "camembert": "CamemBERT",
    "data2vec-text": "data2vec-text",
    "deberta": "DeBERTa",
    "deberta-v2": "DeBERTa v2, v3, mDeBERTa",
    "distilbert": "DistilBERT",
    "electra": "ELECTRA",
    "ernie": "ERNIE",
    "eurobert": "EuroBERT",
    "gte": "GTE",
    "modernbert": "ModernBERT",
    "mpnet": "MPNet",
    "nomic_bert": "NomicBERT",
    "roberta": "RoBERTa",
    "roformer": "RoFormer",
    "xlm-roberta": "XLM-R",
}


def _cells(base: Base) -> tuple[str, ...]:
    """Cells of one architecture, after its name."""
    blocks = base.blocks
    masked = ", ".join(f"`{name.removeprefix('albert_layers.0.')}`" for name in blocks.masked_names)
    unmasked = ", ".join(f"`{name}`" for name in blocks.unmasked_names) or "-"
    one = "one for all layers" if blocks.passes > 1 else ""
    packed = can_pack(base)
    fused = "`blocks.py`" if blocks.known and packed else "transformers"
    return masked, unmasked, "packed" if packed else "padded", ", ".join(filter(None, (fused, one)))


def test_the_table_is_what_the_code_does(tmp_path: Path) -> None:
    rows: dict[tuple[str, ...], list[str]] = {}
    for architecture in (*ARCHITECTURES, *LATER):
        base = load_base(tiny_base(tmp_path / architecture, architecture))
        rows.setdefault(_cells(base), []).append(NAMES[architecture])
    table = "\n".join(f"| {' | '.join((', '.join(names), *cells))} |" for cells, names in rows.items())
    if table not in PAGE.read_text():
        pytest.fail(f"the table in {PAGE.name} should have these rows:\n{table}")
