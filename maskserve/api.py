"""Python API: learning, the store and the server as functions of one package."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mask_store import MaskStore
from training.options import LearnOptions

if TYPE_CHECKING:
    from fastapi import FastAPI

    from masking import Base
    from training.copies.importing import ImportReport
    from training.loop.callbacks import Callback
    from training.runs.report import Report

__all__ = ["LearnOptions", "create_app", "import_model", "learn", "open_store"]


def open_store(place: str | Path, *, create: bool = False) -> MaskStore:
    """Open a store of masks.

    Args:
        place: Folder, or any URL that fsspec opens, such as ``s3://bucket/masks``.
        create: Whether to make the store if there is none.

    Raises:
        StoreNotFoundError: There is no store and `create` is off.
    """
    return MaskStore.open(place, create=create)


def learn(*, callbacks: "Sequence[Callback]" = (), **options: Any) -> "Report":
    """Learn a task's mask and publish it; needs the extra ``train``.

    Args:
        callbacks: Called at steps, logs and epochs; see `training.loop.callbacks.Callback`.
        options: Fields of `LearnOptions`: the options of ``maskserve learn``, with underscores.

    Returns:
        What was learned and published.

    Raises:
        OptionsError: Options that don't make sense; lists every mistake.
    """
    import training  # noqa: PLC0415 (torch)

    return training.learn(LearnOptions(**options), callbacks=callbacks)


def import_model(
    model: str,
    *,
    base: "str | Base",
    task: str,
    store: str | Path | MaskStore,
    revision: str | None = None,
    **options: Any,
) -> "ImportReport":
    """Make a task of a finetuned classifier or a sentence encoder, and publish it; needs the extra ``train``.

    Args:
        model: Hub id or folder of the model.
        base: Hub id or folder of the encoder that it was finetuned from, or the encoder itself.
        task: Name to publish it under.
        store: Where to: a store, or its folder or URL.
        revision: Branch, tag or commit of the model on the hub.
        options: Fields of `training.copies.importing.ImportOptions`: options of ``maskserve import``.

    Returns:
        What was published, and how alike both answer.

    Raises:
        CopyError: The model was not finetuned from the base, or is no model that can be a task.
        BaseLoadError: The base can't be loaded.
    """
    from masking import load_base  # noqa: PLC0415 (torch)
    from training.copies.importing import ImportOptions, import_copy  # noqa: PLC0415

    opened = store if isinstance(store, MaskStore) else open_store(store, create=True)
    encoder = load_base(base) if isinstance(base, str) else base
    return import_copy(model, encoder, task, opened, ImportOptions(**options), revision=revision)


def create_app(**settings: Any) -> "FastAPI":
    """Build the server as an ASGI application, for uvicorn or any other; needs the extra ``serve``.

    Args:
        settings: Fields of `server.Settings`: the options of ``maskserve serve``, with underscores. Those
            that are not given come from the environment or the file, as for the command.

    Raises:
        pydantic.ValidationError: Settings that don't make sense; lists every mistake.
        SettingsError: A setting that this machine can't fulfil.
        BaseLoadError: The encoder can't be loaded.
        StoreNotFoundError: There is no store.
    """
    from server.threads.compute import leave_cores_free  # noqa: PLC0415 (only here)

    leave_cores_free()

    import server  # noqa: PLC0415 (torch, and the extra)

    return server.create_app(server.build_service(server.Settings(**settings)))
