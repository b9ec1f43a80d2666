"""Published task: what a store holds of it, loaded over its encoder, to predict without a server."""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from mask_store import MaskBundle, MaskStore
from masking import LoadedTask, MaskedEncoder, Prediction, TaskInput, load_base, load_task
from masking.inference import ResidentWeights
from masking.kernels import PrecisionChoice
from training.data.examples import ExampleSet
from training.data.features import encode_examples
from training.errors import OptionsError
from training.judging.evaluation import Evaluation, judge
from training.kinds import BASE_ALONE, Baseline
from training.loop.evaluation import measure, task_logits
from training.options import ROLES, Role
from training.runs.preparation import choose_device


@dataclass(frozen=True)
class PublishedTask:
    """A version of a task, ready to predict.

    Attributes:
        number: Number of the version.
        bundle: Its bundle.
        task: It, loaded.
        encoder: What computes it.
    """

    number: int
    bundle: MaskBundle
    task: LoadedTask
    encoder: MaskedEncoder

    @classmethod
    def open(
        cls,
        store: str,
        name: str,
        base: str,
        *,
        version: int | None = None,
        revision: str | None = None,
        device: str = "auto",
        precision: PrecisionChoice = "auto",
    ) -> Self:
        """Load a task.

        Args:
            store: Folder or URL of the store.
            name: Name of the task.
            base: Hub id or folder of the encoder.
            version: Number of the version; None for the current one.
            revision: Branch, tag or commit of the base on the hub.
            device: ``auto``, ``cpu`` or ``cuda``.
            precision: How masked layers are multiplied.

        Raises:
            MaskStoreError: There is no such store, task or version.
            MaskingError: The base can't be loaded, or the task was learned over another.
            OptionsError: This machine has no such device or precision.
        """
        opened = MaskStore.open(store)
        number = opened.current(name).number if version is None else version
        bundle = opened.load(name, number)
        resident = load_base(base, revision=revision, device=choose_device(device))
        try:
            weights = ResidentWeights.of(resident, precision)
        except ValueError as error:
            raise OptionsError([f"--precision {precision}: {error}"]) from None
        task = load_task(bundle, resident, weights)
        return cls(number, bundle, task, MaskedEncoder(resident, weights))

    @classmethod
    def of_arguments(cls, arguments: argparse.Namespace) -> Self:
        """Load the task that a command line names; see `open` and `training.cli.published`."""
        if arguments.threads:
            torch.set_num_threads(arguments.threads)
        return cls.open(
            arguments.store,
            arguments.task,
            arguments.base,
            version=arguments.version,
            revision=arguments.revision,
            device=arguments.device,
            precision=arguments.precision,
        )

    def named_columns(self, named: Mapping[Role, str | None]) -> dict[Role, str | None]:
        """Return the columns that the user named, all of which the kind of task must have.

        Raises:
            OptionsError: It has not.
        """
        kind = self.task.spec.kind
        if wrong := [role for role, name in named.items() if name and role not in ROLES[kind]]:
            raise OptionsError(
                [f"--{wrong[0]}-column: not a column of a task of {kind}, which has {', '.join(ROLES[kind])}"]
            )
        return {role: named.get(role) for role in ROLES[kind]}

    def predict(self, inputs: Sequence[TaskInput], *, max_rows: int) -> list[Prediction]:
        """Predict inputs, cut where they are too long; returns a prediction each, in their order.

        Raises:
            TaskInputError: An input can't be taken; it carries the index.
        """
        features = self.task.codec.encode(inputs, truncate=True)
        logits = task_logits(self.task, self.encoder, features, max_rows=max_rows)
        return [self.task.codec.decode(one) for one in logits]

    def judge(self, examples: ExampleSet, *, max_rows: int, worst: int) -> Evaluation:
        """Predict labelled rows and judge the answers.

        Args:
            examples: The rows; labels are those that the task knows.
            max_rows: Rows of a batch at most.
            worst: How many of the worst errors to keep.
        """
        encoded = encode_examples(examples, self.task.codec)
        inputs, codec = [item.example.input for item in encoded], self.task.codec
        metric = getattr(self.task.manifest, "metric", "")
        predictions = self.predict(inputs, max_rows=max_rows)
        found = judge(codec, examples, encoded, predictions, metric=metric, worst=worst)
        if self.task.spec.pooling is None:
            return found
        bare = replace(self, task=self.task.bare()).predict(inputs, max_rows=max_rows)
        return found.beside(Baseline(measure(codec, encoded, bare)[found.metric], BASE_ALONE))

    def identity(self) -> dict[str, object]:
        """Return what names the version: task, version and digest."""
        return {"task": self.task.name, "version": self.number, "digest": self.task.digest}
