"""Learning an ensemble: a mask for each of several seeds, published as one task (paper, section 5.3).

The masks answer together by the rule that does best on dev. Members that are done wait in their run folders,
so a command that was killed goes on with the next one. How masks answer together is computed in
`masking.inference.combine`.
"""

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from transformers import TrainerCallback

from mask_store import (
    MAX_MEMBERS,
    MIN_MEMBERS,
    CombineRule,
    LearnedInfo,
    MaskBundle,
    VersionInfo,
    ensemble_of,
    human_bytes,
)
from masking import TaskCodec
from masking.inference.combine import combine_logits
from masking.tasks.predictions import Floats
from training.cli.messages import Say, silent
from training.data.features import EncodedExample
from training.distributed import refuse_several
from training.errors import OptionsError
from training.loop.evaluation import measure, served_logits
from training.loop.run_folder import RunFolder
from training.options import LearnOptions
from training.runs.learn import learn_bundle, open_store, publish
from training.runs.preparation import Preparation, prepare
from training.runs.report import (
    curl_line,
    human_seconds,
    measured,
    request_body,
    size_line,
    with_curl,
)

RULES: tuple[CombineRule, ...] = ("probabilities", "logits", "labels")  # the first of equals is chosen


@dataclass(frozen=True)
class MemberReport:
    """One member of an ensemble.

    Attributes:
        seed: its seed.
        metrics: its own dev metrics.
        best_epoch: number of its best epoch.
        epochs_run: epochs that were learned.
        zeros: share of zero bits.
        mask_bytes: bytes of its packed masks in memory.
    """

    seed: int
    metrics: Mapping[str, float]
    best_epoch: int
    epochs_run: int
    zeros: float
    mask_bytes: int

    @classmethod
    def of(cls, info: LearnedInfo) -> Self:
        """Read it from a manifest."""
        best, run = (int(info.training[name] or 0) for name in ("best_epoch", "epochs_run"))
        return cls(info.seed, info.metrics, best, run, info.sparsity, info.mask_bytes)


@dataclass(frozen=True)
class EnsembleReport:
    """What learning an ensemble came to.

    Attributes:
        task: name it was published under.
        base: name of the pretrained encoder.
        device: where it was learned.
        store: where it was published.
        version: number of the version.
        digest: digest of the published bundle.
        metric: name of the dev metric that chose epochs and rule.
        members: the members in their order.
        rules: dev metrics of the members together, by rule.
        combine: the rule that was chosen.
        bundle_bytes: bytes of the published file.
        mask_bits: weights that have a mask bit, over all members.
        mask_bytes: bytes of all packed masks in memory.
        finetuned_bytes: bytes that as many finetuned fp32 copies would take.
        seconds: time taken by this process, from reading data to publishing.
        dev_examples: examples that everything was measured on.
        request: body of a request that serving answers, made of the first dev example.
    """

    task: str
    base: str
    device: str
    store: str
    version: int
    digest: str
    metric: str
    members: tuple[MemberReport, ...]
    rules: Mapping[CombineRule, Mapping[str, float]]
    combine: CombineRule
    bundle_bytes: int
    mask_bits: int
    mask_bytes: int
    finetuned_bytes: int
    seconds: float
    dev_examples: int
    request: Mapping[str, object]

    @property
    def metrics(self) -> Mapping[str, float]:
        """Dev metrics of what was published."""
        return self.rules[self.combine]

    @property
    def value(self) -> float:
        """Value of the dev metric of what was published."""
        return self.metrics[self.metric]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as JSON values, with `metrics` and `curl`."""
        return asdict(self) | {"metrics": self.metrics, "curl": curl_line(self.task, self.request)}

    def __str__(self) -> str:
        """Return the text that is printed at the end of a run."""
        members = {
            f"seed {member.seed}": f"{measured(self.metric, member.metrics)} (best epoch {member.best_epoch}"
            f" of {member.epochs_run}), {member.zeros:.2%} zeros, {human_bytes(member.mask_bytes)} in memory"
            for member in self.members
        }
        rules: dict[str, str] = {rule: measured(self.metric, own) for rule, own in self.rules.items()}
        ratio = self.finetuned_bytes / self.bundle_bytes
        lines = {
            "published": f"{self.task} version {self.version} in {self.store}, {len(members)} masks",
            "digest": self.digest,
            **members,
            **rules,
            "chosen": f"{self.combine}: {self.metric} {self.value:.4f} on {self.dev_examples} examples",
            "size": size_line(self.bundle_bytes, self.mask_bits, self.mask_bytes),
            "finetuned": f"{len(members)} finetuned copies take {human_bytes(self.finetuned_bytes)},"
            f" {ratio:,.0f} times the file",
            "time": f"{human_seconds(self.seconds)} on {self.device}",
        }
        width = max(map(len, lines)) + 1
        table = "\n".join(f"{name:<{width}}{text}" for name, text in lines.items())
        return with_curl(table, curl_line(self.task, self.request))


def learn_ensemble(
    options: LearnOptions,
    seeds: Sequence[int],
    *,
    callbacks: Sequence[TrainerCallback] = (),
    say: Say | None = None,
) -> EnsembleReport:
    """Learn a mask for each seed and publish them as one task; prints nothing.

    Args:
        options: as for `learn`; each member's run folder is the options' with ``-seed<N>``.
        seeds: in place of the options' seed; 2 to 64, all different.
        callbacks: told of steps, logs and epochs of each member.
        say: called with a line of text for what a user should know on the way; None for nobody.

    Returns:
        What was learned and published.

    Raises:
        TrainingError, MaskingError, MaskStoreError: as in `training.runs.learn.learn`.
    """
    started = time.monotonic()
    refuse_several("an ensemble (--seeds)")
    if not MIN_MEMBERS <= len(set(seeds)) == len(seeds) <= MAX_MEMBERS:
        raise OptionsError(
            [f"--seeds: an ensemble has {MIN_MEMBERS} to {MAX_MEMBERS} masks, each of another seed"]
        )
    say = say or silent
    store = open_store(options)
    ready = prepare(options, say)
    runs = [(ready.varied(seed=seed), Path(f"{options.run_folder}-seed{seed}")) for seed in seeds]
    with ExitStack() as stack:
        folders = [
            stack.enter_context(RunFolder.open(path, run.identity, fresh=options.fresh)) for run, path in runs
        ]
        members = [
            _member(run, folder, callbacks, say) for (run, _), folder in zip(runs, folders, strict=True)
        ]
        rules = measure_rules(ready, members)
        chosen = choose_rule(rules, ready.metric)
        bundle = ensemble_of(
            options.task, chosen, [(None, member) for member in members], metrics=rules[chosen]
        )
        version = publish(store, bundle, options.run_folder)
        report = _report(ready, bundle, rules, version, time.monotonic() - started)
        for folder in folders:
            folder.finish(report.to_dict())
    return report


def measure_rules(ready: Preparation, members: Sequence[MaskBundle]) -> dict[CombineRule, dict[str, float]]:
    """Measure masks together on dev, by each rule.

    Args:
        ready: the task.
        members: a bundle for each mask.

    Returns:
        Every metric of the task's kind by name, by rule.
    """
    dev = ready.encoded.dev
    logits = [served_logits(member, ready.base, dev, max_rows=ready.options.batch_size) for member in members]
    return measure_together(ready.codec, dev, logits)


def measure_together(
    codec: TaskCodec, examples: Sequence[EncodedExample], logits: Sequence[Sequence[Floats]]
) -> dict[CombineRule, dict[str, float]]:
    """Measure models together, by each rule.

    Args:
        codec: the task's codec.
        examples: at least one.
        logits: by model, the logits of each example.

    Returns:
        Every metric of the task's kind by name, by rule.
    """
    return {
        rule: measure(codec, examples, [codec.decode(one) for one in combine(logits, rule)]) for rule in RULES
    }


def combine(members: Sequence[Sequence[Floats]], rule: CombineRule) -> list[Floats]:
    """Combine the logits of several models example by example.

    Args:
        members: by model, the logits of each example.
        rule: what the answer is made of.
    """
    return [combine_logits(rule, logits) for logits in zip(*members, strict=True)]


def choose_rule(rules: Mapping[CombineRule, Mapping[str, float]], metric: str) -> CombineRule:
    """Return the rule with the best value of a metric; of equals the first in the order of `RULES`."""
    return max(RULES, key=lambda rule: rules[rule][metric])


def _member(
    ready: Preparation, folder: RunFolder, callbacks: Sequence[TrainerCallback], say: Say
) -> MaskBundle:
    seed = ready.options.seed
    kept = folder.kept()
    if kept is not None:
        say(f"seed {seed}: learned before and kept in {folder.path}")
        return kept
    say(f"seed {seed}:")
    bundle = learn_bundle(ready, folder, callbacks=callbacks, say=say).bundle
    folder.keep(bundle)
    return bundle


def _report(
    ready: Preparation,
    bundle: MaskBundle,
    rules: Mapping[CombineRule, Mapping[str, float]],
    version: VersionInfo,
    seconds: float,
) -> EnsembleReport:
    manifest = bundle.manifest
    return EnsembleReport(
        task=manifest.task,
        base=manifest.base.name,
        device=ready.base.device.type,
        store=ready.options.store or "",
        version=version.number,
        digest=version.digest,
        metric=ready.metric,
        members=tuple(MemberReport.of(member.info) for member in bundle.members),
        rules=rules,
        combine=choose_rule(rules, ready.metric),
        bundle_bytes=version.size,
        mask_bits=manifest.mask_bits,
        mask_bytes=manifest.mask_bytes,
        finetuned_bytes=manifest.finetuned_bytes,
        seconds=round(seconds, 3),
        dev_examples=len(ready.encoded.dev),
        request=request_body(ready.data.dev.examples[0].input),
    )
