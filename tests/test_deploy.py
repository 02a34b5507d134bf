"""What is shipped beside the code parses, names what exists, and is taken by the loader of the settings.

Nothing is built or started here: that needs a container runtime.
"""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from cds_hooks.cli import main
from cds_hooks.serving import GRACE
from cds_hooks.settings import check_bind, load_settings

ROOT = Path(__file__).resolve().parent.parent
DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8").replace("\\\n", " ")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text("utf-8"))
KUBERNETES: dict[str, dict[str, Any]] = {
    one["kind"]: one for one in yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text("utf-8"))
}
POD: dict[str, Any] = KUBERNETES["Deployment"]["spec"]["template"]["spec"]
CONTAINER: dict[str, Any] = POD["containers"][0]


def lines(instruction: str) -> list[str]:
    return re.findall(rf"^{instruction} (.*)$", DOCKERFILE, re.MULTILINE)


@pytest.mark.parametrize("source", ["deploy/settings.toml", "deploy/kubernetes.yaml"])
def test_the_settings_are_taken(tmp_path: Path, source: str) -> None:
    text = (ROOT / source).read_text("utf-8")
    if source.endswith(".yaml"):
        text = KUBERNETES["ConfigMap"]["data"]["settings.toml"]
    path = tmp_path / "settings.toml"
    path.write_text(text, "utf-8")
    settings = load_settings(path)
    check_bind(settings, "0.0.0.0")  # noqa: S104 - whether it may be served there is what is asked
    assert settings.clients
    assert not settings.development
    assert settings.cors.origins == ()
    given = tomllib.loads(text)["storage"]
    assert set(given) == {"url", "key_file", "password_file"}  # secrets are files


def test_the_image_holds_what_runs_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    copied = {source for line in lines("COPY") if "--from" not in line for source in line.split()[:-1]}
    assert copied == allowed
    for source in copied:
        assert (ROOT / source).exists(), source
    assert "--require-hashes" in DOCKERFILE
    assert lines("USER") == ["10001"]
    assert lines("HEALTHCHECK")
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert "pip" not in final


def test_the_command_of_the_image_exists() -> None:
    command = json.loads(lines("ENTRYPOINT")[0])
    serve = main.commands[command[1]]
    known = {spelling for parameter in serve.params for spelling in parameter.opts}
    assert {part for part in command if part.startswith("--")} <= known


@pytest.mark.parametrize("probe", ["startupProbe", "livenessProbe", "readinessProbe"])
def test_probes_ask_what_is_answered(probe: str) -> None:
    assert CONTAINER[probe]["httpGet"] == {
        "path": "/health/ready" if probe == "readinessProbe" else "/health/live", "port": "http",
    }  # fmt: skip


def test_there_is_time_to_stop() -> None:
    waits = CONTAINER["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert POD["terminationGracePeriodSeconds"] > waits + GRACE
    assert int(COMPOSE["services"]["service"]["stop_grace_period"].rstrip("s")) > GRACE


def test_no_secret_is_written_down() -> None:
    assert "Secret" not in KUBERNETES
    (secret,) = [volume["secret"] for volume in POD["volumes"] if "secret" in volume]
    assert secret["secretName"] == "cds-hooks"
    for one in COMPOSE["secrets"].values():
        assert set(one) == {"file"}
    everything = " ".join(path.read_text("utf-8") for path in sorted((ROOT / "deploy").glob("*.*")))
    assert not re.search(r"(?i)password\s*[:=]\s*[\"']?[a-z0-9]", everything)


def test_mounts_and_volumes_fit() -> None:
    assert {mount["name"] for mount in CONTAINER["volumeMounts"]} == {volume["name"] for volume in POD["volumes"]}
    service = COMPOSE["services"]["service"]
    assert set(service["secrets"]) <= set(COMPOSE["secrets"])
    paths = tomllib.loads((ROOT / "deploy/settings.toml").read_text("utf-8"))["storage"]
    assert {paths["key_file"], paths["password_file"]} == {f"/run/secrets/{name}" for name in service["secrets"]}
    mounted = {mount["mountPath"] for mount in CONTAINER["volumeMounts"]}
    given = tomllib.loads(KUBERNETES["ConfigMap"]["data"]["settings.toml"])["storage"]
    assert {str(Path(given[name]).parent) for name in ("key_file", "password_file")} <= mounted


def test_nothing_runs_as_root_or_writes_where_it_must_not() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert CONTAINER["securityContext"]["readOnlyRootFilesystem"] is True
    assert COMPOSE["services"]["service"]["read_only"] is True


def test_the_policy_is_for_the_pods_that_run() -> None:
    labels = KUBERNETES["Deployment"]["spec"]["template"]["metadata"]["labels"]
    for kind in ("NetworkPolicy", "Service", "PodDisruptionBudget"):
        spec = KUBERNETES[kind]["spec"]
        wanted = spec.get("podSelector") or spec["selector"]
        assert (wanted.get("matchLabels") or wanted) == labels
    assert KUBERNETES["NetworkPolicy"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


def test_the_commands_of_the_comments_name_files_that_exist() -> None:
    for path in sorted((ROOT / "deploy").glob("*.yaml")):
        for named in re.findall(r"deploy/[\w.]+\.(?:yaml|toml)", path.read_text("utf-8")):
            assert (ROOT / named).exists(), named
