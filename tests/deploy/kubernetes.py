"""Kubernetes manifests as `kubectl kustomize` renders them, and their schemas in Python's clients."""

import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import kserve.models
import kubernetes.client.models
import pytest
import yaml
from pydantic import ValidationError

from tests.support.serving import ROOT

Manifest = dict[str, Any]
FOLDER = ROOT / "deploy" / "kubernetes"
OVERLAYS = ("overlays/cpu", "overlays/gpu", "overlays/s3")
ALL = (*OVERLAYS, "kserve")
# Kinds of operators for which there is no Python client with a schema.
WITHOUT_SCHEMA = {"ServiceMonitor", "PrometheusRule", "ScaledObject"}
_LIST = re.compile(r"list\[(.+)\]")
_MAP = re.compile(r"dict\(str, (.+)\)")
_SIMPLE = {"str": str, "int": int, "float": float, "bool": bool, "object": object}


@functools.cache
def render(place: str) -> tuple[Manifest, ...]:
    """Render an overlay; skips the test where there is no kubectl."""
    if shutil.which("kubectl") is None:
        pytest.skip("needs kubectl")
    command = ["kubectl", "kustomize", str(FOLDER / place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    return tuple(yaml.safe_load_all(done.stdout))


def one(place: str, kind: str, name: str | None = None) -> Manifest:
    (found,) = (
        manifest
        for manifest in render(place)
        if manifest["kind"] == kind and name in (None, manifest["metadata"]["name"])
    )
    return found


def mistakes(manifest: Manifest) -> list[str]:
    """Fields of a manifest that its kind does not have, lacks, or has with another type."""
    version = manifest["apiVersion"].rpartition("/")[2]
    return list(_compare(manifest, f"{version[0].upper()}{version[1:]}{manifest['kind']}", "manifest"))


def _compare(given: Any, kind: str, place: str) -> Iterator[str]:
    """Compare a value with what a client calls its type: one of Kubernetes, one of KServe, or of those."""
    if found := _LIST.fullmatch(kind):
        for number, item in enumerate(given):
            yield from _compare(item, found[1], f"{place}.{number}")
    elif found := _MAP.fullmatch(kind):
        for key, item in given.items():
            yield from _compare(item, found[1], f"{place}.{key}")
    elif kind in _SIMPLE:
        if not isinstance(given, _SIMPLE[kind]):
            yield f"{place}: {given!r} is no {kind}"
    elif model := getattr(kserve.models, kind, None):
        yield from _compare_kserve(given, model, place)
    else:
        try:
            getattr(kubernetes.client.models, kind).model_validate(given, strict=True)
        except ValidationError as error:
            for mistake in error.errors():
                yield f"{'.'.join([place, *map(str, mistake['loc'])])}: {mistake['msg']}"


def _compare_kserve(given: Manifest, model: Any, place: str) -> Iterator[str]:
    """Compare with a model of KServe's client, which knows its fields, but takes values of any type."""
    attributes = {key: attribute for attribute, key in model.attribute_map.items()}
    for key, value in given.items():
        if key not in attributes:
            yield f"{place}.{key}: {model.__name__} has no such field"
        else:
            yield from _compare(value, model.openapi_types[attributes[key]], f"{place}.{key}")
    try:
        model(**{attributes[key]: value for key, value in given.items() if key in attributes})
    except ValueError as error:  # a field that must be there
        yield f"{place}: {error}"
