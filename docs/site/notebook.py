"""Tutorial: `python docs/site/notebook.py` runs docs/tutorial.ipynb and keeps what its cells print.

Needs `pip install -e '.[serve,train,demo,docs]'`.
"""

import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

TUTORIAL = Path(__file__).parents[1] / "tutorial.ipynb"
CELL_SECONDS = 600


def run(folder: Path) -> nbformat.NotebookNode:
    """Run the tutorial in a folder.

    Args:
        folder: Where its files are written.

    Returns:
        The notebook, with what was printed and nothing else about the run.

    Raises:
        CellExecutionError: A cell failed.
    """
    notebook = nbformat.read(TUTORIAL, nbformat.current_nbformat)
    places = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=CELL_SECONDS, resources=places, record_timing=False).execute()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count = None
            # Not warnings of this machine; and what was printed may come in several pieces.
            printed = "".join(output.text for output in cell.outputs if output.get("name") == "stdout")
            cell.outputs = [nbformat.v4.new_output("stream", text=printed)] if printed else []
    notebook.metadata.language_info = {"name": "python"}
    return notebook


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        nbformat.write(run(Path(place)), TUTORIAL)
