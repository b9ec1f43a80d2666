"""Ensembles: one bundle with copies of several tasks' masks (paper section 5.3).

The members must be able to answer the same input with the same classes; how their answers are combined is
computed where masks are executed, not here.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Self

from mask_store.errors import EnsembleError
from mask_store.format.bundle import MaskBundle
from mask_store.format.evaluation_info import EvaluationInfo
from mask_store.format.manifest import (
    MAX_MEMBERS,
    MIN_MEMBERS,
    WITHOUT_CLASSES,
    BaseInfo,
    CombineRule,
    EnsembleManifest,
    Manifest,
    MemberInfo,
    SignManifest,
    TaskManifest,
    utc_now,
)
from mask_store.format.mask_info import LearnedInfo
from mask_store.store.records import VersionInfo

_SHARED: Mapping[str, Callable[[Manifest], object]] = {
    "kind": lambda manifest: manifest.kind,
    "pair": lambda manifest: manifest.pair,
    "labels": lambda manifest: manifest.labels,
    "pooling": lambda manifest: manifest.pooling,
    "longest input": lambda manifest: manifest.max_length,
}


def ensemble_of(
    task: str,
    combine: CombineRule,
    members: Sequence[tuple[VersionInfo | None, MaskBundle]],
    *,
    metrics: Mapping[str, float] | None = None,
    thresholds: tuple[float, ...] = (),
    evaluation: EvaluationInfo | None = None,
) -> MaskBundle:
    """Make an ensemble of published tasks, of versions of one task, or of masks learned for it.

    Args:
        task: Name of the new task.
        combine: What its answers are made of: the vote of labels, the mean of logits or of probabilities.
        members: Each with the version that it was published as, None if it never was; 2 to 64.
        metrics: Dev metrics of the members together, where they were measured.
        thresholds: Of a multi-label classification, those of the members together; empty for the means of
            the members' own, as logits.
        evaluation: How the members together answer the dev set, where it was measured.

    Returns:
        A bundle that holds copies of all masks and heads and needs its members no more. Its base is that of
        the first member, or of the first that knows all parts of its base.

    Raises:
        EnsembleError: If these members can't answer as one task; the message says what differs.
    """
    sources = [_Source.of(version, bundle) for version, bundle in members]
    if not MIN_MEMBERS <= len(sources) <= MAX_MEMBERS:
        raise EnsembleError(f"an ensemble has {MIN_MEMBERS} to {MAX_MEMBERS} members, found {len(sources)}")
    _check_agreement(sources)
    _check_rule(sources[0], combine)
    thresholds = thresholds or _mean_thresholds(sources)
    first = sources[0].manifest
    manifest = EnsembleManifest(
        task=task,
        kind=first.kind,
        pair=first.pair,
        labels=first.labels,
        thresholds=thresholds or None,
        pooling=first.pooling,
        evaluation=evaluation,
        base=_shared_base(sources),
        max_length=first.max_length,
        combine=combine,
        members=tuple(source.member() for source in sources),
        metrics=dict(metrics or {}),
        created=utc_now(),
    )
    tensors = [(member.masks, member.head) for _, bundle in members for member in bundle.members]
    return MaskBundle.create_ensemble(manifest, tensors)


@dataclass(frozen=True)
class _Source:
    """Where a member comes from."""

    version: VersionInfo | None
    digest: str
    manifest: TaskManifest

    @classmethod
    def of(cls, version: VersionInfo | None, bundle: MaskBundle) -> Self:
        name = version or f"task {bundle.manifest.task!r}"
        if isinstance(bundle.manifest, SignManifest):
            raise EnsembleError(f"{name} holds the signs of a finetuned copy: members are learned masks")
        if not isinstance(bundle.manifest, TaskManifest):
            raise EnsembleError(f"{name} is an ensemble itself: name its members in its place")
        return cls(version, bundle.digest, bundle.manifest)

    def member(self) -> MemberInfo:
        learned = {name: getattr(self.manifest, name) for name in LearnedInfo.model_fields}
        number = None if self.version is None else self.version.number
        return MemberInfo(version=number, digest=self.digest, **learned)

    def __str__(self) -> str:
        return str(self.version or f"task {self.manifest.task!r} seed {self.manifest.seed}")


def _check_agreement(sources: Sequence[_Source]) -> None:
    first, *others = sources
    seen = {first.digest: first}
    for source in others:
        if source.digest in seen:
            raise EnsembleError(f"{seen[source.digest]} and {source} are one bundle: name it once")
        seen[source.digest] = source
        for what, read in _SHARED.items():
            wanted, found = read(first.manifest), read(source.manifest)
            if found != wanted:
                raise EnsembleError(
                    f"members differ in {what}: {first} has {wanted!s:.80}, {source} has {found!s:.80}"
                )


def _check_rule(first: _Source, combine: CombineRule) -> None:
    kind = first.manifest.kind
    if kind in WITHOUT_CLASSES and combine != "logits":
        raise EnsembleError(
            f"members of a task of {kind} are combined by the mean of their logits, not {combine}"
        )


def _mean_thresholds(sources: Sequence[_Source]) -> tuple[float, ...]:
    """Return the mean of the members' thresholds as logits, since logits are what is averaged."""
    given = [source.manifest.thresholds for source in sources]
    if not any(given):
        return ()
    width = len(sources[0].manifest.labels)
    rows = [[math.log(one / (1 - one)) for one in own or (0.5,) * width] for own in given]
    return tuple(1 / (1 + math.exp(-fmean(column))) for column in zip(*rows, strict=True))


def _shared_base(sources: Sequence[_Source]) -> BaseInfo:
    """Return the base of all members, as the first one has it that knows all its parts."""
    first = max(sources, key=lambda source: len(source.manifest.base.identity))
    base = first.manifest.base
    for source in sources:
        theirs = source.manifest.base
        for part in base.differing(theirs):
            raise EnsembleError(
                f"members differ in base: {first} has {part} {base.identity[part]}, {source} has "
                f"{part} {theirs.identity[part]}"
            )
    return base
