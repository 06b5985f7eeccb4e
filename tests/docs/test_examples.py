"""The examples: what they name exists, and Kubernetes and Compose take them as they are."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from conftest import ROOT

from bento_selfheal.config.settings import Settings
from bento_selfheal.config.thresholds import Thresholds
from bento_selfheal.image import STATE

COMPOSE = ROOT / "examples" / "compose"
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


def test_a_pod_writes_where_it_may() -> None:
    """Its root file system is read-only; BENTOML_HOME lies on a volume that its user owns."""
    [pod] = [d["spec"]["template"]["spec"] for d in selfheal("Deployment")]
    [container] = pod["containers"]
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]
    home = selfheal("ConfigMap")[0]["data"]["BENTOML_HOME"]
    assert {home, "/tmp"} <= {m["mountPath"] for m in container["volumeMounts"]}  # noqa: S108


def composed() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((COMPOSE / "compose.yaml").read_text())
    return content


def test_compose_takes_it() -> None:
    """The file is valid by the schema of the Compose specification."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*check, str(COMPOSE / "compose.yaml")], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", composed()["services"])
def test_a_composed_service_is_confined(name: str) -> None:
    """Pinned, not root, nothing writable but volumes, and open to this machine alone."""
    service = composed()["services"][name]
    image = re.sub(r"\$\{\w+:-(.*)\}", r"\1", service["image"])
    assert re.search(r":\d[\w.]*$|:v\d[\w.]*$", image), image
    assert service["user"].partition(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert all(port.startswith("127.0.0.1:") for port in service.get("ports", []))
    for mounted in service["volumes"]:
        source, _, target = mounted.partition(":")
        if source.startswith("."):
            assert (COMPOSE / source).is_file(), mounted
            assert target.endswith(":ro")
        else:
            assert source in composed()["volumes"]


def test_composed_services_wait_for_health() -> None:
    """Who is waited for until healthy has a check of its health; who is named is there."""
    services = composed()["services"]
    for service in services.values():
        for name, how in service.get("depends_on", {}).items():
            assert how["condition"] != "service_healthy" or "test" in services[name]["healthcheck"]


def test_no_secret_is_composed() -> None:
    """Each password can be set from outside; its default says for what it is good."""
    for service in composed()["services"].values():
        for name, value in service.get("environment", {}).items():
            if "PASSWORD" in name or "://selfheal:" in value:
                assert re.search(r"\$\{\w+_PASSWORD:-local-only\}", value), name


def test_composed_settings_exist() -> None:
    """Every SELFHEAL_ variable is a setting; the state lies where the image has a folder for it."""
    service = composed()["services"]["selfheal"]
    given = service["environment"]
    ours = {
        k.removeprefix("SELFHEAL_").lower(): v for k, v in given.items() if k.startswith("SELFHEAL")
    }
    assert Settings(**ours).store_url.startswith("postgresql+psycopg://")
    assert given["BENTOML_HOME"] == str(STATE)
    assert service["volumes"] == [f"state:{STATE}"]


def test_what_is_composed_finds_each_other() -> None:
    """Hosts in addresses are services, and the collector's pipelines name what it has."""
    services = composed()["services"]
    files = [
        COMPOSE / "compose.yaml", COMPOSE / "prometheus.yml", COMPOSE / "grafana/datasource.yaml",
    ]  # fmt: skip
    for file in files:
        for host in re.findall(r"(?:https?://|@|targets: \[\")([a-z-]+)[:/]", file.read_text()):
            assert host in services, (file.name, host)
    collector = yaml.safe_load((COMPOSE / "otel-collector.yaml").read_text())
    for pipeline in collector["service"]["pipelines"].values():
        for kind, names in pipeline.items():
            assert set(names) <= set(collector[kind])


def test_prometheus_takes_its_configuration(tmp_path: Path) -> None:
    """promtool finds nothing wrong with the composed Prometheus' configuration and rules."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool is not installed: `apt-get install prometheus`")
    shutil.copy(COMPOSE / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "examples" / "observability" / "alerts.yml", tmp_path)
    check = ["promtool", "check", "config", str(tmp_path / "prometheus.yml")]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
