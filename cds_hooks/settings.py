"""What an operator can set: a TOML file, over it environment variables (CDS_HOOKS_SERVER__WORKERS=4).

    public_url = "https://cds.example.org"   what clients call us, if a proxy stands before
    development = true                       POST /explain/<service>
    data = "/var/lib/cds-hooks"              where the database lies
    site = "/etc/cds-hooks/site"             a site's own layer over the plans: codes, parameters, cards off
    log = "json"                             or "off"
    tracing = "off"                          or "otlp": OpenTelemetry spans, needs the extra `otel`
    [server]  workers, threads (calls at once per worker), body_limit (bytes), body_ms, deadline_ms
    [fhir]    deadline_ms, max_pages, max_bytes, connections (per server), breaker_failures, breaker_rest_ms,
              allowed (base URLs; none: loopback only), private_networks, ca_file
    [cors]    origins ("*" or scheme://host[:port])
    [auth]    discovery, leeway_s, lifetime_s, keys_fresh_s, keys_stale_s, keys_deadline_ms
    [[clients]]  name, issuer, jwks_url or jwks_file, audiences, tenants, algorithms, services, fhir_servers
    [storage] url (sqlite:///… or postgresql+psycopg://…), key_file, password_file, keep_days, comment_days

Without clients everyone may call, which is for development on one's own machine. With clients, what is safe is the
default: no development routes, no web page may read answers, and only a client's own FHIR servers are called.

Unknown keys are refused, in the file and below a known section of the environment. Other variables that begin with
CDS_HOOKS_ are left alone: Kubernetes sets CDS_HOOKS_PORT and the like for a Service called cds-hooks.
"""

from __future__ import annotations

import ipaddress
import os
import re
import ssl
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from pydantic_settings.exceptions import SettingsError

from cds_hooks.errors import ContentError
from cds_hooks.protocol.address import is_loopback
from cds_hooks.serving import THREADS, WORKERS
from cds_hooks.trust.clients import Auth, Client, SecureBaseUrl

_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9\-.\[\]:]+")


def _origin(text: str) -> str:
    if not _ORIGIN.fullmatch(text):
        raise ValueError('must be "*" or scheme://host[:port] without a path')
    return text.lower()


def _network(text: str) -> str:
    try:
        return str(ipaddress.ip_network(text))
    except ValueError:
        raise ValueError("must be a network such as 10.1.0.0/16, with no bits beyond its prefix") from None


def _certificates(file: Path) -> Path:
    try:
        ssl.create_default_context(cafile=file)
    except OSError as error:  # what is no certificate is an SSLError, one of these
        why = "holds no certificate in PEM form" if isinstance(error, ssl.SSLError) else error.strerror
        raise ValueError(f"cannot be used: {why}") from None
    return file


Positive = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Server(_Section):
    """The processes, and what a request may take of them.

    A worker has `threads` requests with a body at once; what comes above that is answered with 503. A body has to
    arrive within `body_ms` (else 408, or the connection is closed) and may have `body_limit` bytes (else 413). After
    that a call has `deadline_ms` until it is answered.
    """

    workers: Annotated[int, Field(ge=1, le=64)] = WORKERS
    threads: Annotated[int, Field(ge=1, le=512)] = THREADS
    body_limit: Positive = 10_000_000
    body_ms: Annotated[int, Field(ge=100, le=60_000)] = 5000
    deadline_ms: Annotated[int, Field(ge=100, le=60_000)] = 5000


class Fhir(_Section):
    """Fetching what the client did not send. Without `allowed` base URLs only FHIR servers on loopback are called.

    `allowed` is for callers that are not authenticated; each client has `fhir_servers` of its own. Each worker sends at
    most `connections` requests at once to one server, and leaves one alone for `breaker_rest_ms` after
    `breaker_failures` requests in a row that it did not answer.
    """

    deadline_ms: Positive = 2500
    max_pages: Positive = 5
    max_bytes: Positive = 20_000_000
    connections: Annotated[int, Field(ge=1, le=256)] = 64
    breaker_failures: Positive = 20
    breaker_rest_ms: Positive = 5000
    allowed: tuple[SecureBaseUrl, ...] = ()
    #: Networks (10.1.0.0/16) in which names of FHIR servers, and of servers with keys, may lie beside the Internet.
    private_networks: tuple[Annotated[str, AfterValidator(_network)], ...] = ()
    #: Certificates (PEM) of the authorities to trust for all of these, instead of the public ones.
    ca_file: Annotated[Path, AfterValidator(_certificates)] | None = None


class Storage(_Section):
    """Where cards, feedback and used tokens are remembered: without `url` a SQLite file in the data folder.

    `key` and `password` come from the environment only, never from the file.
    """

    url: str | None = None
    key_file: Path | None = None
    key: SecretStr | None = None
    password_file: Path | None = None
    password: SecretStr | None = None
    keep_days: Positive = 730
    comment_days: Positive = 90

    @property
    def secret_key(self) -> str | None:
        """The key of the keyed hashes, if the environment holds it."""
        return self.key.get_secret_value() if self.key else None

    @property
    def secret_password(self) -> str | None:
        """The password for the database: of the environment, else of its file; raises ContentError."""
        if self.password is not None:
            return self.password.get_secret_value()
        if self.password_file is None:
            return None
        try:
            return self.password_file.read_text("utf-8").strip()
        except (OSError, ValueError):
            raise ContentError(str(self.password_file), "storage.password_file", "cannot be read") from None


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

    public_url: SecureBaseUrl | None = None
    server: Server = Server()
    fhir: Fhir = Fhir()
    cors: Cors = Cors()
    auth: Auth = Auth()
    clients: tuple[Client, ...] = ()
    storage: Storage = Storage()
    development: bool = True
    data: Path = Field(default_factory=state_folder)
    site: Path | None = None
    log: Literal["json", "off"] = "json"
    tracing: Literal["off", "otlp"] = "off"

    @property
    def fhir_servers(self) -> tuple[str, ...] | None:
        """The FHIR servers of all clients together; None without clients."""
        return tuple(base for client in self.clients for base in client.fhir_servers) if self.clients else None

    @model_validator(mode="before")
    @classmethod
    def _safe_defaults(cls, given: Any) -> Any:
        """With clients, let what is not said be what is safe in production."""
        if not isinstance(given, dict) or not given.get("clients"):
            return given
        cors = given.get("cors", {})
        closed = {"origins": [], **cors} if isinstance(cors, dict) else cors
        return {"development": False, **given, "cors": closed}

    @model_validator(mode="after")
    def _is_safe(self) -> Self:
        wrong = _unsafe(self) if self.clients else None
        if wrong:
            raise ValueError(wrong)
        return self

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


def _unsafe(settings: Settings) -> str | None:
    """What is unsafe about these settings with clients, as a sentence that says what to change."""
    if settings.public_url is None:
        return "public_url is missing: tokens name the URL that was called, so say under which one clients call us"
    if "*" in settings.cors.origins:
        return 'cors.origins holds "*", which lets any web page read the answers: name the pages, or leave it out'
    if settings.fhir.allowed:
        return "fhir.allowed is for callers without authentication: move the URLs to fhir_servers of each client"
    for what in ("name", "issuer"):
        values = [getattr(client, what) for client in settings.clients]
        twice = next((value for value in values if values.count(value) > 1), None)
        if twice is not None:
            return f'clients: two have the {what} "{twice}"; give each its own'
    return None


def load_settings(path: Path | None) -> Settings:
    """Read the file (none: defaults) and the environment; raise ContentError saying in one sentence what is wrong."""
    given = _read(path) if path else {}
    _check_no_secret(path, given)
    try:
        return Settings(**given)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        place = first["loc"][:-1] if first["type"] == "missing" else first["loc"]
        where = str(path) if path and _holds(given, place) else "environment"
        raise ContentError(where, ".".join(map(str, first["loc"])), _reason(first["type"], first["msg"])) from None
    except SettingsError as error:
        field = re.search(r'field "(\w+)"', str(error))
        variables = f"CDS_HOOKS_{field[1].upper()}*" if field else "CDS_HOOKS_*"
        raise ContentError("environment", variables, 'a list must be written as a JSON array: ["…"]') from None


def _read(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ContentError(str(path), "", f"cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise ContentError(str(path), "", f"is no TOML: {error}") from None


def _check_no_secret(path: Path | None, given: Mapping[str, Any]) -> None:
    """Raise ContentError for a secret in the file: files are copied, shown and kept in version control."""
    section = given.get("storage")
    for name in ("key", "password"):
        if isinstance(section, dict) and name in section:
            reason = f"is a secret: put it into a file of its own and name that in {name}_file"
            raise ContentError(str(path), f"storage.{name}", reason)
    if isinstance(section, dict) and re.search(r"//[^/@]*:[^/@]+@", str(section.get("url", ""))):
        raise ContentError(str(path), "storage.url", "holds a password: put it into a file, named in password_file")


def _holds(node: Any, location: tuple[int | str, ...]) -> bool:
    """Tell whether the file has an element at this place; if not, the environment has brought it."""
    for step in location:
        try:
            node = node[step]
        except (LookupError, TypeError):
            return False
    return True


def _reason(kind: str, message: str) -> str:
    if kind == "extra_forbidden":
        return "there is no such setting"
    return message.removeprefix("Value error, ").replace("Input should", "must")


def check_bind(settings: Settings, host: str) -> None:
    """Raise ContentError unless this host may be served with these settings.

    Off loopback every caller has to be authenticated, and the routes for development stay closed.
    """
    if is_loopback(host):
        return
    if not settings.clients:
        why = "clients are not authenticated: list them in the settings ([[clients]])"
    elif settings.development:
        why = "development is on: set development = false"
    else:
        return
    raise ContentError(f"--host {host}", "", f"refused, because {why}, or serve a loopback address (127.0.0.1, ::1)")
