"""Kubernetes manifests: what they render to is valid, fits together, and fits the server."""

import copy
import functools
import re
import runpy
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient

from masking import load_base
from server.environment import PREFIX
from server.settings import Settings
from tests.deploy.kubernetes import ALL, FOLDER, OVERLAYS, WITHOUT_SCHEMA, Manifest, mistakes, one, render
from tests.support.serving import fill, serving

_MOUNTED = re.compile(r"/(?:base|masks|mnt/models)\b")
HANG_SECONDS = 5  # until a server that hangs at its end leaves


@pytest.fixture(scope="module")
def client(tiny_bert: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    place = tmp_path_factory.mktemp("store")
    base = load_base(tiny_bert)
    fill(place, base, ["sentiment"])
    with serving(base, place) as client:
        yield client


def pod_of(place: str) -> Manifest:
    pod: Manifest = one(place, "Deployment")["spec"]["template"]["spec"]
    return pod


def settings_of(*variables: Manifest) -> Settings:
    values = {
        entry["name"].removeprefix(PREFIX).lower(): entry.get("value", "a-key")
        for entry in variables
        if entry["name"].startswith(PREFIX)
    }
    return Settings(**{**values, "create_store": values.get("create_store") == "true"})


@pytest.mark.parametrize("place", ALL)
def test_manifests_are_valid(place: str) -> None:
    checked = [manifest for manifest in render(place) if manifest["kind"] not in WITHOUT_SCHEMA]
    assert len(checked) > 1
    assert [mistake for manifest in checked for mistake in mistakes(manifest)] == []


@pytest.mark.parametrize(
    ("place", "kind", "path", "value", "mistake"),
    [
        ("overlays/cpu", "Deployment", "spec.replica", 2, "Extra inputs are not permitted"),
        ("overlays/cpu", "Deployment", "spec.template.spec.containers", None, "valid list"),
        (
            "overlays/cpu",
            "Deployment",
            "spec.template.spec.terminationGracePeriodSeconds",
            "60",
            "valid integer",
        ),
        ("overlays/cpu", "Deployment", "spec.template.spec.volumes", [{"emptyDir": {}}], "Field required"),
        ("kserve", "InferenceService", "spec.predictor.minReplica", 2, "no such field"),
        ("kserve", "InferenceService", "spec.predictor.minReplicas", "2", "no int"),
        ("kserve", "InferenceService", "spec.predictor.model.env", [{"value": "a"}], "Field required"),
        ("kserve", "ServingRuntime", "spec", {"protocolVersions": ["v2"]}, "must not be `None`"),
    ],
)
def test_a_manifest_that_is_not_valid_is_noticed(
    place: str, kind: str, path: str, value: Any, mistake: str
) -> None:
    manifest = copy.deepcopy(one(place, kind))
    *parents, last = path.split(".")
    functools.reduce(lambda part, key: part[key], parents, manifest)[last] = value
    (found,) = mistakes(manifest)
    assert mistake in found


@pytest.mark.parametrize("place", OVERLAYS)
def test_what_names_each_other_exists(place: str) -> None:
    manifests = render(place)
    names = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    assert len(names) == len(manifests)
    assert {manifest["metadata"].get("namespace") for manifest in manifests} <= {None, "maskserve"}
    pod, deployment = pod_of(place), one(place, "Deployment")
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    selecting = [
        deployment["spec"]["selector"]["matchLabels"],
        one(place, "Service")["spec"]["selector"],
        one(place, "PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        one(place, "NetworkPolicy")["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]),
    ]
    assert all(selector and selector.items() <= labels.items() for selector in selecting)
    assert ("ServiceAccount", pod["serviceAccountName"]) in names
    (container,) = pod["containers"]
    assert {mount["name"] for mount in container["volumeMounts"]} == {
        volume["name"] for volume in pod["volumes"]
    }
    claims = {volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"] if len(volume) > 1
              and "persistentVolumeClaim" in volume}  # fmt: skip
    assert claims == {name for kind, name in names if kind == "PersistentVolumeClaim"}
    ports = {port["name"] for port in container["ports"]}
    assert {port["targetPort"] for port in one(place, "Service")["spec"]["ports"]} <= ports
    scaler = one(place, "ScaledObject" if place == "overlays/gpu" else "HorizontalPodAutoscaler")
    assert scaler["spec"]["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert "replicas" not in deployment["spec"]  # which an apply would set back


@pytest.mark.parametrize("place", OVERLAYS)
def test_pods_may_run_where_the_restricted_profile_is_enforced(place: str) -> None:
    assert one(place, "Namespace")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = pod_of(place)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()
    assert all(volume.keys() & {"emptyDir", "persistentVolumeClaim"} for volume in pod["volumes"])
    for container in pod["containers"]:
        _is_restricted(container["securityContext"])
    assert pod["automountServiceAccountToken"] is False


def _is_restricted(context: Manifest) -> None:
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    assert context["readOnlyRootFilesystem"] is True


@pytest.mark.parametrize("place", OVERLAYS)
def test_settings_are_some_probes_answer_and_the_end_is_waited_for(place: str, client: TestClient) -> None:
    pod = pod_of(place)
    (container,) = pod["containers"]
    settings = settings_of(*container["env"])
    assert pod["terminationGracePeriodSeconds"] > (
        settings.drain_seconds + settings.shutdown_seconds + HANG_SECONDS
    )
    readiness = container["readinessProbe"]
    assert settings.drain_seconds > readiness["periodSeconds"] * readiness["failureThreshold"]
    assert settings.port == container["ports"][0]["containerPort"]
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for path in filter(_MOUNTED.match, (settings.base, settings.store)):
        assert any(path.startswith(mount) for mount in mounts)
    assert settings.device == ("cuda" if place == "overlays/gpu" else "auto")
    assert ("nvidia.com/gpu" in container["resources"]["limits"]) == (place == "overlays/gpu")
    assert settings.store.startswith("s3://") == (place == "overlays/s3")


@pytest.mark.parametrize("place", ALL)
def test_no_manifest_holds_a_key(place: str) -> None:
    assert not [manifest for manifest in render(place) if manifest["kind"] == "Secret"]
    for name in re.findall(
        r"name: (\S*(?:KEY|SECRET|TOKEN)\S*)\n +(\w+):", yaml.safe_dump(list(render(place)))
    ):
        assert name[1] == "valueFrom"


def test_nothing_leaves_a_pod_but_to_s3() -> None:
    assert one("overlays/cpu", "NetworkPolicy")["spec"]["egress"] == []
    ports = [
        port["port"]
        for rule in one("overlays/s3", "NetworkPolicy")["spec"]["egress"]
        for port in rule["ports"]
    ]
    assert ports == [53, 53, 443]


def test_kserve_gets_a_server_that_speaks_its_protocol(client: TestClient) -> None:
    runtime, service = one("kserve", "ServingRuntime")["spec"], one("kserve", "InferenceService")["spec"]
    model = service["predictor"]["model"]
    assert model["modelFormat"]["name"] in {offer["name"] for offer in runtime["supportedModelFormats"]}
    assert model["protocolVersion"] in runtime["protocolVersions"]
    (container,) = runtime["containers"]
    _is_restricted(container["securityContext"])
    settings = settings_of(*container["env"], *model["env"])
    assert settings.base == "/mnt/models"
    assert settings.port == container["ports"][0]["containerPort"]
    assert settings.drain_seconds + settings.shutdown_seconds + HANG_SECONDS < 30  # the grace of a pod
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["port"] == settings.port
        assert client.get(container[probe]["httpGet"]["path"]).status_code == 200
    assert client.get(f"/{model['protocolVersion']}/models/sentiment").status_code == 200


def test_keda_asks_for_metrics_that_exist(client: TestClient, tmp_path: Path) -> None:
    triggers = one("overlays/gpu", "ScaledObject")["spec"]["triggers"]
    exposed = client.get("/metrics").text
    for trigger in triggers:
        query = trigger["metadata"]["query"]
        (metric,) = re.findall(r"maskserve_\w+", query)
        assert re.search(rf"^{metric}[ {{]", exposed, re.MULTILINE)
        for stage in re.findall(r'stage="(\w+)"', query):
            assert f'stage="{stage}"' in exposed
        assert float(trigger["metadata"]["threshold"]) > 0
    if shutil.which("promtool") is None:
        pytest.skip("needs promtool")
    rules = [{"record": f"a:{trigger['name']}", "expr": trigger["metadata"]["query"]} for trigger in triggers]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    subprocess.run(["promtool", "check", "rules", file], check=True, capture_output=True)


def test_the_rules_for_the_operator_are_those_of_prometheus() -> None:
    place = FOLDER / "components" / "monitoring"
    assert (place / "rules.yaml").read_text(encoding="utf-8") == runpy.run_path(
        str(place / "write_rules.py")
    )["rules"]()
    monitor = one("overlays/gpu", "ServiceMonitor")["spec"]
    service = one("overlays/gpu", "Service")
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert {endpoint["port"] for endpoint in monitor["endpoints"]} <= {
        port["name"] for port in service["spec"]["ports"]
    }
    assert 'job="maskserve"' in yaml.safe_dump(one("overlays/gpu", "PrometheusRule"))
    assert service["metadata"]["name"] == "maskserve"  # the job of what is scraped through it


def test_every_file_is_part_of_something() -> None:
    named = {
        (file.parent / path).resolve()
        for file in FOLDER.rglob("kustomization.yaml")
        for path in re.findall(r"[\w./]+\.yaml", file.read_text())
    }
    files = {file.resolve() for file in FOLDER.rglob("*.yaml") if file.name != "kustomization.yaml"}
    assert files == named
