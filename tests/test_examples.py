"""The examples: what they name exists, and Kubernetes takes them as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT

from bento_selfheal.config import Settings, Thresholds

FOLDER = ROOT / "examples" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))


def documents(path: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(path.read_text()))


def selfheal(kind: str) -> list[dict[str, Any]]:
    return [d for d in documents(FOLDER / "selfheal.yaml") if d["kind"] == kind]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_kubernetes_takes_them(path: Path) -> None:
    """Every document is valid by the schemas of Kubernetes, unknown fields included."""
    for document in documents(path):
        kubernetes_validate.validate(document, "1.30", strict=True)


def test_settings_exist() -> None:
    """Every SELFHEAL_ variable is a setting, and its value is one that it takes."""
    [pod] = [d["spec"]["template"]["spec"] for d in selfheal("Deployment")]
    [container] = pod["containers"]
    named = {**selfheal("ConfigMap")[0]["data"], **{e["name"]: "" for e in container["env"]}}
    ours = {k.removeprefix("SELFHEAL_").lower(): v for k, v in named.items() if "SELFHEAL_" in k}
    assert set(ours) <= set(Settings.model_fields)
    assert "store_url" in ours
    Settings(**ours)
    Thresholds.model_validate_json(selfheal("ConfigMap")[1]["data"]["threshold_config.json"])


def test_pods_are_found() -> None:
    """Service, disruption budget and spread select the pods that the deployment makes."""
    [deployment], [service], [budget] = (
        selfheal(kind) for kind in ("Deployment", "Service", "PodDisruptionBudget")
    )
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    assert service["spec"]["selector"].items() <= labels.items()
    assert budget["spec"]["selector"]["matchLabels"].items() <= labels.items()
    assert budget["spec"]["minAvailable"] < deployment["spec"]["replicas"]
