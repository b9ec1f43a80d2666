"""Import of a finetuned checkpoint as a task, from the copy to a published bundle: of signs, or a mask.

Of signs, a row's scale is a factor times the mean of |copy - base|: the one of a few factors with which the
task answers most like the copy, on the text that is given, else on rows drawn from the vocabulary. Text to
fit on makes it a factor of each row. A mask is learned; see `training.copies.distilling`.
"""

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from mask_store import (
    JsonScalar,
    MaskBundle,
    MaskStore,
    Pooling,
    SignManifest,
    TaskKind,
    TaskManifest,
    WordPiece,
    human_bytes,
)
from masking import Base, Features, TaskSpec, task_codec
from masking.checkpoints import CopySigns, FinetunedCopy, fit_scales, load_copy
from masking.tasks.predictions import Floats
from training.copies.comparing import MAX_ROWS, Comparison, compare
from training.copies.copied_text import (
    Agreement,
    CopiedText,
    copy_logits,
    encode,
    generated,
    read_copied_text,
)
from training.copies.distilling import Distillation
from training.errors import OptionsError
from training.loop.callbacks import Callback
from training.loop.evaluation import features_logits
from training.loop.run_folder import RunFolder
from training.options import CopyEmbeddings, CopyForm, LoopOptions
from training.runs.learn import publish_kept

FACTORS = (1.0, 1.25, 1.5, 1.75, 2.0)
_CHOSEN_ON = 256
_DEV_SHARE = 0.1


@dataclass(frozen=True)
class ImportOptions:
    """What the copy doesn't say.

    Attributes:
        form: What becomes of it: signs of the change, or a 0/1 mask that is learned from its answers.
        pair: Whether a sequence classifier takes pairs of texts.
        max_length: Longest input in tokens; None for what the copy's tokenizer takes.
        word_piece: At which wordpiece a token classifier's labels are read.
        pooling: What the embeddings of an encoder are made of; None for what its files say.
        embeddings: Embeddings of tokens: the base's, or with the rows that differ in the copy.
        text: Files of inputs to compare on, with answers or without.
        fit: Likewise to fit scales on; nothing for one factor of all. A mask is learned on these inputs, and
            `text` chooses the best epoch; with one of the two alone, a tenth of it does.
        factor: Of the scales; None to find it.
        loop: How a mask is learned.
        run_dir: Folder of the checkpoints of a mask that is learned; None for ``runs/<task>``.
    """

    form: CopyForm = "sign"
    pair: bool = False
    max_length: int | None = None
    word_piece: WordPiece = "first"
    pooling: Pooling | None = None
    embeddings: CopyEmbeddings = "base"
    text: tuple[str, ...] = ()
    fit: tuple[str, ...] = ()
    factor: float | None = None
    loop: LoopOptions = field(default_factory=LoopOptions)
    run_dir: str | None = None

    def problems(self) -> list[str]:
        """Return what does not go together, a sentence each."""
        if self.form == "mask" and not (self.text or self.fit):
            return ["--as mask needs --text: inputs to learn on, labelled or not"]
        if self.form == "mask" and self.factor is not None:
            return ["--factor goes with --as sign: a mask has no scales"]
        if self.form == "mask" and self.embeddings == "changed":
            return ["--embeddings changed goes with --as sign: a mask has the base's"]
        return []


@dataclass(frozen=True, kw_only=True)
class ImportReport:
    """Report of an import.

    Attributes:
        task: Name of the task.
        model: Name of the copy.
        kind: Kind of task.
        labels: Labels by index.
        base: Name of the base.
        version: Number of the published version.
        digest: Its digest.
        bundle_bytes: Bytes of its file.
        finetuned_bytes: Bytes of the copy in fp32.
        made: How the task was made of the copy.
        factor: Of the scales, before they were fitted; None for a mask, and where there are no signs.
        fitted: Whether they were.
        lost: What has moved farthest of the copy's tensors that the task keeps as the base's, embeddings or
            layers that are not masked, and how far.
        embedding_rows: Rows of the embeddings of tokens and token types that are kept.
        embedding_bytes: Their bytes.
        compared: Copy and task on the text that was given.
        seconds: Time taken, the base's loading not counted.
    """

    task: str
    model: str
    kind: TaskKind
    labels: tuple[str, ...]
    base: str
    version: int
    digest: str
    bundle_bytes: int
    finetuned_bytes: int
    made: str
    factor: float | None
    fitted: bool
    lost: tuple[str, float]
    embedding_rows: int
    embedding_bytes: int
    compared: Comparison | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values."""
        return asdict(self)

    def _kept(self) -> dict[str, str]:
        """Return the lines about what the copy has outside of the layers with signs."""
        lines = {}
        if self.embedding_rows:
            lines["rows"] = f"{self.embedding_rows:,} of embeddings, {human_bytes(self.embedding_bytes)}"
        name, far = self.lost
        return lines | {"not kept": f"{name} moved by {far:.2%} in the copy; the base's is used"}

    def __str__(self) -> str:
        """Return the text that is printed."""
        what = self.kind + (f", {len(self.labels)} labels" if self.labels else "")
        sizes = f"{human_bytes(self.bundle_bytes)}; the copy takes {human_bytes(self.finetuned_bytes)}"
        lines = {
            "published": f"{self.task} version {self.version}, of {self.model} over {self.base}",
            "kind": what,
            "digest": self.digest,
            "size": sizes,
            "made": self.made,
            **self._kept(),
        }
        lines |= {} if self.compared is None else self.compared.lines()
        lines["time"] = f"{self.seconds:.1f} s"
        width = max(map(len, lines)) + 2
        return "\n".join(f"{name:<{width}}{text}" for name, text in lines.items())


def import_copy(
    model: str,
    base: Base,
    task: str,
    store: MaskStore,
    options: ImportOptions,
    *,
    revision: str | None = None,
    callbacks: Sequence[Callback] = (),
) -> ImportReport:
    """Make a task of a finetuned copy and publish it.

    Args:
        model: Hub id or folder of the copy.
        base: The base that it was finetuned from.
        task: Name to publish it under.
        store: Where to.
        options: What the copy doesn't say.
        revision: Branch, tag or commit of the copy on the hub.
        callbacks: Called as a mask is learned.

    Raises:
        CopyError: It is no copy of the base, or no classifier that can be a task.
        OptionsError: The options don't fit it.
        DataError: The text can't be used.
        DivergedError, RunFolderError: A mask can't be learned, or its run not be kept.
        MaskStoreError, PublishError: It can't be published.
    """
    started = time.monotonic()
    if problems := options.problems():
        raise OptionsError(problems)
    copied = load_copy(model, base, revision=revision, pooling=options.pooling)
    text, fit = (
        read_copied_text(paths, copied.kind) if paths else None for paths in (options.text, options.fit)
    )
    pair = options.pair or any(one.pair for one in (text, fit) if one is not None)
    spec = _spec(copied, options, pair=pair)
    signs = CopySigns(base, copied, keeps_rows=options.embeddings == "changed")
    distillation = None
    if options.form == "mask":
        if copied.kind == "embedding":  # of one text, whatever the rows have
            text, fit = (one and one.of_single_texts() for one in (text, fit))
        train, dev = _parts(text, fit)
        distillation, text = Distillation(copied, base, spec, train, dev, options.loop), dev
    with _run(distillation, Path(options.run_dir or f"runs/{task}")) as folder:
        factor = None
        if distillation is not None and folder is not None:
            bundle = folder.kept() or distillation.learn(task, folder, callbacks)
        else:
            factor, bundle = _choose(signs, task, spec, options.factor, fit or text, fits=fit is not None)
        compared = None
        if text is not None:
            compared, bundle = compare(bundle, copied, base, spec, text)
        version = store.publish(bundle) if folder is None else publish_kept(store, bundle, folder)
        report = ImportReport(
            task=task,
            model=copied.name,
            kind=copied.kind,
            labels=copied.labels,
            base=base.info.name,
            version=version.number,
            digest=version.digest,
            bundle_bytes=version.size,
            finetuned_bytes=bundle.manifest.finetuned_bytes,
            made=_made(bundle, factor, fitted=fit is not None),
            factor=factor,
            fitted=factor is not None and fit is not None,
            lost=signs.lost,
            **_kept_rows(bundle),
            compared=compared,
            seconds=round(time.monotonic() - started, 3),
        )
        if folder is not None:
            folder.finish(report.to_dict())
    return report


def _kept_rows(bundle: MaskBundle) -> dict[str, int]:
    """Count the rows of embeddings that a bundle holds."""
    kept = bundle.manifest.embeddings if isinstance(bundle.manifest, SignManifest) else ()
    return {
        "embedding_rows": sum(rows.columns - rows.zeros for rows in kept),
        "embedding_bytes": sum(rows.nbytes for rows in kept),
    }


def _parts(text: CopiedText | None, fit: CopiedText | None) -> tuple[CopiedText, CopiedText]:
    """Return the text to learn on, and the text to choose the best epoch by."""
    if text is not None and fit is not None:
        return fit, text
    given = text or fit
    assert given is not None
    return given.split(_DEV_SHARE)


def _run(distillation: Distillation | None, path: Path) -> AbstractContextManager[RunFolder | None]:
    return nullcontext() if distillation is None else RunFolder.open(path, distillation.identity)


def _made(bundle: MaskBundle, factor: float | None, *, fitted: bool) -> str:
    """Say how the task was made of the copy."""
    manifest = bundle.manifest
    if not manifest.mask_bits:
        return "of no bits: the model's encoder is the base's own"
    if not isinstance(manifest, TaskManifest):
        return f"signs, scaled by {factor:g} times the mean change of each row" + ", then fitted" * fitted
    told = manifest.training
    epochs = f"epoch {told['best_epoch']} of {told['epochs_run']}"
    return f"a mask of {manifest.sparsity:.2%} zeros, learned on {told['train_examples']} inputs, {epochs}"


def _choose(
    signs: CopySigns, task: str, spec: TaskSpec, factor: float | None, text: CopiedText | None, *, fits: bool
) -> tuple[float | None, MaskBundle]:
    """Choose the scales, by the answers to some text; without any, to generated rows."""
    if signs.unchanged:
        return None, signs.bundle(task, spec, {}, settings={}, metrics={})
    codec = task_codec(spec, signs.base.tokenizer)
    features = generated(signs.base, codec) if text is None else encode(text, codec)
    settings: dict[str, JsonScalar] = dict(zip(("not_kept", "not_kept_moved"), signs.lost, strict=True))

    def multiplied(factor: float) -> dict[str, Tensor]:
        return {name: factor * mean for name, mean in signs.mean_scales.items()}

    def with_factor(factor: float) -> MaskBundle:
        return signs.bundle(
            task, spec, multiplied(factor), settings=settings | {"factor": factor}, metrics={}
        )

    some = features[:_CHOSEN_ON]
    if factor is None:
        wanted = copy_logits(signs.copy, signs.base, codec, some)
        factor = min(FACTORS, key=lambda one: _divergence(with_factor(one), signs.base, some, wanted))
    if not fits:
        return factor, with_factor(factor)
    scales = fit_scales(signs, multiplied(factor), features)
    told = settings | {"factor": factor, "fitted_on": len(features)}
    return factor, signs.bundle(task, spec, scales, settings=told, metrics={})


def _spec(copied: FinetunedCopy, options: ImportOptions, *, pair: bool) -> TaskSpec:
    if options.pair and copied.kind in ("token-classification", "multiple-choice", "embedding"):
        raise OptionsError([f"--pair: the model is of the kind {copied.kind}"])
    max_length = options.max_length or copied.max_length
    if max_length > copied.max_length:
        raise OptionsError([f"--max-length {max_length}: the model takes {copied.max_length} at most"])
    return TaskSpec(
        *(copied.kind, copied.labels),
        max_length=max_length,
        pair=(pair or copied.kind == "reranking") and copied.kind != "embedding",
        word_piece=options.word_piece,
        pooling=copied.pooling,
    )


def _divergence(
    bundle: MaskBundle, base: Base, features: Sequence[Features], wanted: Sequence[Floats]
) -> float:
    found = features_logits(bundle, base, features, max_rows=MAX_ROWS)
    return Agreement.of(bundle.manifest.kind, wanted, found).divergence
