"""Distillation: a 0/1 mask learned from a finetuned copy's answers to text, by the loop of labelled data.

The targets are the copy's probabilities, or its embeddings, so that the loss is the divergence from them plus
a constant. What
the copy answers counts as right when the best epoch is chosen: accuracy is agreement with it.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from mask_store import WITHOUT_CLASSES, MaskBundle
from masking import Base, MaskedModel, TaskSpec, task_codec
from masking.checkpoints import FinetunedCopy
from masking.learning.settings import MaskSettings
from masking.tasks.predictions import Floats
from training.copies.copied_text import CopiedText, copy_logits, encode
from training.data.examples import Example
from training.data.features import EncodedExample
from training.kinds import TRAINING_KINDS, TargetNumbers
from training.loop.callbacks import Callback
from training.loop.run_folder import RunFolder
from training.loop.trainer import Trainer
from training.options import LoopOptions, Metric
from training.runs.learn import training_record

logger = logging.getLogger(__name__)

SETTINGS = MaskSettings(head="trained")
_THRESHOLD = 0.5  # of several labels, as transformers has it


@dataclass(frozen=True)
class Distillation:
    """A copy, and the text that a mask is learned on from its answers.

    Attributes:
        copy: The copy.
        base: The base that is masked.
        spec: The task as the copy answers it.
        train: Text to learn on.
        dev: Text to choose the best epoch by.
        loop: Options of the loop.
    """

    copy: FinetunedCopy
    base: Base
    spec: TaskSpec
    train: CopiedText
    dev: CopiedText
    loop: LoopOptions

    @property
    def identity(self) -> dict[str, object]:
        """Settings and digests that decide which mask is learned."""
        return {
            **self.loop.model_dump(by_alias=True, exclude={"save_steps", "tensorboard", "track"}),
            **SETTINGS.model_dump(),
            "copy": self.copy.info.fingerprint,
            "base": self.base.info.fingerprint,
            "max_length": self.spec.max_length,
            "word_piece": self.spec.word_piece,
            "pair": self.spec.pair,
            "data": [self.train.digest, self.dev.digest, len(self.train.inputs), len(self.dev.inputs)],
        }

    def learn(self, task: str, folder: RunFolder, callbacks: Sequence[Callback] = ()) -> MaskBundle:
        """Learn the mask, from the folder's last checkpoint on if there is one.

        Args:
            task: Name of the task.
            folder: Where checkpoints go.
            callbacks: Called as the run proceeds.

        Raises:
            DataError: The task can't take an input.
            DivergedError: The loss became infinite or not a number.
            RunFolderError: A checkpoint could not be written.
        """
        several = TRAINING_KINDS[self.spec.kind].has_thresholds
        thresholds = (_THRESHOLD,) * len(self.spec.labels) if several else ()
        spec = replace(self.spec, word_piece="last", thresholds=thresholds)
        model = MaskedModel.create(self.base, spec, SETTINGS, seed=self.loop.seed)
        train, dev = (self._examples(text, spec) for text in (self.train, self.dev))
        logger.info(
            f"learning {task} from the answers of {self.copy.name} to {len(train)} inputs; {len(dev)} more "
            "choose the best epoch, as if its answers were right"
        )
        codec = task_codec(spec, self.base.tokenizer)
        metric: Metric = "accuracy"
        if spec.kind in WITHOUT_CLASSES:
            metric = TRAINING_KINDS[spec.kind].choose_metric(spec.labels, None)
        trainer = Trainer(model, codec, (train, dev), self.loop, folder, callbacks, metric=metric)
        history = trainer.train()
        copied = self.copy.info
        source = {"distilled_from": copied.name, "distilled_from_fingerprint": copied.fingerprint}
        return model.to_bundle(
            task=task,
            metric="agreement",
            metrics={"agreement": history.best.metrics[metric]},
            training=training_record(self.loop, history, (train, dev), self.base.device) | source,
            data_digest=self.train.digest,
            seed=self.loop.seed,
        )

    def _examples(self, text: CopiedText, spec: TaskSpec) -> list[EncodedExample]:
        """Encode inputs, each with the copy's probabilities."""
        own = task_codec(self.spec, self.base.tokenizer)
        logits = copy_logits(self.copy, self.base, own, encode(text, own))
        features = encode(text, task_codec(spec, self.base.tokenizer))
        examples = []
        for line, (given, item, answer) in enumerate(zip(text.inputs, features, logits, strict=True), 1):
            best, soft = _targets(spec, answer)
            examples.append(EncodedExample(Example(line, given, best), item, best, soft))
        return examples


def _targets(spec: TaskSpec, logits: Floats) -> tuple[TargetNumbers, Tensor]:
    """Return what a copy's logits say is right, as numbers, and how probable it finds everything."""
    tensor = torch.from_numpy(logits)
    if spec.kind in ("regression", "embedding"):
        return tuple(tensor.tolist()), tensor
    if spec.kind in WITHOUT_CLASSES:
        return tuple((tensor > 0).int().tolist()), tensor.sigmoid()
    return tuple(tensor.argmax(-1).reshape(-1).tolist()), tensor.softmax(-1)
