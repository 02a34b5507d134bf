"""What an operator can set: a TOML file, over it environment variables (CDS_HOOKS_SERVER__WORKERS=4).

    public_url = "https://cds.example.org"   what clients call us, if a proxy stands before
    development = true                       POST /explain/<service>
    data = "/var/lib/cds-hooks"              where the database lies
    site = "/etc/cds-hooks/site"             a site's own layer over the plans: codes, parameters, cards off
    log = "json"                             or "off"
    [server]  workers, threads (per worker), body_limit (bytes)
    [fhir]    deadline_ms, max_pages, max_bytes, allowed (base URLs; none: loopback only)
    [cors]    origins ("*" or scheme://host[:port])

Unknown keys are refused, in the file and below a known section of the environment. Other variables that begin with
CDS_HOOKS_ are left alone: Kubernetes sets CDS_HOOKS_PORT and the like for a Service called cds-hooks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from cds_hooks.errors import ContentError
from cds_hooks.protocol.address import base_url

_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9\-.\[\]:]+")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError('must be "*" or scheme://host[:port] without a path')
    return text.lower()


BaseUrl = Annotated[str, AfterValidator(base_url)]
Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Section):
    """The processes: `threads` per worker; a body of more than `body_limit` bytes is refused with 413."""

    workers: Annotated[int, Field(ge=1, le=64)] = 2
    threads: Annotated[int, Field(ge=1, le=256)] = 16
    body_limit: Positive = 10_000_000


class Fhir(_Section):
    """Fetching what the client did not send. Without `allowed` base URLs only FHIR servers on loopback are called."""

    deadline_ms: Positive = 2500
    max_pages: Positive = 5
    max_bytes: Positive = 20_000_000
    allowed: tuple[BaseUrl, ...] = ()


class Cors(_Section):
    """Which web pages may read answers."""

    origins: tuple[Annotated[str, AfterValidator(_origin)], ...] = ("*",)


def state_folder() -> Path:
    """Return the folder for data if none is set: that of the user, as the XDG base directories have it."""
    state = os.environ.get("XDG_STATE_HOME", "")
    # The XDG text says that a relative path is to be ignored.
    return (Path(state) if state.startswith("/") else Path.home() / ".local" / "state") / "hfs-cds-hooks"


class Settings(BaseSettings):
    """All settings, with the defaults of a server for development on one's own machine."""

    model_config = SettingsConfigDict(env_prefix="CDS_HOOKS_", env_nested_delimiter="__", extra="forbid", frozen=True)

    public_url: BaseUrl | None = None
    server: Server = Server()
    fhir: Fhir = Fhir()
    cors: Cors = Cors()
    development: bool = True
    data: Path = Field(default_factory=state_folder)
    site: Path | None = None
    log: Literal["json", "off"] = "json"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the arguments, which are what the file says."""
        return env_settings, init_settings


def load_settings(path: Path | None) -> Settings:
    """Read the file (none: defaults) and the environment; raise ContentError saying in one sentence what is wrong."""
    given = _read(path) if path else {}
    try:
        return Settings(**given)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        where = str(path) if _holds(given, first["loc"]) else "environment"
        raise ContentError(where, ".".join(map(str, first["loc"])), _reason(first["type"], first["msg"])) from None
    except SettingsError:
        raise ContentError("environment", "CDS_HOOKS_*", "a list must be written as a JSON array") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ContentError(str(path), "", f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ContentError(str(path), "", f"is no TOML: {error}") from None


def _holds(node: Any, location: tuple[int | str, ...]) -> bool:
    """Tell whether the file has an element at this place; if not, the environment has brought it."""
    for step in location:
        if isinstance(node, dict) and step in node:
            node = node[step]
        elif not isinstance(node, list) or not isinstance(step, int):
            return False
    return True


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting"
    return message.removeprefix("Value error, ").replace("Input should", "must")


def check_bind(settings: Settings, host: str) -> None:
    """Raise ContentError unless this host may be served with these settings.

    There is no client authentication yet, so whatever the settings say, only this machine may call.
    """
    if not _is_loopback(host):
        raise ContentError(
            f"--host {host}",
            "",
            "refused, because clients are not authenticated: only a loopback address (127.0.0.1, ::1) can be served;"
            " put a proxy that authenticates in front",
        )


def _is_loopback(host: str) -> bool:
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
