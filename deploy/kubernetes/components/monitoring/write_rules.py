"""Rules of deploy/prometheus for the Prometheus operator: `python write_rules.py` writes rules.yaml."""

from pathlib import Path

import yaml

HERE = Path(__file__).parent
PROMETHEUS = HERE.parents[2] / "prometheus"
HEAD = "# Written by write_rules.py from deploy/prometheus/*.rules.yml.\n"


def rules() -> str:
    """Return the manifest."""
    files = sorted(PROMETHEUS.glob("*.rules.yml"))
    groups = [group for file in files for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]]
    manifest = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": "maskserve"},
        "spec": {"groups": groups},
    }
    return HEAD + yaml.safe_dump(manifest, sort_keys=False, width=110)


if __name__ == "__main__":
    (HERE / "rules.yaml").write_text(rules(), encoding="utf-8")
