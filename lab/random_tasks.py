"""Random tasks, and batches of their rows. Masks are random bits: times depend on their density at most."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lab.random_models import masked_linears
from mask_store import (
    CopyInfo,
    HeadTensorInfo,
    LayerBits,
    LayerInfo,
    MaskBundle,
    MaskingInfo,
    SignManifest,
    TaskKind,
    TaskManifest,
    pack_bits,
)
from masking import Base, Features, MaskSettings, Row
from masking.heads import CLASSIFIER, POOLER
from masking.kernels import BitMask, Segments
from masking.known_task import own_tensors
from masking.tasks import MODEL_KINDS

_DEVIATION = 0.02
_LEVELS = 1 << 16
_SIGN_SCALE = 1e-3


@dataclass(frozen=True)
class Classifier:
    """Kind of task that a random bundle is for, and how many labels it has (multiple choice: none)."""

    kind: TaskKind = "sequence-classification"
    labels: int = 2


TWO_CLASSES = Classifier()


def random_bundle(
    base: Base,
    name: str,
    zeros: float,
    seed: int,
    *,
    compress: bool = False,
    classifier: Classifier = TWO_CLASSES,
    settings: MaskSettings = MaskSettings(),  # noqa: B008 (immutable)
) -> MaskBundle:
    """Return a bundle with random masks of blocks, the pooler where there is one, and a classifier.

    Args:
        base: The encoder.
        name: Name of the task.
        zeros: Share of zeros of every mask.
        seed: Decides masks and head.
        compress: Entropy-code the masks, as a store holds them; takes longer.
        classifier: Kind of task, and its labels.
        settings: Which blocks; by default 2 to last.
    """
    generator = np.random.default_rng(seed)
    rows = _head_rows(base, classifier)
    head = _random_head(base, rows, generator)
    shapes = _shapes(base, rows, settings)
    masks = {layer: _random_mask(shape, zeros, generator) for layer, shape in shapes.items()}
    layers = tuple(_layer_info(layer, mask) for layer, mask in masks.items())
    manifest = _manifest(base, name, seed, layers, head, classifier, settings)
    packed = {layer: pack_bits(mask) for layer, mask in masks.items()}
    return MaskBundle.create(manifest, packed, head, compress=compress)


def random_signs(base: Base, name: str, seed: int) -> MaskBundle:
    """Return a bundle with random signs of all layers of the blocks and of the pooler, and a head as above.

    Args:
        base: The encoder.
        name: Name of the task.
        seed: Decides bits and numbers.
    """
    generator = np.random.default_rng(seed)
    head = _random_head(base, _head_rows(base, TWO_CLASSES), generator)
    linears = base.maskable_linears
    bits = {
        layer: _random_mask((one.out_features, one.in_features), 0.5, generator)
        for layer, one in linears.items()
    }
    own = {
        tensor: np.full(shape, tensor.endswith(".weight"), np.float32)
        + generator.standard_normal(shape, np.float32) * np.float32(_DEVIATION)
        for tensor, shape in own_tensors(base, linears).items()
    }
    layers = tuple(
        LayerBits(name=layer, rows=mask.shape[0], columns=mask.shape[1], zeros=int((~mask).sum()))
        for layer, mask in bits.items()
    )
    like = _manifest(
        base,
        name,
        seed,
        (_layer_info(CLASSIFIER, np.ones((1, 1), np.bool_)),),
        head,
        TWO_CLASSES,
        MaskSettings(),
    )
    shared = ("task", "kind", "pair", "labels", "base", "max_length", "head", "libraries", "created")
    manifest = SignManifest(
        **{field: getattr(like, field) for field in shared},
        layers=layers,
        own=tuple(HeadTensorInfo(name=n, shape=array.shape) for n, array in own.items()),
        head_activation="tanh",
        word_piece=None,
        copied=CopyInfo(name="random", revision=None, fingerprint="sha256:" + "0" * 64),
        settings={},
        metrics={},
    )
    scales = {layer.name: np.full(layer.rows, _SIGN_SCALE, np.float32) for layer in layers}
    packed = {layer: pack_bits(mask) for layer, mask in bits.items()}
    return MaskBundle.create_signs(manifest, packed, scales=scales, own=own, head=head)


def _head_rows(base: Base, classifier: Classifier) -> dict[str, int]:
    """Rows of the head's layers: the pooler, where the kind of task has one, and the classifier."""
    kind = MODEL_KINDS[classifier.kind]
    pooler = {POOLER: base.hidden_size} if kind.pooled else {}
    return {**pooler, CLASSIFIER: classifier.labels if kind.labelled else 1}


def _random_head(
    base: Base, rows: Mapping[str, int], generator: np.random.Generator
) -> dict[str, NDArray[np.float32]]:
    width = base.hidden_size
    rows = {name: n for name, n in rows.items() if name != POOLER or base.pooler is None}
    weights = {
        f"{name}.weight": generator.standard_normal((n, width), np.float32) * np.float32(_DEVIATION)
        for name, n in rows.items()
    }
    return weights | {f"{name}.bias": np.zeros(n, np.float32) for name, n in rows.items()}


def _shapes(base: Base, rows: Mapping[str, int], settings: MaskSettings) -> dict[str, tuple[int, int]]:
    linears = masked_linears(base, settings)
    shapes = {name: (one.out_features, one.in_features) for name, one in linears.items()}
    return shapes | {name: (n, base.hidden_size) for name, n in rows.items()}


def _random_mask(shape: tuple[int, int], zeros: float, generator: np.random.Generator) -> NDArray[np.bool_]:
    return generator.integers(0, _LEVELS, shape, np.uint16) >= round(zeros * _LEVELS)


def _layer_info(name: str, mask: NDArray[np.bool_]) -> LayerInfo:
    rows, columns = mask.shape
    zeros = mask.size - int(np.count_nonzero(mask))
    return LayerInfo(name=name, rows=rows, columns=columns, zeros=zeros, initial_zeros=zeros, flipped=0)


def _manifest(
    base: Base,
    name: str,
    seed: int,
    layers: tuple[LayerInfo, ...],
    head: Mapping[str, NDArray[np.float32]],
    classifier: Classifier,
    settings: MaskSettings,
) -> TaskManifest:
    return TaskManifest(
        task=name,
        kind=classifier.kind,
        pair=False,
        labels=tuple(f"class {index}" for index in range(classifier.labels)),
        base=base.info,
        max_length=base.max_positions,
        masking=MaskingInfo(
            blocks=settings.masked_blocks(base.num_blocks),
            threshold=0.01,
            score_low=-0.02,
            score_high=0.58,
            initial_sparsity=0.05,
            head="masked",
        ),
        seed=seed,
        layers=layers,
        head=tuple(HeadTensorInfo(name=n, shape=array.shape) for n, array in head.items()),
        metric="accuracy",
        metrics={"accuracy": 0.5},
        training={},
        data_digest="sha256:" + "0" * 64,
        libraries={},
        created=datetime.now(UTC),
    )


@dataclass(frozen=True, eq=False)
class RandomTask:
    """A task as the server loads it, and its tensors as the peers need them.

    Attributes:
        bundle: What it is loaded from, in any precision.
        bits: Its masks by layer name, the head's too.
        head: Head tensors that are not part of the base, before masking.
    """

    bundle: MaskBundle
    bits: Mapping[str, BitMask]
    head: Mapping[str, Tensor]

    @classmethod
    def create(cls, base: Base, index: int, zeros: float) -> "RandomTask":
        """Create task number `index`; always the same for a base and a share of zeros."""
        bundle = random_bundle(base, f"task{index}", zeros, index)
        (member,) = bundle.members
        columns = {layer.name: layer.columns for layer in member.info.layers}
        bits = {name: BitMask(packed, columns[name]) for name, packed in member.masks.items()}
        head = {name: torch.from_numpy(array.copy()) for name, array in member.head.items()}
        return cls(bundle, bits, head)

    @property
    def head_layers(self) -> list[str]:
        """Names of the head's layers that are not the base's."""
        return [name.removesuffix(".weight") for name in self.head if name.endswith(".weight")]

    def head_linear(self, name: str, base: Base) -> tuple[Tensor, Tensor]:
        """Return weight, unmasked, and bias of a layer of the head."""
        if f"{name}.weight" in self.head:
            return self.head[f"{name}.weight"], self.head[f"{name}.bias"]
        pooler = base.pooler
        assert isinstance(pooler, nn.Linear)  # random_bundle gives the head a pooler where the base has none
        return pooler.weight, pooler.bias


def random_tasks(base: Base, count: int, zeros: float) -> list[RandomTask]:
    """Create tasks 0 to `count` - 1 with masks of so many zeros."""
    return [RandomTask.create(base, index, zeros) for index in range(count)]


@dataclass(frozen=True)
class Workload:
    """Rows of equal length, sorted by task.

    Attributes:
        base: The encoder.
        tasks: The tasks that have rows, each once.
        counts: Rows of each.
        ids: Token ids, int64 [rows, tokens].
    """

    base: Base
    tasks: tuple[RandomTask, ...]
    counts: tuple[int, ...]
    ids: Tensor

    @classmethod
    def of_counts(cls, base: Base, tasks: list[RandomTask], counts: list[int], tokens: int) -> "Workload":
        """Draw random rows: `counts[i]` of `tasks[i]`, tasks without rows left out."""
        ids = random_ids(base, sum(counts), tokens)
        kept = [(task, count) for task, count in zip(tasks, counts, strict=True) if count]
        return cls(base, tuple(task for task, _ in kept), tuple(count for _, count in kept), ids)

    @property
    def tokens(self) -> int:
        """Tokens of all rows."""
        return self.ids.numel()

    @cached_property
    def row_segments(self) -> Segments:
        """Rows of each task."""
        return Segments.of_lengths(self.counts)

    @cached_property
    def token_segments(self) -> Segments:
        """Tokens of each task."""
        return Segments.of_lengths([count * self.ids.shape[1] for count in self.counts])

    @cached_property
    def features(self) -> tuple[list[Features], ...]:
        """The rows of each task as a server's inputs."""
        rows = features_of(self.ids)
        return tuple(rows[start:end] for start, end in self.row_segments.spans())


def random_ids(base: Base, rows: int, tokens: int) -> Tensor:
    """Draw token ids of random rows, int64 [rows, tokens]."""
    generator = torch.Generator().manual_seed(0)
    return torch.randint(2, int(base.encoder.config.vocab_size), (rows, tokens), generator=generator)


def features_of(ids: Tensor) -> list[Features]:
    """Return rows of token ids as a server's inputs."""
    return [Features((Row.of(row),)) for row in ids.tolist()]


def deal_rows(assignment: str, tasks: int, rows: int, seed: int = 0) -> list[int]:
    """Choose how many of `rows` rows each of `tasks` tasks has.

    Args:
        assignment: "even": as equal as can be; "uniform": each row's task drawn with equal chances;
            "zipf": drawn with chances 1, 1/2, 1/3, ...
        tasks: Number of tasks.
        rows: Number of rows.
        seed: Decides the draws.
    """
    if assignment == "even":
        return [rows // tasks + (index < rows % tasks) for index in range(tasks)]
    chances = np.ones(tasks) if assignment == "uniform" else 1.0 / np.arange(1, tasks + 1)
    counts: list[int] = np.random.default_rng(seed).multinomial(rows, chances / chances.sum()).tolist()
    return counts
