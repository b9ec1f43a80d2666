"""Composition of one server process: the only module that knows all parts of the service."""

import logging
import math
import os
from collections.abc import Callable
from functools import partial

import torch

from mask_store import BundleCache, MaskStore
from mask_store.sizes import human_bytes
from masking import Base, MaskedEncoder, TaskBatch, choose_device, load_base
from masking.inference import ResidentWeights
from masking.kernels import Precision, choose_precision, costs, kernel_runs, missing
from masking.kernels.cpu.processor import instruction_sets, processor_name
from masking.tasks import MODEL_KINDS
from server.engine.batch import BatchLimits
from server.engine.mask_memory import mask_memory
from server.engine.ready_masks import ReadyMasks
from server.engine.retry import Compute
from server.engine.tokenizer import TokenizerStage
from server.engine.worker import Engine
from server.predictor import Predictor
from server.service import Service
from server.settings import Settings, SettingsError
from server.tasks.history import TaskHistory
from server.tasks.lifecycle import Lifecycle
from server.tasks.loader import TaskLoader
from server.tasks.registry import TaskRegistry
from server.tasks.rollouts import Rollouts
from server.tasks.watcher import StoreWatcher
from server.telemetry.metrics import Metrics
from server.telemetry.tracing import RequestTracer
from server.telemetry.traffic_metrics import TrafficState
from server.tenants.callers import Callers
from server.tenants.keys_file import KeysFileError
from server.threads.compute import allowed_threads
from server.threads.heap import keep_freed
from server.threads.interpreter import keep_loaded

logger = logging.getLogger(__name__)

_CPU_TOKENS, _GPU_TOKENS = 8192, 16384
_LOCK_SECONDS = 10.0
"""How long a request that changes the store waits for others that do."""
_MOST_TOKENIZERS = 4  # threads
_BODIES_TOKENISED = 8  # of the largest size, at once


def build_service(
    settings: Settings,
    *,
    base: Base | None = None,
    compute: Compute | None = None,
    own_process: bool = False,
) -> Service:
    """Load the base, open the store and connect the parts; no thread runs yet.

    Args:
        settings: What the operator set.
        base: A base that is loaded already, instead of loading `settings.base`.
        compute: What computes a batch, instead of the masked encoder.
        own_process: The process only serves. Once everything is loaded, its garbage collector and its heap
            are set up for that.

    Raises:
        MaskingError: The base can't be loaded.
        MaskStoreError: There is no store, or it can't be read.
        SettingsError: The device or the precision can't be had here, the package for traces is missing, or
            the keys file is not right.
    """
    tracer = None if settings.otlp_endpoint is None else RequestTracer.to(settings.otlp_endpoint)
    callers = _callers(settings)
    store = _open_store(settings)  # before the base, which takes longer to load
    device = _device(settings.device) if base is None else base.device
    precision = _precision(settings, device)
    own = base is None
    if base is None:
        base = load_base(settings.base, revision=settings.revision, device=device)
        _tell(base)
    metrics = Metrics(settings.metrics_max_tasks, settings.metrics_max_keys)
    registry = TaskRegistry(settings.require_task)
    weights = _weights(base, precision, settings)
    masked = MaskedEncoder(base, weights).logits
    if own:
        weights.release(base)
    loader = TaskLoader(
        store,
        base,
        registry,
        metrics,
        retry_seconds=settings.poll_seconds,
        weights=weights,
        masks=ReadyMasks(
            mask_memory(settings.mask_memory, device),
            registry,
            threads=settings.load_threads,
            on_lookup=metrics.residency.count_lookup,
            on_eviction=metrics.residency.count_eviction,
        ),
    )
    lifecycle = Lifecycle(store, loader, registry, metrics)
    rollouts = Rollouts(store, lifecycle, loader, registry, metrics)
    watcher = StoreWatcher(
        store,
        rollouts,
        registry,
        metrics,
        poll_seconds=settings.poll_seconds,
        load_threads=settings.load_threads,
        masks=loader.masks,
    )
    warm = None if compute else masked
    prepare = _preparation(settings, base, watcher, loader.masks, metrics, warm=warm, own_process=own_process)
    engine = _engine(settings, base, metrics, compute or masked, prepare)
    tokenizer = TokenizerStage(
        engine.queue.limits,
        threads=min(_MOST_TOKENIZERS, allowed_threads(os.cpu_count() or 1)),
        most_characters=_BODIES_TOKENISED * settings.max_body_bytes,
    )
    predictor = Predictor(
        tokenizer, engine, loader.masks, metrics, timeout_seconds=settings.request_timeout_ms / 1000
    )
    service = Service(
        settings,
        base,
        weights,
        registry,
        loader.masks,
        watcher,
        lifecycle,
        rollouts,
        TaskHistory(store),
        engine,
        tokenizer,
        predictor,
        metrics,
        callers,
        tracer,
    )
    _connect_gauges(service)
    return service


def _callers(settings: Settings) -> Callers:
    keys = [key.get_secret_value() for key in settings.api_keys]
    admin = None if settings.admin_key is None else settings.admin_key.get_secret_value()
    try:
        return Callers(keys, admin, settings.keys_file)
    except KeysFileError as error:
        raise SettingsError(f"--keys-file: {error}") from None


def _precision(settings: Settings, device: torch.device) -> Precision:
    """Choose the precision, and tell which it is, where, and why."""
    try:
        chosen = choose_precision(settings.precision, device, settings.kernels)
    except ValueError as error:
        raise SettingsError(f"--{error}") from None
    if settings.precision == "auto":
        logger.info("--precision auto is %s: %s", chosen, _reason(settings, device))
    facts = (processor_name(), *instruction_sets()) if device.type == "cpu" else (str(device),)
    logger.info("precision %s, on %s", chosen, ", ".join(facts))
    return chosen


def _reason(settings: Settings, device: torch.device) -> str:
    """Say why `auto` is what it is."""
    if settings.kernels == "off":
        return "without kernels there is no other"
    lacking = missing("bf16", device)
    return f"bf16 {lacking}" if lacking else "bf16 is multiplied natively here"


def _weights(base: Base, precision: Precision, settings: Settings) -> ResidentWeights:
    try:
        return ResidentWeights.of(base, precision, settings.kernels)
    except ValueError as error:  # the kernel does not take the width of the layers
        raise SettingsError(f"--precision {precision}: {error}; take fp32") from None


def _tell(base: Base) -> None:
    facts = f"{base.info.architecture}, {base.info.parameters:,} parameters, {human_bytes(base.nbytes)}"
    logger.info("base loaded: %s, on %s", facts, base.device)


def _open_store(settings: Settings) -> MaskStore:
    folder = settings.cache_dir
    cache = None if folder is None else BundleCache(folder, settings.cache_bytes)
    store = MaskStore.open(
        settings.store, create=settings.makes_store, lock_seconds=_LOCK_SECONDS, cache=cache
    )
    if cache is not None and not store.caches:
        logger.warning("--cache-dir is not used: the store is a folder of this machine")
    return store


def _engine(
    settings: Settings, base: Base, metrics: Metrics, compute: Compute, prepare: Callable[[], None]
) -> Engine:
    """Return the engine with limits as set; those left to the device let a slower one end batches sooner."""
    limits = BatchLimits(
        rows=settings.max_batch_rows,
        tokens=settings.max_batch_tokens or (_CPU_TOKENS if base.device.type == "cpu" else _GPU_TOKENS),
        wait_seconds=settings.max_wait_ms / 1000,
        waiting=settings.queue_limit,
        waiting_seconds=settings.queue_seconds,
    )
    return Engine(
        compute,
        limits,
        prepare=prepare,
        on_batch=metrics.batches.count,
        on_drop=metrics.batches.count_drop,
    )


def _preparation(
    settings: Settings,
    base: Base,
    watcher: StoreWatcher,
    masks: ReadyMasks,
    metrics: Metrics,
    *,
    warm: Compute | None,
    own_process: bool,
) -> Callable[[], None]:
    """Return what a worker does before its first batch; `warm` is computed with, once, if given."""

    def prepare() -> None:
        torch.set_num_threads(settings.threads or allowed_threads(torch.get_num_threads()))
        watcher.wait_for_first_pass()
        if warm is not None:
            if base.device.type == "cpu" and kernel_runs(base.device, settings.kernels):
                metrics.note_costs(costs().as_dict())
            _warm_up(warm, masks)
        if own_process:
            keep_loaded()
            keep_freed()

    return prepare


def _warm_up(compute: Compute, masks: ReadyMasks) -> None:
    """Compute one input of one task: kernels are built and threads are up before the first request."""
    if (task := masks.newest()) is not None:
        sample = MODEL_KINDS[task.spec.kind].sample(task.spec)
        features = task.codec.encode([sample], truncate=True)
        try:
            compute([TaskBatch(task, features)])
        except Exception:  # a task that fails must not keep the others from being served
            logger.exception("warming up with task %s failed", task.name)


def _connect_gauges(service: Service) -> None:
    """Let the metrics read the state of the service when they are scraped."""
    metrics, queue, registry = service.metrics, service.engine.queue, service.registry
    metrics.describe_build(
        {
            "version": service.version,
            "torch": torch.__version__,
            "base": service.base.info.name,
            "device": str(service.base.device),
            "precision": service.precision,
        }
    )
    metrics.read("maskserve_queue_rows", "Rows that wait", lambda: queue.waiting)
    metrics.read("maskserve_queue_tokens", "Tokens that wait", lambda: queue.waiting_tokens)
    metrics.read(
        "maskserve_tokenizer_characters",
        "Characters that are or wait to be tokenised",
        lambda: service.tokenizer.characters,
    )
    metrics.read("maskserve_queue_seconds", "How long they take", lambda: queue.waiting_seconds)
    metrics.read("maskserve_queue_oldest_seconds", "How long the oldest waits", lambda: queue.oldest_seconds)
    metrics.read("maskserve_ready", "1 if requests can be answered", lambda: service.why_not_ready() is None)
    metrics.read_restarts(service.threads)
    metrics.read("maskserve_tasks", "Tasks in service", lambda: registry.served)
    metrics.read(
        "maskserve_task_problems",
        "Tasks whose current version can't be served",
        lambda: registry.troubled,
    )
    metrics.read_traffic(
        lambda: {
            name: TrafficState(one.settings.weights, one.settings.shadow, one.statistics)
            for name, one in registry.traffic.items()
        }
    )
    metrics.read(
        "maskserve_finetuned_bytes",
        "What a finetuned copy of the base in fp32 for each task in service would take, and for each version "
        "side by side with others",
        lambda: registry.finetuned_bytes,
    )
    _connect_keys(service)
    _connect_memory(service)
    _connect_masks(service)


def _connect_keys(service: Service) -> None:
    """Let the metrics follow the keys file."""
    metrics, callers = service.metrics, service.callers
    metrics.read("maskserve_keys", "Keys of the keys file in force", lambda: len(callers.names))
    metrics.read(
        "maskserve_keys_file_up",
        "1 if the keys file could be read at the last look; else the keys that it had before are in force",
        lambda: callers.problem is None,
    )
    callers.on_look = lambda: metrics.keys.retain(callers.all_names)


def _connect_memory(service: Service) -> None:
    """Let the metrics count bytes when they are scraped."""
    masks, device = service.masks, service.base.device
    gpu = device.type == "cuda"
    service.metrics.read_bytes(
        {
            "base": lambda: service.base.nbytes,
            "lines": lambda: service.weights.nbytes,
            "packed": partial(masks.held, "packed"),
            "head": partial(masks.held, "head"),
            "signs": partial(masks.held, "signs"),
        },
        {
            "reserved": lambda: torch.cuda.memory_reserved(device) if gpu else 0,
            "tensors": lambda: torch.cuda.memory_allocated(device) if gpu else 0,
        },
    )


def _connect_masks(service: Service) -> None:
    """Let the metrics tell which tasks have their masks in memory when they are scraped.

    A task counts once for each version that is in service.
    """
    masks, registry, read = service.masks, service.registry, service.metrics.read
    read("maskserve_ready_tasks", "Tasks whose masks are in memory", lambda: masks.ready)
    read("maskserve_loading_tasks", "Tasks whose masks are being loaded", lambda: masks.loading)
    read(
        "maskserve_cold_tasks",
        "Tasks in service whose masks come with the next request",
        lambda: max(0, registry.bundles - masks.ready - masks.loading),
    )
    read("maskserve_mask_bytes", "Bytes of masks that are held, or promised to loads", lambda: masks.nbytes)
    read(
        "maskserve_mask_memory_bytes",
        "Most bytes of masks; infinite without a limit",
        lambda: math.inf if masks.budget is None else masks.budget,
    )


def _device(wanted: str) -> torch.device:
    try:
        return choose_device(wanted)
    except ValueError as error:
        raise SettingsError(f"--device {error}") from None
