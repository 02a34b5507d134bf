"""What each worker process of the production server runs: settings, content, service, application."""

from __future__ import annotations

import gc
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from flask import Flask

from cds_hooks import __version__
from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList
from cds_hooks.chart.peers import Peers
from cds_hooks.chart.resolving import Resolver
from cds_hooks.chart.transport import Transport
from cds_hooks.errors import ContentError
from cds_hooks.loading import load_all
from cds_hooks.service import CdsService
from cds_hooks.settings import Settings, load_settings
from cds_hooks.store.opening import open_store
from cds_hooks.store.port import Memory
from cds_hooks.trust.gate import Fetch, Gate
from cds_hooks.trust.replay import ReplayGuard
from cds_hooks.web.app import PULSE, create_app
from cds_hooks.web.tracing import Tracing

#: Environment variable by which `cds-hooks serve` tells its workers the configuration file.
CONFIG: Final = "CDS_CONFIG"
#: Environment variable by which it tells them the address to announce.
ADDRESS: Final = "CDS_ADDRESS"
#: Bytes of a JWK Set. A key has about one thousand.
_KEYS_BYTES: Final = 256_000
#: Seconds that a starting worker waits for the keys of its clients.
_KEYS_S: Final = 2.0


def build_service(settings: Settings, *, validate: bool = True, memory: Memory | None = None) -> CdsService:
    """The service with all plans and a FHIR client, as the settings say. Without a memory it forgets all."""
    fhir = settings.fhir
    listed = AllowList([*fhir.allowed, *(settings.fhir_servers or ())])
    peers = Peers(
        connections=fhir.connections, failures=fhir.breaker_failures, rest_s=fhir.breaker_rest_ms / 1000,
        name=listed.name,
    )  # fmt: skip
    client = FhirClient(
        AllowList(fhir.allowed),
        max_pages=fhir.max_pages,
        max_bytes=fhir.max_bytes,
        connections=fhir.connections,
        peers=peers,
        resolver=Resolver(fhir.private_networks),
        ca_file=fhir.ca_file,
    )
    plans = load_all(site=settings.site, validate=validate)
    return CdsService(
        plans, client, deadline_s=fhir.deadline_ms / 1000, pages=fhir.max_pages, pools=client.pool, memory=memory
    )


def build_gate(settings: Settings, services: Iterable[str], shared: ReplayGuard | None = None) -> Gate | None:
    """The gate for the clients of the settings; None without clients: everyone may call.

    Raises ContentError for a client whose keys cannot be read from their file, or who may call an unknown service.
    """
    if not settings.clients or settings.public_url is None:  # clients without public_url: refused by the settings
        return None
    known = set(services)
    for number, client in enumerate(settings.clients):
        for name in client.services:
            if name != "*" and name not in known:
                told = f'there is no service "{name}"; there are {", ".join(sorted(known))}'
                raise ContentError("settings", f"clients.{number}.services", told)
    return Gate(settings.clients, settings.public_url, settings.auth, _key_fetch(settings), shared)


def _key_fetch(settings: Settings) -> Fetch:
    """Fetches documents with keys: small, at once or not at all."""
    transport = Transport(
        max_bytes=_KEYS_BYTES,
        attempts=1,
        pool=2,
        clock=time.monotonic,
        accept="application/jwk-set+json, application/json",
        resolver=Resolver(settings.fhir.private_networks),
        ca_file=settings.fhir.ca_file,
    )
    return lambda url, seconds: transport.get(url, None, time.monotonic() + seconds).document


def build_tracing(settings: Settings) -> Tracing | None:
    """What makes spans, if the settings want any; raises ContentError if it is not installed."""
    return Tracing() if settings.tracing == "otlp" else None


def application() -> Flask:
    """The WSGI factory. The launcher has validated the content; here it is compiled once more, per process."""
    if multiprocessing.parent_process() is not None:
        # A worker of granian has the signal handlers of its parent until it serves: they would keep it from ending.
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    path = os.environ.get(CONFIG)
    settings = load_settings(Path(path) if path else None)
    store = open_store(settings.storage, settings.data)
    store.housekeeping.start()
    service = build_service(settings, validate=False, memory=store.memory)
    gate = build_gate(settings, service.ids(), store.guard)
    if gate is not None:
        gate.warm(_KEYS_S)
    app = create_app(service, settings, gate=gate, tracing=build_tracing(settings))
    # The content lives as long as the process: keep the collector from walking it, and from running in every call.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    app.extensions[PULSE].start()
    _announce()
    return app


def _announce() -> None:
    """Say once per server that it answers; the first worker that is ready says it for all."""
    address, folder = os.environ.get(ADDRESS), os.environ.get("PROMETHEUS_MULTIPROC_DIR")
    if address and folder:
        try:
            Path(folder, "announced").touch(exist_ok=False)
        except OSError:
            return
        print(f"cds-hooks {__version__} listens on {address}/cds-services", file=sys.stderr, flush=True)  # noqa: T201
