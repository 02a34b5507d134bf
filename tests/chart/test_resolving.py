"""Names may lead only where they may lead: the address that is connected to is the one that was checked."""

import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from made_up_certificate import write_certificate

from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList
from cds_hooks.chart.resolving import Resolver, Unreachable
from cds_hooks.chart.transport import Transport

NAME = "ehr.example.org"


def leading_to(*addresses: str) -> Any:
    """A resolver of the system that knows one name."""

    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        assert host == NAME
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    return resolve


PUBLIC = ["93.184.216.34", "2606:2800:220:1::1"]
NOT_PUBLIC = [
    *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.0.0.1", "172.16.0.1", "192.168.1.1"),  # noqa: S104
    *("169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd00:ec2::254", "fec0::1", "ff02::1", "2001:db8::1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1", "64:ff9b::10.0.0.1", "2002:7f00:1::1"),
]


@pytest.mark.parametrize("address", PUBLIC)
def test_a_public_address(address: str) -> None:
    assert Resolver((), leading_to(address)).addresses(NAME, 443) == [address]


@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_no_name_leads_into_our_own_networks(address: str) -> None:
    with pytest.raises(Unreachable):
        Resolver((), leading_to(address)).addresses(NAME, 443)


def test_of_several_addresses_those_that_may_be_reached() -> None:
    resolver = Resolver((), leading_to("10.0.0.1", *PUBLIC, "127.0.0.1", PUBLIC[0]))
    assert resolver.addresses(NAME, 443) == PUBLIC


def test_networks_that_were_let_in() -> None:
    resolver = Resolver(("10.1.0.0/16", "fd00::/8"), leading_to("10.1.2.3", "10.2.0.1", "fd00::5", "::ffff:10.1.9.9"))
    assert resolver.addresses(NAME, 443) == ["10.1.2.3", "fd00::5", "::ffff:a01:909"]
    with pytest.raises(ValueError, match="host bits"):
        Resolver(("10.0.0.1/8",))


@pytest.mark.parametrize("address", [*PUBLIC, *NOT_PUBLIC])
def test_all_networks_may_be_let_in(address: str) -> None:
    assert len(Resolver(("0.0.0.0/0", "::/0"), leading_to(address)).addresses(NAME, 443)) == 1


@pytest.mark.parametrize("host", ["10.0.0.1", "127.0.0.1", "[::1]", "::1", "169.254.169.254"])
def test_an_address_on_the_list_is_meant(host: str) -> None:
    assert Resolver((), leading_to()).addresses(host, 443) == [host.strip("[]")]


def test_localhost_is_this_machine() -> None:
    def resolve(host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        return [(2, 1, 6, "", (address, port)) for address in ("93.184.216.34", "127.0.0.1")]

    assert Resolver((), resolve).addresses("localhost", 80) == ["127.0.0.1"]


def test_a_name_that_does_not_exist() -> None:
    def resolve(*_: Any, **__: Any) -> list[Any]:
        raise socket.gaierror(-2, "unknown")

    client = FhirClient(AllowList([f"https://{NAME}/fhir"]), resolver=Resolver((), resolve))
    got = client.read(f"https://{NAME}/fhir", "Patient/1", None, time.monotonic() + 5)
    assert (got.complete, got.problem) == (False, "unreachable")


# --- Where connections are made -------------------------------------------------------------------------------------


class Listener:
    """Counts the connections to a port of this machine; speaks TLS with a certificate that nobody trusts."""

    def __init__(self, folder: Path) -> None:
        self.names: list[str | None] = []
        self.connections = 0
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(write_certificate(folder, NAME))
        context.sni_callback = lambda _, name, __: self.names.append(name)
        #: The certificate, for who wants to trust it.
        self.certificate = folder / "server.pem"
        self._context = context
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            connection.settimeout(2)
            try:
                with self._context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(10_000)
                    secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
            except OSError:
                connection.close()

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(5)


@pytest.fixture
def listener(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path)
    yield made
    made.close()


def fetched(port: int, resolver: Resolver) -> tuple[str | None, float]:
    """What became of a read from the listed name, and the seconds it took."""
    base = f"https://{NAME}:{port}/fhir"
    client = FhirClient(AllowList([base]), resolver=resolver, attempts=1)
    began = time.monotonic()
    got = client.read(base, "Patient/1", "secret-token", began + 1)
    client.close()
    assert not got.resources
    return got.problem, time.monotonic() - began


def test_a_listed_name_that_leads_to_this_machine_is_not_connected_to(listener: Listener) -> None:
    assert fetched(listener.port, Resolver((), leading_to("127.0.0.1")))[0] == "private address"
    assert fetched(listener.port, Resolver(("10.0.0.0/8",), leading_to("127.0.0.1")))[0] == "private address"
    assert listener.connections == 0


def test_what_is_connected_to_still_has_to_prove_the_name(listener: Listener) -> None:
    assert fetched(listener.port, Resolver(("127.0.0.0/8",), leading_to("127.0.0.1")))[0] == "TLS error"
    assert (listener.connections, listener.names) == (1, [NAME])


def test_authorities_of_ones_own(listener: Listener) -> None:
    resolver = Resolver(("127.0.0.0/8",), leading_to("127.0.0.1"))

    def fetched_from(name: str) -> str | None:
        transport = Transport(
            max_bytes=1000, attempts=1, pool=1, clock=time.monotonic, resolver=resolver, ca_file=listener.certificate
        )
        answer = transport.get(f"https://{name}:{listener.port}/x", None, time.monotonic() + 2)
        transport.close()
        assert answer.problem or answer.document == {}
        return answer.problem

    assert fetched_from(NAME) is None
    assert fetched_from("127.0.0.1") == "TLS error"  # the certificate is for the name


def test_an_answer_is_looked_up_once_for_each_connection(listener: Listener) -> None:
    """A name that leads elsewhere at the second look is not looked up a second time."""
    answers = iter([leading_to("10.1.1.1"), leading_to("127.0.0.1")])

    def resolve(*given: Any, **named: Any) -> Any:
        return next(answers)(*given, **named)

    problem, took = fetched(listener.port, Resolver(("10.1.1.1/32",), resolve))
    assert problem in ("timeout", "unreachable")
    assert took < 3.0
    assert listener.connections == 0
    assert next(answers)


def test_the_next_address_is_tried_within_the_same_time(listener: Listener) -> None:
    with socket.create_server(("127.0.0.2", 0), backlog=0) as deaf:
        deaf.listen(0)
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(deaf.getsockname())
        port = deaf.getsockname()[1]
        resolver = Resolver(("127.0.0.0/8",), leading_to("127.0.0.2", "127.0.0.2", "127.0.0.2"))
        problem, took = fetched(port, resolver)
        for each in waiting:
            each.close()
    assert problem == "timeout"
    assert took < 2.5
    resolver = Resolver(("127.0.0.0/8",), leading_to("127.0.0.3", "127.0.0.1"))  # the first refuses
    assert fetched(listener.port, resolver)[0] == "TLS error"
    assert listener.connections == 1


def test_keys_are_fetched_by_the_same_rule(listener: Listener) -> None:
    transport = Transport(
        max_bytes=1000, attempts=1, pool=1, clock=time.monotonic, resolver=Resolver((), leading_to("127.0.0.1"))
    )
    url = f"https://{NAME}:{listener.port}/jwks.json"
    assert transport.get(url, None, time.monotonic() + 1).problem == "private address"
    assert listener.connections == 0
    transport.close()
