"""What `cds-hooks serve` refuses to start with, and what it starts. The server itself is not run here."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from made_up_clients import jwk, jwks

from cds_hooks.cli import main

CLIENT = """
public_url = "https://cds.example.org"
[[clients]]
name = "hospital-a"
issuer = "https://ehr.example.org"
jwks_file = "{keys}"
"""


class Started(Exception):
    """Instead of becoming the server."""


@pytest.fixture(autouse=True)
def not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PROMETHEUS_MULTIPROC_DIR", "CDS_CONFIG", "CDS_HOOKS_DATA", "CDS_ADDRESS"):
        monkeypatch.setenv(name, "")  # so that what serve sets is undone
        monkeypatch.delenv(name)

    def started(path: str, argv: list[str]) -> None:
        raise Started(argv)

    monkeypatch.setattr(os, "execv", started)


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    file = tmp_path / "jwks.json"
    file.write_text(json.dumps(jwks(jwk("ec", "k1"))))
    return file


def serve(folder: Path, settings: str, host: str = "127.0.0.1") -> Result:
    config = folder / "settings.toml"
    config.write_text(settings)
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    command = ["serve", "--host", host, "--port", str(port), "--config", str(config), "--data", str(folder / "data")]
    return CliRunner().invoke(main, command)


def refusal(result: Result) -> str:
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit)
    assert result.output.startswith("cds-hooks: ")
    assert result.output.count("\n") == 1
    return result.output


def test_strangers_are_kept_out(tmp_path: Path) -> None:
    assert "clients are not authenticated: list them" in refusal(serve(tmp_path, "", "0.0.0.0"))  # noqa: S104


def test_with_clients_any_address_may_be_served(tmp_path: Path, keys: Path) -> None:
    result = serve(tmp_path, CLIENT.format(keys=keys), "0.0.0.0")  # noqa: S104
    assert isinstance(result.exception, Started), result.output
    assert "--host=0.0.0.0" in result.exception.args[0]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (
            'services = ["hemifacial-spasm-order-sing"]',
            'no service "hemifacial-spasm-order-sing"; there are hemifacial',
        ),
        ('algorithms = ["RS384"]', "holds no public key for RS384"),
        ('[cors]\norigins = ["*"]', 'cors.origins holds "*"'),
    ],
)
def test_settings_that_would_fail_at_the_first_call_fail_at_start(
    tmp_path: Path, keys: Path, change: str, told: str
) -> None:
    assert told in refusal(serve(tmp_path, CLIENT.format(keys=keys) + change))


def test_keys_that_are_not_there(tmp_path: Path) -> None:
    assert "cannot be read" in refusal(serve(tmp_path, CLIENT.format(keys=tmp_path / "none.json")))
