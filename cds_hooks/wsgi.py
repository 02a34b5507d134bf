"""What each worker process of the production server runs: settings, content, service, application."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Final

from flask import Flask

from cds_hooks.chart.client import FhirClient
from cds_hooks.chart.origin import AllowList
from cds_hooks.loading import load_all
from cds_hooks.service import CdsService
from cds_hooks.settings import Settings, load_settings
from cds_hooks.web.app import create_app

#: Environment variable by which `cds-hooks serve` tells its workers the configuration file.
CONFIG: Final = "CDS_CONFIG"


def build_service(settings: Settings, *, validate: bool = True) -> CdsService:
    """The service with all plans and a FHIR client, as the settings say."""
    fhir = settings.fhir
    client = FhirClient(AllowList(fhir.allowed), max_pages=fhir.max_pages, max_bytes=fhir.max_bytes)
    plans = load_all(site=settings.site, validate=validate)
    return CdsService(plans, client, deadline_s=fhir.deadline_ms / 1000, pages=fhir.max_pages)


def application() -> Flask:
    """The WSGI factory. The launcher has validated the content; here it is compiled once more, per process."""
    path = os.environ.get(CONFIG)
    settings = load_settings(Path(path) if path else None)
    app = create_app(build_service(settings, validate=False), settings)
    # The content lives as long as the process: keep the collector from walking it, and from running in every call.
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    return app
