"""Finetuned copies: a classifier or a sentence encoder, held against the base that it was finetuned from.

A copy is refused, with the reason, where its answers could not be those of the base's tokens, shapes and
settings with slightly other weights. All messages are `CopyError`s that name the copy.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, PretrainedConfig, PreTrainedModel

from mask_store import CopyInfo, Pooling, TaskKind
from masking.architectures import computed_settings
from masking.architectures.heads import CLASSES, PROBLEM_TYPES, HeadNames, head_names
from masking.base import Base, base_tensors, pooler_of
from masking.base_folder import check_folder, has_tokenizer
from masking.checkpoints.sentences import SentenceEncoder, read_sentence_encoder
from masking.checks import fit_tokenizer
from masking.errors import BaseLoadError, CopyError
from masking.heads import ACTIVATIONS, NORM_EPSILON, pool_tokens
from masking.identity import tokenizer_digest, weights_digest
from masking.loading import (
    commit_of,
    load_encoder,
    load_tokenizer,
    reading,
    short_name,
    silent_transformers,
)

FARTHEST = 0.5
"""Change of a copy's matrices, median over them, from which it is no copy; finetuning made it 0.02 to 0.1."""
_POOLER = "pooler."


@dataclass(frozen=True)
class FinetunedCopy:
    """A finetuned model of transformers whose encoder is near the base, or the base's own.

    Attributes:
        name: Hub id or folder name, for people.
        revision: Revision on the hub, where known.
        kind: Kind of task.
        labels: Label names by index; empty for multiple choice and embeddings.
        model: The whole classifier, or the encoder of embeddings, fp32, in evaluation mode.
        head: Where its head is.
        max_length: Longest input of its tokenizer in tokens, and of the base.
        moved: Change of each of the encoder's matrices: norm of the difference over that of the base.
        pooling: What an embedding is made of; None for other kinds.
    """

    name: str
    revision: str | None
    kind: TaskKind
    labels: tuple[str, ...]
    model: PreTrainedModel
    head: HeadNames
    max_length: int
    moved: Mapping[str, float]
    pooling: Pooling | None = None

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The encoder's tensors by their names in a base, its pooler left out."""
        return _tensors(self.model.base_model)

    @property
    def info(self) -> CopyInfo:
        """Name, revision and fingerprint."""
        tensors = base_tensors(self.model.base_model, pooler_of(self.model.base_model))
        digest = weights_digest(sorted(dict(tensors).items()))
        return CopyInfo(name=self.name, revision=self.revision, fingerprint=digest)

    @property
    def encoder_path(self) -> str:
        """What stands before the encoder's names in the model."""
        inside = self.model.base_model is not self.model
        return f"{self.model.base_model_prefix}." if inside else ""

    def logits(self, batch: Mapping[str, Tensor], model: PreTrainedModel | None = None) -> Tensor:
        """Compute what a task's rows have for logits.

        Args:
            batch: Arguments of the encoder, int64 [rows, tokens] each.
            model: The copy's model with other weights, or None for its own.

        Returns:
            [rows, labels], [rows, 1], [rows, tokens, labels], or of embeddings [rows, hidden].
        """
        given = dict(batch)
        if self.kind == "multiple-choice":
            given = {name: tensor.unsqueeze(1) for name, tensor in batch.items()}
        output = (model or self.model)(**given)
        if self.pooling is None:
            logits: Tensor = output.logits
            return logits
        real = batch["attention_mask"].bool()
        return pool_tokens(output.last_hidden_state[real], real.sum(1), self.pooling)

    def layer(self, path: str) -> nn.Linear:
        """Return a linear layer of the head."""
        layer = self.model.get_submodule(path)
        assert isinstance(layer, nn.Linear)
        return layer


def load_copy(
    name_or_path: str, base: Base, *, revision: str | None = None, pooling: Pooling | None = None
) -> FinetunedCopy:
    """Load a finetuned model and make sure that it was finetuned from a base.

    Args:
        name_or_path: Hub id, or a folder in the hub's format.
        base: The base.
        revision: Branch, tag or commit on the hub.
        pooling: What embeddings are made of, of an encoder without files of sentence-transformers.

    Raises:
        CopyError: It can't be loaded, is no model that can be a task, or was not finetuned from `base`.
        UnsupportedArchitectureError: Its head is none that a task can have.
    """
    try:
        with reading("the folder"):
            check_folder(name_or_path, tokenizer=False)
        with silent_transformers():
            config = _load_config(name_or_path, revision)
            sentences = _sentences(name_or_path, revision, config, pooling)
            kind: TaskKind = _kind(config) if sentences is None else "embedding"
            _check_settings(config, base)
            max_length = _check_tokenizer(name_or_path, revision, base)
            if sentences is None:
                model = _load_model(name_or_path, revision, config)
            else:
                model = load_encoder(name_or_path, revision).eval().requires_grad_(False)
                max_length = min(max_length, sentences.max_length or max_length)
        moved = _check_weights(model, base)
        head = _head(model, kind)
        _check_head(model, head, base)
        labels = _labels(config, kind)
    except (BaseLoadError, CopyError) as error:
        raise CopyError(f"model {short_name(name_or_path)!r}: {error}") from error
    return FinetunedCopy(
        short_name(name_or_path),
        revision or commit_of(config),
        kind,
        labels,
        model,
        head,
        max_length,
        moved,
        None if sentences is None else sentences.pooling,
    )


def _load_config(name_or_path: str, revision: str | None) -> PretrainedConfig:
    with reading("its config.json"):
        config: PretrainedConfig = AutoConfig.from_pretrained(
            name_or_path, revision=revision, trust_remote_code=False
        )
    return config


def _class_name(config: PretrainedConfig) -> str:
    return next(iter(config.architectures or ["none"]))


def _sentences(
    name_or_path: str, revision: str | None, config: PretrainedConfig, pooling: Pooling | None
) -> SentenceEncoder | None:
    """Tell how an encoder makes embeddings; None of a classifier."""
    if _class_name(config).endswith(tuple(CLASSES.values())):
        if pooling is not None:
            raise CopyError(f"it is a {_class_name(config)}, and a pooling goes with an encoder alone")
        return None
    found = read_sentence_encoder(name_or_path, revision)
    if pooling is None:
        return found
    return SentenceEncoder(pooling, None if found is None else found.max_length)


def _kind(config: PretrainedConfig) -> TaskKind:
    """Read the kind of task from the name of the model's class, and the problem type."""
    name = _class_name(config)
    kinds = [kind for kind, ending in CLASSES.items() if name.endswith(ending)]
    if not kinds:
        endings = ", ".join(f"...{ending}" for ending in dict.fromkeys(CLASSES.values()))
        raise CopyError(
            f"config.json says that it is a {name}, which is no classifier; wanted: {endings}, or for "
            "embeddings a folder of sentence-transformers (modules.json) or a pooling, mean or cls"
        )
    if len(kinds) == 1:
        return kinds[0]
    if config.problem_type is None:
        return "reranking" if len(config.id2label or {}) == 1 else "sequence-classification"
    for kind, problem in PROBLEM_TYPES.items():
        if problem == config.problem_type:
            return kind
    known = ", ".join(PROBLEM_TYPES.values())
    raise CopyError(f"its problem_type in config.json is {config.problem_type!r}; known: {known}")


def _labels(config: PretrainedConfig, kind: TaskKind) -> tuple[str, ...]:
    if kind in ("multiple-choice", "embedding"):
        return ()
    names = {int(number): str(label) for number, label in (config.id2label or {}).items()}
    labels = tuple(names.get(number, "") for number in range(len(names)))
    if len(set(labels)) < len(labels) or "" in labels:
        raise CopyError(f"id2label in config.json must name each of {len(labels)} labels differently")
    return labels


def _check_settings(config: PretrainedConfig, base: Base) -> None:
    own = base.encoder.config
    if config.model_type != base.info.architecture:
        wanted = f"{base.info.architecture}, as base {base.info.name!r}"
        raise CopyError(f"its architecture is {config.model_type}, not {wanted}")
    theirs, ours = computed_settings(config), computed_settings(own)
    for name in sorted(theirs.keys() | ours.keys()):
        if (found := theirs.get(name)) != (needed := ours.get(name)):
            raise CopyError(f"{name} in its config.json is {found!r}, in that of the base {needed!r}")


def _check_tokenizer(name_or_path: str, revision: str | None, base: Base) -> int:
    """Refuse another tokenizer; return the longest input. A copy without one has the base's."""
    if not has_tokenizer(name_or_path):
        return base.max_positions
    tokenizer = load_tokenizer(name_or_path, revision)
    fit_tokenizer(tokenizer, base.encoder)
    if not tokenizer.is_fast or tokenizer_digest(tokenizer) != base.info.tokenizer:
        words = f"{len(tokenizer)} tokens, the base's {len(base.tokenizer)}"
        raise CopyError(f"its tokenizer makes other tokens of texts than the base's (it has {words})")
    return min(base.max_positions, int(tokenizer.model_max_length))


def _load_model(name_or_path: str, revision: str | None, config: PretrainedConfig) -> PreTrainedModel:
    cls: Any = getattr(transformers, config.architectures[0], None)  # type: ignore[index]
    if cls is None:
        raise CopyError(f"transformers has no class {config.architectures[0]!r}")  # type: ignore[index]
    with reading("its weights"):
        model, report = cls.from_pretrained(
            name_or_path,
            revision=revision,
            dtype=torch.float32,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # refused below, by their names
            trust_remote_code=False,
        )
    if lacking := sorted([*report["missing_keys"], *(name for name, *_ in report["mismatched_keys"])]):
        raise CopyError(
            f"its checkpoint lacks {len(lacking)} tensor(s) that config.json describes, such as {lacking[0]}"
        )
    loaded: PreTrainedModel = model
    loaded.eval().requires_grad_(False)
    return loaded


def _tensors(encoder: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach() for name, p in encoder.named_parameters() if not name.startswith(_POOLER)}


def _check_weights(model: PreTrainedModel, base: Base) -> dict[str, float]:
    """Refuse an encoder of other tensors, or of weights far away; return how far each matrix has moved."""
    own, theirs = _tensors(base.encoder), _tensors(model.base_model)
    if odd := sorted(own.keys() ^ theirs.keys()):
        which = "lacks" if odd[0] in own else "has"
        raise CopyError(f"its encoder {which} {odd[0]}, unlike that of base {base.info.name!r}")
    for name, tensor in own.items():
        if (found := tuple(theirs[name].shape)) != (wanted := tuple(tensor.shape)):
            raise CopyError(f"its {name} is {found}, that of base {base.info.name!r} {wanted}")
        if not bool(torch.isfinite(theirs[name]).all()):
            raise CopyError(f"its tensor {name} holds NaN or infinity")
    moved = {name: change(theirs[name], own[name]) for name in own if own[name].ndim > 1}
    if (far := median(moved.values())) > FARTHEST:
        raise CopyError(
            f"it was not finetuned from base {base.info.name!r}: its weights differ from the base's by "
            f"{far:.0%} (median over {len(moved)} matrices), and those of finetuned copies by a few percent"
        )
    return moved


def change(tensor: Tensor, base: Tensor) -> float:
    """Return the norm of a difference over that of the base's tensor."""
    norm = float(base.norm())
    return float((tensor.cpu() - base.cpu()).norm()) / norm if norm else 0.0


def _check_head(model: PreTrainedModel, head: HeadNames, base: Base) -> None:
    """Refuse a head that is not made of linear layers of the usual sizes."""
    for path in (head.classifier, head.pooler):
        layer = None if path is None else model.get_submodule(path)
        if path is not None and not (isinstance(layer, nn.Linear) and layer.in_features == base.hidden_size):
            raise CopyError(f"{path} of its head is no linear layer of {base.hidden_size} inputs")
    if head.norm is not None and (eps := model.get_submodule(head.norm).eps) != NORM_EPSILON:
        raise CopyError(f"{head.norm} of its head has epsilon {eps}, and only {NORM_EPSILON} is known")
    for name, wanted in head.settings.items():
        if (found := getattr(model.config, name, wanted)) != wanted:
            raise CopyError(f"{name} in its config.json is {found!r}, and only {wanted!r} is known")


def _head(model: PreTrainedModel, kind: TaskKind) -> HeadNames:
    """Return where the head is, with the activation that the configuration names."""
    head = head_names(model.config.model_type, model.base_model_prefix, kind)
    if head.activation_setting is None:
        return head
    activation = getattr(model.config, head.activation_setting)
    if activation not in ACTIVATIONS:
        known = ", ".join(ACTIVATIONS)
        raise CopyError(f"{head.activation_setting} in its config.json is {activation!r}; known: {known}")
    return replace(head, activation=activation)
