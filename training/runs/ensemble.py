"""Ensemble learning: a mask for each of several seeds, published as one task (paper, section 5.3).

The masks answer together by the rule that does best on dev. Members that are done wait in their run folders,
so a command that was killed continues with the next one. How masks answer together is computed in
`masking.inference.combine`.
"""

import logging
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from mask_store import MAX_MEMBERS, MIN_MEMBERS, EnsembleManifest, MaskBundle, ensemble_of
from training.distributed import refuse_several
from training.errors import OptionsError
from training.judging.learned import judge_logits
from training.loop.callbacks import Callback
from training.loop.run_folder import RunFolder
from training.options import LearnOptions
from training.runs.acceptance import accept
from training.runs.combining import choose_rule, combine, measure_together, member_logits
from training.runs.learn import learn_bundle, open_store, publish, published_as
from training.runs.preparation import Preparation, prepare
from training.runs.report import EnsembleReport, MemberReport, finish

logger = logging.getLogger(__name__)


def learn_ensemble(
    options: LearnOptions,
    seeds: Sequence[int],
    *,
    callbacks: Sequence[Callback] = (),
) -> EnsembleReport:
    """Learn a mask for each seed and publish them as one task; prints nothing.

    Args:
        options: As for `learn`; each member's run folder is the options' with ``-seed<N>``.
        seeds: Seeds instead of the options' one; 2 to 64, all different.
        callbacks: Called as the run proceeds of each member.

    Returns:
        What was learned and published.

    Raises:
        TrainingError, MaskingError, MaskStoreError: As in `training.runs.learn.learn`.
    """
    started = time.monotonic()
    refuse_several("an ensemble (--seeds)")
    if not MIN_MEMBERS <= len(set(seeds)) == len(seeds) <= MAX_MEMBERS:
        raise OptionsError(
            [f"--seeds: an ensemble has {MIN_MEMBERS} to {MAX_MEMBERS} masks, each of another seed"]
        )
    store = open_store(options)
    ready = prepare(options)
    runs = [(ready.varied(seed=seed), Path(f"{options.run_folder}-seed{seed}")) for seed in seeds]
    with ExitStack() as stack:
        folders = [
            stack.enter_context(RunFolder.open(path, run.identity, fresh=options.fresh)) for run, path in runs
        ]
        members = [_member(run, folder, callbacks) for (run, _), folder in zip(runs, folders, strict=True)]
        logits, dev = member_logits(ready, members), ready.encoded.dev
        rules = measure_together(ready.codec, dev, logits)
        chosen = choose_rule(rules, ready.metric)
        codec, evaluation = judge_logits(
            *(ready.base.tokenizer, ready.codec, ready.data.dev, dev, combine(logits, chosen)),
            metric=ready.metric,
        )
        evaluation = evaluation.beside(ready.baseline)
        bundle = ensemble_of(
            options.task,
            chosen,
            [(None, member) for member in members],
            metrics=rules[chosen],
            thresholds=codec.spec.thresholds,
            evaluation=evaluation.info(),
        )
        accept(ready, rules[chosen])
        version = publish(store, bundle, options.run_folder)
        assert isinstance(bundle.manifest, EnsembleManifest)
        report = EnsembleReport(
            **published_as(ready, bundle, version, time.monotonic() - started),
            members=tuple(MemberReport.of(member) for member in bundle.manifest.members),
            rules=rules,
            combine=chosen,
            dev_examples=len(dev),
            evaluation=evaluation,
        )
        for folder in folders:
            finish(folder, report)
    return report


def _member(ready: Preparation, folder: RunFolder, callbacks: Sequence[Callback]) -> MaskBundle:
    seed = ready.options.seed
    kept = folder.kept()
    if kept is not None:
        logger.info(f"seed {seed}: learned before and kept in {folder.path}")
        return kept
    logger.info(f"seed {seed}:")
    bundle = learn_bundle(ready, folder, callbacks=callbacks).bundle
    folder.keep(bundle)
    folder.drop_checkpoints()
    return bundle
