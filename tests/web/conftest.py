"""A door with a made-up service behind it."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from made_up import FakeService

from cds_hooks.settings import Settings
from cds_hooks.web.app import create_app


@pytest.fixture
def service() -> FakeService:
    return FakeService()


@pytest.fixture
def log() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def lines(log: io.BytesIO) -> Callable[[], list[dict[str, Any]]]:
    """The log so far, parsed."""
    return lambda: [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.fixture
def make_app(service: FakeService, log: io.BytesIO, tmp_path: Path) -> Callable[..., Flask]:
    return lambda gate=None, **settings: create_app(service, Settings(data=tmp_path, **settings), log, gate=gate)


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app().test_client()
