"""`cds-hooks call`: the command as an EHR, against a FHIR server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from an_ehr import CPT, patient, spasm
from click.testing import CliRunner, Result

from cds_hooks.calling import hook_call
from cds_hooks.cli import main
from cds_hooks.errors import CdsHooksError
from cds_hooks.protocol.hooks import HOOKS
from cds_hooks.protocol.request import parse_request

CHART = [patient("seed"), spasm("seed")]


class Fhir(BaseHTTPRequestHandler):
    """Answers reads and searches by type from CHART; remembers the tokens."""

    tokens: set[str | None]

    def do_GET(self) -> None:
        type(self).tokens.add(self.headers.get("Authorization"))
        kind, _, identity = urlsplit(self.path).path.removeprefix("/fhir/").partition("/")
        hits = [resource for resource in CHART if resource["resourceType"] == kind]
        found: Any = {"resourceType": "Bundle", "type": "searchset", "total": len(hits),
                      "entry": [{"resource": resource} for resource in hits]}  # fmt: skip
        if identity:
            found = next((resource for resource in hits if resource["id"] == identity), None)
        body = json.dumps(found or {"resourceType": "OperationOutcome"}).encode()
        self.send_response(200 if found else 404)
        self.send_header("Content-Type", "application/fhir+json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def base() -> Iterator[str]:
    Fhir.tokens = set()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Fhir)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}/fhir"
    server.shutdown()
    server.server_close()


def called(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["call", *arguments])


def test_a_chart_is_opened(base: str) -> None:
    result = called("--fhir-server", base, "--patient", "seed")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("[info] ")
    assert result.output.count("create: ") == 2


def test_orders_are_picked(base: str, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("abc\n", "utf-8")
    result = called("--fhir-server", base, "--patient", "seed", "--order", f"{CPT}|70551", "--json",
                    "--token-file", str(secret))  # fmt: skip
    (card,) = json.loads(result.output)["cards"]
    assert card["source"]["topic"]["code"] == "imaging-standard-mri"
    assert Fhir.tokens == {"Bearer abc"}


def test_silence_is_said_and_explained(base: str) -> None:
    assert called("--fhir-server", base, "--patient", "seed", "--order", "Chest X-ray").output == "no card\n"
    told = called("--fhir-server", base, "--patient", "seed", "--order", "Chest X-ray", "--explain").output
    assert "imaging-standard-mri" in told
    assert "fetched" in told


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--hook", "patient-birth"], "--hook: one of"),
        (["--hook", "order-sign"], "needs one or more"),
        (["--hook", "patient-view", "--order", "x"], "has no orders"),
        (["--order", "|70551"], "SYSTEM|CODE"),
        (["--order", " "], "SYSTEM|CODE"),
        (["--plan", "teapots"], "does not serve"),
        (["--user", "somebody"], "userId"),
    ],
)
def test_what_cannot_be_asked(base: str, arguments: list[str], told: str) -> None:
    result = called("--fhir-server", base, "--patient", "seed", *arguments)
    assert result.exit_code == 1
    assert told in result.output
    assert Fhir.tokens == set()


def test_what_the_server_has_of_another_patient_does_not_count(base: str) -> None:
    result = called("--fhir-server", base, "--patient", "nobody")
    assert result.exit_code == 0
    assert result.output == "no card\n"


@pytest.mark.parametrize("server", ["http://ehr.example.org/fhir", "ftp://ehr.example.org", "ehr"])
def test_a_server_that_may_not_be_called(server: str) -> None:
    result = called("--fhir-server", server, "--patient", "seed")
    assert result.exit_code == 1
    assert "fhir" in result.output.lower()


@pytest.mark.parametrize("hook", sorted(HOOKS))
def test_every_hook_takes_the_body(hook: str) -> None:
    orders = () if hook == "patient-view" else ("a", f"{CPT}|70551")
    body = hook_call(hook, "http://127.0.0.1/fhir", "seed", encounter="e", token="t", orders=orders)
    request = parse_request(body, HOOKS[hook])
    assert (request.problems, len(request.drafts), request.token) == ((), len(orders), "t")


def test_a_hook_that_is_not_served() -> None:
    with pytest.raises(CdsHooksError):
        hook_call("medication-prescribe", "http://127.0.0.1/fhir", "seed")
