"""Export: a task as an ordinary folder of transformers, its bits folded into the weights."""

import copy
from collections.abc import Mapping
from pathlib import Path

import torch
import transformers
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

from mask_store import HeadActivation, MaskBundle
from masking.architectures.heads import PROBLEM_TYPES, HeadNames, auto_class, head_names
from masking.base import Base, take_pooler
from masking.checkpoints.folding import folded_tensors
from masking.checkpoints.onnx_file import check_onnx, write_onnx
from masking.checkpoints.sentences import write_sentence_encoder
from masking.errors import BaseMismatchError, ExportError
from masking.heads import CLASSIFIER, NORM_EPSILON, POOLER
from masking.loading import silent_transformers
from masking.tasks import TaskSpec, head_activation


def export_task(bundle: MaskBundle, base: Base, folder: Path, *, onnx: bool = False) -> None:
    """Write a task as a folder that `transformers.pipeline` loads, embeddings for sentence-transformers.

    Args:
        bundle: The task.
        base: The base that it belongs to.
        folder: Where to; made if it isn't there.
        onnx: Whether to write ``model.onnx``, too; needs the extra ``onnx``.

    Raises:
        BaseMismatchError: It belongs to another base.
        UnsupportedArchitectureError: Classifiers of transformers have a head of another form.
        ExportError: No class of transformers computes it, a package is missing, or the folder can't be
            written.
    """
    manifest = bundle.manifest
    if differing := base.info.differing(manifest.base):
        raise BaseMismatchError(
            f"task {manifest.task!r} belongs to base {manifest.base.name!r}, not to {base.info.name!r}, "
            f"which differs in {' and '.join(differing)}"
        )
    if len(bundle.members) > 1:
        raise ExportError(f"task {manifest.task!r} is an ensemble, which is no single model: export a member")
    activation = head_activation(manifest.kind, bundle.members[0].info)
    tensors = folded_tensors(bundle.members[0], base)
    export_tensors(manifest.task, TaskSpec.of(manifest), activation, tensors, base, folder, onnx=onnx)


def export_tensors(
    task: str,
    spec: TaskSpec,
    activation: HeadActivation | None,
    tensors: Mapping[str, Tensor],
    base: Base,
    folder: Path,
    *,
    onnx: bool = False,
) -> None:
    """Write dense weights as a folder like that of `export_task`.

    Args:
        task: Name of the task, for messages.
        spec: The task.
        activation: Between W_P and W_T; None where there is no W_P.
        tensors: float32 by name: those of the encoder, and of the head by their names in a bundle.
        base: The base, whose configuration and tokenizer they go with.
        folder: Where to; made if it isn't there.
        onnx: Whether to write ``model.onnx``, too.

    Raises:
        UnsupportedArchitectureError, ExportError: As `export_task`.
    """
    if onnx:
        check_onnx()
    model = _model(task, spec, activation, tensors, base)
    tokenizer = copy.deepcopy(base.tokenizer)
    tokenizer.model_max_length = spec.max_length
    try:
        with silent_transformers():
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
        if spec.pooling is not None:
            width = base.hidden_size
            write_sentence_encoder(folder, spec.pooling, max_length=spec.max_length, width=width)
    except OSError as error:
        raise ExportError(f"{folder} can't be written: {error.strerror or error}") from error
    if onnx:
        write_onnx(model, tokenizer, folder)


def _model(
    task: str,
    spec: TaskSpec,
    activation: HeadActivation | None,
    tensors: Mapping[str, Tensor],
    base: Base,
) -> PreTrainedModel:
    config, prefix = _config(spec, base), base.encoder.base_model_prefix
    head = head_names(base.info.architecture, prefix, spec.kind)
    _check_activation(task, activation, head, base.info.architecture)
    for name, value in {**head.settings, **head.exported}.items():
        setattr(config, name, value)
    if head.activation_setting is not None:
        setattr(config, head.activation_setting, activation)
    auto = getattr(transformers, auto_class(spec.kind))
    model: PreTrainedModel = auto.from_config(config).eval()
    if model.base_model is model:
        return _encoder(model, tensors, base)
    places = {f"{CLASSIFIER}.": f"{head.classifier}.", f"{POOLER}.": f"{head.pooler}."}
    state = {}
    for name, tensor in tensors.items():
        own = next((old for old in places if name.startswith(old)), None)
        if own != f"{POOLER}." or head.pooler is not None:
            state[f"{prefix}.{name}" if own is None else places[own] + name.removeprefix(own)] = tensor
    if head.norm is not None:
        state |= _plain_norm(model.get_submodule(head.norm), head.norm)
    model.load_state_dict(state)
    return model


def _encoder(model: PreTrainedModel, tensors: Mapping[str, Tensor], base: Base) -> PreTrainedModel:
    """Put a task's tensors into an encoder without a head; it has a pooler where the base has one."""
    if base.pooler is None:
        take_pooler(model)
    model.load_state_dict(tensors)
    return model


def _plain_norm(norm: nn.Module, name: str) -> dict[str, Tensor]:
    """Return the weights of a LayerNorm that has none of its own to give: the classifier has them."""
    if norm.eps != NORM_EPSILON:
        raise ExportError(f"the head's LayerNorm has epsilon {norm.eps}, a task's {NORM_EPSILON}")
    values = {"weight": torch.ones, "bias": torch.zeros}
    return {f"{name}.{part}": values[part](one.shape) for part, one in norm.named_parameters()}


def _config(spec: TaskSpec, base: Base) -> PretrainedConfig:
    config: PretrainedConfig = copy.deepcopy(base.encoder.config)
    config._name_or_path = base.info.name
    if spec.labels:
        config.id2label = dict(enumerate(spec.labels))
        config.label2id = {label: number for number, label in enumerate(spec.labels)}
    config.problem_type = PROBLEM_TYPES.get(spec.kind)
    return config


def _check_activation(task: str, own: HeadActivation | None, head: HeadNames, architecture: str) -> None:
    """Refuse a head that the class of transformers has another activation in."""
    if head.activation_setting is None and head.activation not in (None, own):
        raise ExportError(
            f"task {task!r} has {own or 'no layer'} before its classifier, transformers' classifiers of "
            f"{architecture!r} have {head.activation}: no class of transformers computes it; a mask that is "
            "learned anew has the same"
        )
