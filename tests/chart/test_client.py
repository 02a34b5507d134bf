"""The FHIR client against servers that are slow, broken, sloppy or hostile. Each fault is a server on the loopback."""

from __future__ import annotations

import gzip
import json
import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import responses
from responses import matchers
from responses.registries import OrderedRegistry

from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList, BaseUrl, encoded

TOKEN = "secret-token"
SLACK = 0.3  # seconds that a call may last beyond its deadline


def bundle(*ids: str, **more: Any) -> dict[str, Any]:
    entries = [{"resource": {"resourceType": "Condition", "id": each}} for each in ids]
    return {"resourceType": "Bundle", "type": "searchset", "entry": entries, **more}


def leading(url: str) -> list[dict[str, str]]:
    return [{"relation": "self", "url": "x"}, {"relation": "next", "url": url}]


def ids(fetched: Any) -> list[str]:
    return [resource["id"] for resource in fetched.resources]


def soon(seconds: float = 5.0) -> float:
    return time.monotonic() + seconds


# --- A server that does what a test tells it ------------------------------------------------------------------------


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 3
    disable_nagle_algorithm = True  # else a kept connection waits 40 ms for each body
    server: Server

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers.items())))
        self.server.act(self)

    def log_message(self, *args: Any) -> None:
        pass

    def say(self, status: int, body: Any = b"", **headers: str) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(data)

    def drip(self, piece: bytes, every: float = 0.05) -> None:
        """Send one piece again and again until the client hangs up or the test ends, for two seconds at most."""
        self.close_connection = True
        for _ in range(int(2 / every)):
            if self.server.over.wait(every):
                break
            self.wfile.write(piece)
            self.wfile.flush()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, act: Callable[[Handler], None]) -> None:
        self.act = act
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.over = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server_address[1]}"
        self.base = self.origin + "/fhir"

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass  # the client may hang up on a fault

    @property
    def paths(self) -> list[str]:
        return [path for path, _ in self.seen]


@pytest.fixture
def client() -> Iterator[FhirClient]:
    made = FhirClient(AllowList())
    yield made
    made.close()


@pytest.fixture
def serve(client: FhirClient) -> Iterator[Callable[[Callable[[Handler], None]], Server]]:
    servers: list[Server] = []

    def start(act: Callable[[Handler], None]) -> Server:
        server = Server(act)
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        servers.append(server)
        return server

    yield start
    client.close()
    for server in servers:
        server.over.set()
        server.shutdown()
        server.server_close()


def answering(body: Any, status: int = 200, **headers: str) -> Callable[[Handler], None]:
    return lambda handler: handler.say(status, body, **headers)


# --- What is sent ---------------------------------------------------------------------------------------------------


def test_request_headers(client, serve):
    server = serve(answering(bundle("a")))
    got = client.search(server.base + "/", "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (ids(got), got.complete, got.problem) == (["a"], True, None)
    path, headers = server.seen[0]
    assert path == "/fhir/Condition?patient=1"
    assert headers["Authorization"] == f"Bearer {TOKEN}"
    assert headers["Accept"] == "application/fhir+json"


def test_no_token_given_none_sent_and_netrc_and_proxies_ignored(client, serve, monkeypatch, tmp_path: Path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login someone password something\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    server = serve(answering(bundle()))
    assert client.search(server.base, "Condition?patient=1", None, soon(), resource_type="Condition").complete
    assert "Authorization" not in server.seen[0][1]


@pytest.mark.parametrize("token", ["a\r\nX-Probe: 1", "a\nb", "pr\u00f8be-\u2713", "a\x00b", "", "a b"])
def test_a_token_that_is_none_is_never_sent(client, serve, token):
    server = serve(answering(bundle()))
    got = client.search(server.base, "Condition?patient=1", token, soon(), resource_type="Condition")
    assert (got.complete, got.problem, server.seen) == (False, "bad token", [])


def test_cookies_are_not_kept(client, serve):
    server = serve(answering(bundle(), Set_Cookie="a=b; Path=/"))
    for _ in range(2):
        client.search(server.base, "Condition?patient=1", None, soon(), resource_type="Condition")
    assert len(server.seen) == 2
    assert all("Cookie" not in headers for _, headers in server.seen)


def test_connections_are_used_again(client, serve):
    peers = set()

    def act(handler: Handler) -> None:
        peers.add(handler.client_address)
        handler.say(200, bundle())

    server = serve(act)
    for _ in range(3):
        client.search(server.base, "Condition?patient=1", None, soon(), resource_type="Condition")
    assert len(peers) == 1


@pytest.mark.parametrize(
    ("query", "sent"),
    [
        ("patient=1&code=http://loinc.org|1234-5", "patient=1&code=http://loinc.org%7C1234-5"),
        ("patient=1&code=http%3A%2F%2Floinc.org%7C1", "patient=1&code=http%3A%2F%2Floinc.org%7C1"),
        ("a=b c&d=100%&e=%zz", "a=b%20c&d=100%25&e=%25zz"),
        ("a=\u00f6#x[1]\\\r\n", "a=%C3%B6%23x%5B1%5D%5C%0D%0A"),
        ("a=\ud800", "a=%3F"),
        ("_lastUpdated=ge2020-01-01T00:00:00Z,x+y", "_lastUpdated=ge2020-01-01T00:00:00Z,x+y"),
    ],
)
def test_encoding_reaches_the_server_once(client, serve, query, sent):
    assert encoded(query) == sent
    assert encoded(sent) == sent
    server = serve(answering(bundle()))
    client.search(server.base, f"Condition?{query}", None, soon(), resource_type="Condition")
    assert server.paths == [f"/fhir/Condition?{sent}"]


@pytest.mark.parametrize(
    "query",
    ["../evil?patient=1", "a/../../x", "Condition/%2e%2e/%2e%2e/x", "Cond ition", "http://example.org/x", "", "a\\b"],
)
def test_a_query_cannot_leave_the_base(client, serve, query):
    server = serve(answering(bundle()))
    got = client.search(server.base, query, TOKEN, soon(), resource_type="Condition")
    assert (got.problem, server.seen) == ("bad query", [])


def test_debug_logging_does_not_write_urls(client, serve, caplog):
    caplog.set_level(logging.DEBUG)

    def act(handler: Handler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nnot a header\r\nContent-Length: 2\r\n\r\n{}")
        handler.close_connection = True

    client.search(serve(act).base, "Condition?patient=very-private", TOKEN, soon(), resource_type="Condition")
    assert "very-private" not in caplog.text


# --- Which servers --------------------------------------------------------------------------------------------------

PLAIN = "not a plain http or https base URL"
HTTP = "plain http to another machine"
UNLISTED = "not on the list of FHIR servers"
ELSEWHERE = "not an address of this machine"
PRIVATE = "an address that is not public, and not on the list of FHIR servers"


@pytest.mark.parametrize(
    ("base", "refusal"),
    [
        ("http://127.0.0.1:8080/fhir", None),
        ("http://127.9.9.9/fhir/", None),
        ("HTTP://LOCALHOST:1/x", None),
        ("https://localhost", None),
        ("http://[::1]:8080/fhir", None),
        ("http://[0:0::0:1]/fhir", None),
        ("https://ehr.example.org/fhir", ELSEWHERE),
        ("https://localhost.example.org/fhir", ELSEWHERE),
        ("http://ehr.example.org/fhir", HTTP),
        ("http://169.254.169.254/latest", HTTP),
        ("https://169.254.169.254/latest", PRIVATE),
        ("https://10.0.0.1/fhir", PRIVATE),
        ("https://[fe80::1]/fhir", PRIVATE),
        ("https://0.0.0.0/fhir", PRIVATE),
        ("http://[::ffff:127.0.0.1]/fhir", PLAIN),
        ("http://[fe80::1%25eth0]/fhir", PLAIN),
        ("http://localhost./fhir", PLAIN),
        ("http://2130706433/fhir", PLAIN),
        ("http://0x7f.1/fhir", PLAIN),
        ("http://127.1/fhir", PLAIN),
        ("http://127.0.0.01/fhir", PLAIN),
        ("http://user:secret@127.0.0.1/fhir", PLAIN),
        ("http://127.0.0.1@example.org/fhir", PLAIN),
        ("http://127.0.0.1\\@example.org/fhir", PLAIN),
        ("http://127.0.0.1/fhir\\..", PLAIN),
        ("http://127.0.0.1/f\r\nX-Probe: 1", PLAIN),
        ("http://127.0.0.1/fhir\n", PLAIN),
        (" http://127.0.0.1/fhir", PLAIN),
        ("http://127.0.0.1/a b", PLAIN),
        ("http://127.0.0.1/fhir?x=1", PLAIN),
        ("http://127.0.0.1/fhir?", PLAIN),
        ("http://127.0.0.1/fhir#x", PLAIN),
        ("http://127.0.0.1//example.org", PLAIN),
        ("http://127.0.0.1/fhir/../x", PLAIN),
        ("http://127.0.0.1/fhir/%2E%2e/x", PLAIN),
        ("http://127.0.0.1/fhir/..;a/x", PLAIN),
        ("http://127.0.0.1:99999/fhir", PLAIN),
        ("http://127.0.0.1:0/fhir", PLAIN),
        ("http://127.0.0.1:/fhir", PLAIN),
        ("http://127.0.0.1:\u0661/fhir", PLAIN),
        ("http://loc\u212alhost/fhir", PLAIN),
        ("http://[::1", PLAIN),
        ("http://", PLAIN),
        ("http:///fhir", PLAIN),
        ("//127.0.0.1/fhir", PLAIN),
        ("127.0.0.1/fhir", PLAIN),
        ("file:///etc/passwd", PLAIN),
        ("ftp://127.0.0.1/fhir", PLAIN),
        ("javascript:alert(1)", PLAIN),
        ("", PLAIN),
        ("http://127.0.0.1/" + "a" * 9000, PLAIN),
    ],
)
def test_an_empty_list_means_this_machine(base, refusal):
    assert AllowList().refusal(base) == refusal


LISTED = AllowList(
    [
        "https://EHR.example.org/fhir/",
        "https://ehr.example.org:8443/r4",
        "http://ehr.example.org/plain",
        "https://10.0.0.1/fhir",
        "https://[2001:DB8::1]/fhir",
        "http://localhost:8080/fhir",
        "https://root.example.org",
    ]
)


@pytest.mark.parametrize(
    ("base", "refusal"),
    [
        ("https://ehr.example.org/fhir", None),
        ("https://ehr.example.org:443/fhir/", None),
        ("https://Ehr.Example.ORG/fhir/tenant", None),
        ("https://ehr.example.org:8443/r4", None),
        ("https://10.0.0.1/fhir", None),
        ("https://[2001:db8:0::1]/fhir", None),
        ("http://localhost:8080/fhir", None),
        ("https://root.example.org/anything", None),
        ("https://ehr.example.org/fhir-evil", UNLISTED),
        ("https://ehr.example.org/FHIR", UNLISTED),
        ("https://ehr.example.org/", UNLISTED),
        ("https://ehr.example.org:8444/r4", UNLISTED),
        ("https://ehr.example.org/r4", UNLISTED),
        ("https://ehr.example.org.evil.example/fhir", UNLISTED),
        ("https://evil.ehr.example.org/fhir", UNLISTED),
        ("https://ehr.example.org./fhir", PLAIN),
        ("https://ehr.example.org/fhir/../x", PLAIN),
        ("http://ehr.example.org/plain", HTTP),
        ("http://ehr.example.org/fhir", HTTP),
        ("https://10.0.0.2/fhir", PRIVATE),
        ("https://169.254.169.254/", PRIVATE),
        ("https://8.8.8.8/fhir", UNLISTED),
        ("http://localhost:8081/fhir", UNLISTED),
        ("http://127.0.0.1:8080/fhir", PRIVATE),
    ],
)
def test_a_list_is_matched_exactly(base, refusal):
    assert LISTED.refusal(base) == refusal


def test_a_broken_list_is_refused_at_once():
    with pytest.raises(ValueError, match="not a plain"):
        AllowList(["ehr.example.org/fhir"])


def test_refused_servers_are_not_called():
    client = FhirClient(AllowList(["https://ehr.example.org/fhir"]))
    with responses.RequestsMock():
        base = "https://other.example.org/fhir"
        assert client.refusal(base) == UNLISTED
        found = client.search(base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
        read = client.read(base, "Patient/1", TOKEN, soon())
        followed = client.follow(base, base + "?p", TOKEN, soon(), resource_type="Condition", pages_left=1)
    assert {found.problem, read.problem, followed.problem} == {"not allowed"}
    client.close()


def test_a_client_with_servers_of_its_own_goes_nowhere_else():
    client = FhirClient(AllowList())
    own = client.only(("https://own.example.org/fhir",))
    nothing = client.only(())
    here, there = "http://127.0.0.1:1/fhir", "https://own.example.org/fhir"
    assert (client.refusal(here), client.refusal(there)) == (None, ELSEWHERE)
    assert (own.refusal(here), own.refusal(there)) == (PRIVATE, None)
    assert (nothing.refusal(here), nothing.refusal(there)) == (PRIVATE, UNLISTED)
    with responses.RequestsMock():
        assert own.read(here, "Patient/1", TOKEN, soon()).problem == "not allowed"
        assert nothing.read(there, "Patient/1", TOKEN, soon()).problem == "not allowed"
    client.close()


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ("Condition?a=b|c", "https://e.org/fhir/Condition?a=b%7Cc"),
        ("?_getpages=1", "https://e.org/fhir/?_getpages=1"),
        ("https://e.org/fhir?_getpages=1", "https://e.org/fhir?_getpages=1"),
        ("HTTPS://E.org:443/fhir/Condition?p=2", "https://e.org/fhir/Condition?p=2"),
        ("//e.org/fhir/Condition", "https://e.org/fhir/Condition"),
        ("/fhir/Condition?x", "https://e.org/fhir/Condition?x"),
        ("https://e.org/fhir//Condition", "https://e.org/fhir//Condition"),
        ("/Condition?x", None),
        ("../x", None),
        ("https://e.org/fhir/../x", None),
        ("https://e.org/fhir-evil/Condition", None),
        ("http://e.org/fhir/Condition", None),
        ("https://e.org:444/fhir/Condition", None),
        ("//evil.org/fhir", None),
        ("https://e.org@evil.org/fhir", None),
        ("https://evil.org\\@e.org/fhir", None),
        ("\\\\evil.org/fhir", None),
        ("https://[::1", None),
        ("\thttps://evil.org", None),
        ("javascript:x", None),
        ("", None),
    ],
)
def test_links_are_resolved_below_the_base(link, url):
    base = BaseUrl.parse("https://e.org/fhir/")
    assert base is not None
    assert base.resolve(link) == url


# --- Paging ---------------------------------------------------------------------------------------------------------


def pages(server: Callable[[], Server], *links: str) -> Callable[[Handler], None]:
    """Page n has entry n and the n-th link as next; `{base}` in a link stands for the server's base URL."""

    def act(handler: Handler) -> None:
        number = len(server().seen)
        more = {"link": leading(links[number - 1].format(base=server().base))} if number <= len(links) else {}
        handler.say(200, bundle(str(number), **more))

    return act


def paged(serve, *links: str) -> Server:
    made: list[Server] = []
    made.append(serve(pages(lambda: made[0], *links)))
    return made[0]


def test_next_links_are_followed_with_the_token(client, serve):
    server = paged(serve, "{base}/Condition?page=2", "Condition?page=3", "?_getpages=4", "{base}?_getpages=5")
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (ids(got), got.complete, got.problem) == (["1", "2", "3", "4", "5"], True, None)
    assert server.paths[1:] == [
        "/fhir/Condition?page=2",
        "/fhir/Condition?page=3",
        "/fhir/?_getpages=4",
        "/fhir?_getpages=5",
    ]
    assert all(headers["Authorization"] == f"Bearer {TOKEN}" for _, headers in server.seen)


def test_foreign_next_links_are_never_called(client, serve):
    trap = serve(answering(bundle("trap")))
    host = trap.origin.removeprefix("http://")
    for link in (
        f"{trap.origin}/fhir/Condition",
        f"//{host}/fhir",
        "{base}@" + host,
        f"http://{host}\\@x/fhir",
        "../x",
    ):
        server = paged(serve, link)
        got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
        assert (ids(got), got.complete, got.problem) == (["1"], False, "foreign next link")
        followed = client.follow(
            server.base, link.format(base=server.base), TOKEN, soon(), resource_type="Condition", pages_left=5
        )
        assert (followed.resources, followed.problem) == ((), "foreign next link")
        assert len(server.seen) == 1
    assert trap.seen == []


def test_a_loop_ends(client, serve):
    server = paged(serve, "{base}/Condition?page=2", "{base}/Condition?patient=1")
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (ids(got), got.complete, got.problem) == (["1", "2"], False, "page loop")


def test_the_number_of_pages_is_limited(client, serve):
    server = paged(serve, *(f"Condition?page={n}" for n in range(2, 20)))
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (len(got.resources), got.complete, got.problem, len(server.seen)) == (5, False, "page limit", 5)
    rest = client.follow(server.base, "Condition?page=6", TOKEN, soon(), resource_type="Condition", pages_left=2)
    assert (ids(rest), rest.problem) == (["6", "7"], "page limit")
    none = client.follow(server.base, "Condition?page=8", TOKEN, soon(), resource_type="Condition", pages_left=0)
    assert (none.resources, none.complete, none.problem, len(server.seen)) == ((), False, "page limit", 7)


def test_follow_takes_the_rest(client, serve):
    server = serve(answering(bundle("b", total=9)))
    got = client.follow(
        server.base, server.base + "?_getpages=x|y", TOKEN, soon(), resource_type="Condition", pages_left=5
    )
    assert (ids(got), got.complete, got.problem) == (["b"], True, None)
    assert server.paths == ["/fhir?_getpages=x%7Cy"]


def test_what_came_before_a_failing_page_is_kept(client, serve):
    def act(handler: Handler) -> None:
        last = "page=2" in handler.path
        handler.say(*((500, b"") if last else (200, bundle("a", link=leading("Condition?page=2&x=y")))))

    got = client.search(serve(act).base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (ids(got), got.complete, got.problem) == (["a"], False, "status 500")


@pytest.mark.parametrize(
    ("total", "problem"), [(3, "truncated"), (2, None), (1, None), ("3", None), (True, None), (None, None), (3.0, None)]
)
def test_total(client, serve, total, problem):
    server = serve(answering(bundle("a", "b", total=total)))
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (len(got.resources), got.complete, got.problem) == (2, problem is None, problem)


# --- What is in a Bundle --------------------------------------------------------------------------------------------


def test_entries_are_read_tolerantly(client, serve):
    wanted = {"resourceType": "Condition", "id": "a"}
    entries = [
        None,
        7,
        {},
        {"resource": None},
        {"resource": {"resourceType": "Patient"}},
        {"resource": {**wanted, "id": "included"}, "search": {"mode": "include"}},
        {"resource": {"resourceType": "OperationOutcome"}, "search": {"mode": "outcome"}},
        {"resource": wanted, "search": {"mode": "match"}},
        {"resource": wanted, "search": {"mode": ["x"]}},
        {"resource": wanted, "search": "x"},
    ]
    server = serve(
        answering({"resourceType": "Bundle", "entry": entries, "link": [None, {"relation": 1}], "total": 8})
    )
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (ids(got), got.complete, got.problem) == (["a", "a", "a"], False, "damaged entry")


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ({"resourceType": "Bundle"}, None),
        ({"resourceType": "Bundle", "entry": None, "link": "x"}, None),
        ({"resourceType": "Bundle", "entry": {"resource": {}}}, "damaged entry"),
        ({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "Basic"}}]}, "damaged entry"),
        ({"resourceType": "Bundle", "entry": [{"resource": {"resourceType": "OperationOutcome", "issue": [
            {"severity": "error"}]}, "search": {"mode": "outcome"}}]}, "error in the answer"),
        ({"resourceType": "Bundle", "total": 1, "entry": [{"search": {"mode": "include"}}]}, "truncated"),
        ({"resourceType": "Bundle", "link": {"relation": "next"}}, "foreign next link"),
        ({"resourceType": "Bundle", "link": [{"relation": "next"}]}, "foreign next link"),
        ({"resourceType": "OperationOutcome"}, "unexpected type"),
        ({"resourceType": ["Bundle"]}, "unexpected type"),
        ([1, None, "x"], "unexpected type"),
        (None, "unexpected type"),
        (b"", "not JSON"),
        (b"<html>log in</html>", "not JSON"),
        (b'{"resourceType": "Bundle", "entry": [', "not JSON"),
        (b'{"resourceType": "Bundle", "total": NaN}', "not JSON"),
        (b'{"resourceType": "Bundle", "id": "\xff"}', "not JSON"),
        (b'{"resourceType": "Bundle", "entry": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", "not JSON"),
    ],
)
def test_other_bodies(client, serve, body, problem):
    server = serve(answering(body))
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (got.resources, got.complete, got.problem) == ((), problem is None, problem)


# --- Single resources -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (200, {"resourceType": "Patient", "id": "1"}, (1, True, None)),
        (404, {"resourceType": "OperationOutcome"}, (0, True, None)),
        (410, b"", (0, True, None)),
        (401, b"", (0, False, "status 401")),
        (200, {"resourceType": "Basic"}, (0, False, "unexpected type")),
        (200, [], (0, False, "unexpected type")),
        (204, b"", (0, False, "status 204")),
    ],
)
def test_read(client, serve, status, body, expected):
    server = serve(answering(body, status))
    got = client.read(server.base, "Patient/1|\u00e9", TOKEN, soon())
    assert (len(got.resources), got.complete, got.problem) == expected
    assert server.paths == ["/fhir/Patient/1%7C%C3%A9"]


@pytest.mark.parametrize(
    "reference", ["Patient/..", "Patient/1?x=y", "Patient/1/../2", "Patient", "", "Patient/a%2Fb", "#1"]
)
def test_a_reference_cannot_name_anything_else(client, serve, reference):
    server = serve(answering({"resourceType": "Patient"}))
    got = client.read(server.base, reference, TOKEN, soon())
    assert (got.complete, got.problem, server.seen) == (False, "bad query", [])


# --- Second chances -------------------------------------------------------------------------------------------------

BASE = "http://localhost/fhir"


def search(client: FhirClient, query: str = "Condition?patient=1", seconds: float = 5.0) -> Any:
    return client.search(BASE, query, TOKEN, soon(seconds), resource_type="Condition")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_passing_failure_is_tried_again(client, status):
    with responses.RequestsMock(registry=OrderedRegistry) as server:
        server.get(f"{BASE}/Condition", status=status)
        server.get(f"{BASE}/Condition", status=status, headers={"Retry-After": "3600"})
        server.get(f"{BASE}/Condition", json=bundle("a"))
        got = search(client)
    assert (ids(got), got.complete, got.problem) == (["a"], True, None)


@pytest.mark.parametrize(("status", "calls"), [(503, 3), (500, 1), (403, 1), (404, 1)])
def test_attempts_are_counted(client, status, calls):
    with responses.RequestsMock() as server:
        stub = server.get(f"{BASE}/Condition", status=status)
        assert search(client).problem == f"status {status}"
    assert stub.call_count == calls


@pytest.mark.parametrize(
    ("retry_after", "shortest", "longest"),
    [("1", 1.0, 1.4), ("2", 0.0, 0.5), ("Fri, 31 Dec 2027 23:59:59 GMT", 0.0, 0.5)],
)
def test_retry_after_is_heeded_within_the_deadline(client, retry_after, shortest, longest):
    with responses.RequestsMock(registry=OrderedRegistry) as server:
        server.get(f"{BASE}/Condition", status=503, headers={"Retry-After": retry_after})
        server.get(f"{BASE}/Condition", json=bundle("a"))
        began = time.monotonic()
        assert search(client, seconds=1.5).complete
    assert shortest <= time.monotonic() - began <= longest


def test_no_attempt_after_the_deadline(client):
    with responses.RequestsMock() as server:
        stub = server.get(f"{BASE}/Condition", status=503)
        assert search(client, seconds=0.03).problem == "status 503"
        assert search(client, seconds=-1).problem == "timeout"
    assert stub.call_count == 1


def test_a_refused_query_is_asked_again_with_fewer_parameters(client):
    with responses.RequestsMock(registry=OrderedRegistry) as server:
        server.get(f"{BASE}/Condition", status=400)
        server.get(f"{BASE}/Condition", json=bundle("a"), match=[matchers.query_param_matcher({"patient": "1"})])
        got = search(client, "Condition?patient=1&code:in=x&_count=200")
    assert (ids(got), got.complete, got.problem) == (["a"], True, None)


def test_fewer_parameters_still_name_the_patient(client):
    with responses.RequestsMock(registry=OrderedRegistry) as server:
        server.get(f"{BASE}/Condition", status=400)
        server.get(f"{BASE}/Condition", status=400, match=[matchers.query_param_matcher({"subject:Patient": "1"})])
        got = search(client, "Condition?category=x&subject:Patient=1")
    assert (got.resources, got.complete, got.problem) == ((), False, "status 400")


@pytest.mark.parametrize("query", ["Condition?patient=1", "Condition"])
def test_a_query_that_cannot_be_simpler_is_not_repeated(client, query):
    with responses.RequestsMock() as server:
        stub = server.get(f"{BASE}/Condition", status=400)
        assert search(client, query).problem == "status 400"
    assert stub.call_count == 1


# --- Faults ---------------------------------------------------------------------------------------------------------


def hang(handler: Handler) -> None:
    handler.server.over.wait(3)
    handler.close_connection = True


def slow_headers(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
    handler.drip(b"x")


def slow_status(handler: Handler) -> None:
    handler.drip(b"HTTP/1.1 100 Continue\r\n\r\n")


def slow_body(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n")
    handler.drip(b" ")


def slow_chunks(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    handler.drip(b"1\r\n \r\n")


def slow_chunk_size(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    handler.drip(b"0")


def slow_gzip(handler: Handler) -> None:
    """Compressed data that never amount to a byte of content: empty stored blocks."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5000\r\n\r\n")
    handler.wfile.write(gzip.compress(b"")[:10])
    handler.drip(b"\x00\x00\x00\xff\xff")


@pytest.mark.parametrize("fault", [hang, slow_headers, slow_status, slow_body, slow_chunks, slow_chunk_size, slow_gzip])
def test_nothing_holds_a_call_beyond_its_deadline(client, serve, fault):
    server = serve(fault)
    began = time.monotonic()
    got = client.search(server.base, "Condition?patient=1", TOKEN, began + 0.4, resource_type="Condition")
    assert (got.resources, got.complete, got.problem) == ((), False, "timeout")
    assert 0.3 < time.monotonic() - began < 0.4 + SLACK
    assert len(server.seen) == 1


def test_a_server_that_accepts_nothing_is_a_timeout(client):
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        began = time.monotonic()
        base = f"http://127.0.0.1:{full.getsockname()[1]}/fhir"
        got = client.search(base, "Condition?patient=1", TOKEN, began + 0.4, resource_type="Condition")
        for each in waiting:
            each.close()
    assert got.problem == "timeout"
    assert time.monotonic() - began < 0.4 + SLACK


def test_nothing_listens(client):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        base = f"http://127.0.0.1:{unused.getsockname()[1]}/fhir"
    got = client.search(base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (got.complete, got.problem) == (False, "unreachable")


def hang_up(handler: Handler) -> None:
    handler.close_connection = True


def reset(handler: Handler) -> None:
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.close_connection = True


@pytest.mark.parametrize("fault", [hang_up, reset])
def test_a_connection_that_ends_early_is_tried_again(client, serve, fault):
    def once(handler: Handler) -> None:
        fault(handler) if len(handler.server.seen) == 1 else handler.say(200, bundle("a"))

    server = serve(once)
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (ids(got), got.problem, len(server.seen)) == (["a"], None, 2)
    server = serve(fault)
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (got.complete, got.problem, len(server.seen)) == (False, "broken off", 3)


def short(handler: Handler) -> None:
    body = json.dumps(bundle("a")).encode()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body) + 100, body))
    handler.close_connection = True


def short_chunks(handler: Handler) -> None:
    body = json.dumps(bundle("a")).encode()
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(body), body))
    handler.close_connection = True


def garbage(handler: Handler) -> None:
    handler.wfile.write(b"SSH-2.0-x\r\n")
    handler.close_connection = True


def bad_gzip(handler: Handler) -> None:
    handler.say(200, b"{}", Content_Encoding="gzip")


def two_lengths(handler: Handler) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}")
    handler.close_connection = True


@pytest.mark.parametrize("fault", [short, short_chunks, garbage, bad_gzip, two_lengths])
def test_a_broken_answer_is_not_read_as_a_whole_one(client, serve, fault):
    server = serve(fault)
    got = client.search(server.base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (got.resources, got.complete, got.problem, len(server.seen)) == ((), False, "broken off", 1)


def test_plain_http_behind_https_is_a_tls_error(client, serve):
    base = serve(answering(bundle())).base.replace("http:", "https:")
    got = client.search(base, "Condition?patient=1", TOKEN, soon(1), resource_type="Condition")
    assert (got.complete, got.problem) == (False, "TLS error")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed_nor_read(client, serve, status):
    trap = serve(answering(bundle("trap")))

    def away(handler: Handler) -> None:
        handler.send_response(status)
        handler.send_header("Location", f"{trap.base}/Condition\xff")
        handler.end_headers()
        handler.drip(b"x" * 1000)

    began = time.monotonic()
    got = client.search(serve(away).base, "Condition?patient=1", TOKEN, began + 1, resource_type="Condition")
    assert (got.complete, got.problem, trap.seen) == (False, "redirect", [])
    assert time.monotonic() - began < 0.5


def test_size_is_limited_after_decompression(serve):
    bomb = gzip.compress(b" " * 50_000_000, 9)
    big = b" " * 200_000
    client = FhirClient(AllowList(), max_bytes=100_000)
    try:
        for act in (answering(bomb, Content_Encoding="gzip"), answering(big), answering(bundle("a"))):
            got = client.search(serve(act).base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
            assert got.problem == (None if got.resources else "too large")
        assert got.complete
    finally:
        client.close()


@pytest.mark.parametrize("encoding", ["identity", "gzip", "chunked"])
def test_large_answers_arrive_whole(client, serve, encoding):
    body = json.dumps(bundle(*(str(n) for n in range(5_000)), total=5_000)).encode()

    def act(handler: Handler) -> None:
        if encoding == "chunked":
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(body), 7_001):
                piece = body[start : start + 7_001]
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            handler.wfile.write(b"0\r\n\r\n")
        elif encoding == "gzip":
            handler.say(200, gzip.compress(body), Content_Encoding="gzip")
        else:
            handler.say(200, body)

    got = client.search(serve(act).base, "Condition?patient=1", TOKEN, soon(), resource_type="Condition")
    assert (len(got.resources), got.complete, got.problem) == (5_000, True, None)


def test_many_threads_share_one_client(client, serve):
    server = serve(lambda handler: handler.say(200, bundle(handler.path.rpartition("=")[2])))

    def one(number: int) -> list[str]:
        query = f"Condition?patient={number}"
        return ids(client.search(server.base, query, TOKEN, soon(), resource_type="Condition"))

    with ThreadPoolExecutor(16) as pool:
        assert list(pool.map(one, range(200))) == [[str(number)] for number in range(200)]
