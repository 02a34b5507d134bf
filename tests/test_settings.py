"""Settings: the defaults outside checks rely on, file and environment, and one readable sentence per mistake."""

from pathlib import Path

import pytest

from cds_hooks.errors import ContentError
from cds_hooks.settings import Settings, check_bind, load_settings


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))


def written(folder: Path, text: str) -> Path:
    file = folder / "settings.toml"
    file.write_text(text, "utf-8")
    return file


def complaint(path: Path | None) -> str:
    with pytest.raises(ContentError) as caught:
        load_settings(path)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_defaults(tmp_path: Path) -> None:
    settings = load_settings(None)
    assert settings.model_dump() == {
        "public_url": None,
        "server": {
            "workers": 2, "threads": 64, "body_limit": 10_000_000, "body_ms": 5000, "deadline_ms": 5000,
        },
        "fhir": {
            "deadline_ms": 2500, "max_pages": 5, "max_bytes": 20_000_000, "connections": 64, "breaker_failures": 20,
            "breaker_rest_ms": 5000, "allowed": (), "private_networks": (), "ca_file": None,
        },
        "cors": {"origins": ("*",)},
        "auth": {
            "discovery": True,
            "leeway_s": 30,
            "lifetime_s": 3600,
            "keys_fresh_s": 300,
            "keys_stale_s": 86_400,
            "keys_deadline_ms": 2000,
        },
        "clients": (),
        "storage": {
            "url": None,
            "key_file": None,
            "key": None,
            "password_file": None,
            "password": None,
            "keep_days": 730,
            "comment_days": 90,
        },
        "development": True,
        "data": tmp_path / "hfs-cds-hooks",
        "site": None,
        "log": "json",
        "tracing": "off",
    }


@pytest.mark.parametrize("value", ["", "relative/path"])
def test_the_state_folder_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, value: str) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", value)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_settings(None).data == tmp_path / ".local" / "state" / "hfs-cds-hooks"


def test_the_environment_wins_over_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = written(
        tmp_path,
        """
        public_url = "https://cds.example.org/"
        data = "/srv/data"
        [server]
        workers = 3
        threads = 4
        [fhir]
        allowed = ["https://ehr.example.org/fhir/"]
        [cors]
        origins = ["https://EHR.example.org:8443"]
        """,
    )
    monkeypatch.setenv("CDS_HOOKS_SERVER__WORKERS", "5")
    monkeypatch.setenv("CDS_HOOKS_FHIR__ALLOWED", '["http://127.0.0.1:8080/fhir"]')
    monkeypatch.setenv("CDS_HOOKS_DEVELOPMENT", "false")
    settings = load_settings(file)
    assert (settings.server.workers, settings.server.threads) == (5, 4)
    assert settings.fhir.allowed == ("http://127.0.0.1:8080/fhir",)
    assert settings.cors.origins == ("https://ehr.example.org:8443",)
    assert settings.public_url == "https://cds.example.org"
    assert settings.data == Path("/srv/data")
    assert settings.development is False


@pytest.mark.parametrize(
    ("text", "element"),
    [
        ("wrokers = 1", "wrokers"),
        ("[server]\nwrokers = 1", "server.wrokers"),
        ("[server]\nworkers = 0", "server.workers"),
        ("[server]\nworkers = 'x'", "server.workers"),
        ("server = 1", "server"),
        ("[fhir]\nallowed = ['https://u:p@x.example/fhir']", "fhir.allowed.0"),
        ("[fhir]\nprivate_networks = ['10.0.0.1/8']", "fhir.private_networks.0"),
        ("[fhir]\nprivate_networks = ['ehr.example.org']", "fhir.private_networks.0"),
        ("[fhir]\nca_file = '/no/such/file.pem'", "fhir.ca_file"),
        ("[fhir]\nca_file = '/dev/null'", "fhir.ca_file"),
        ("[cors]\norigins = ['ehr.example.org']", "cors.origins.0"),
        ("[cors]\norigins = ['https://ehr.example.org/']", "cors.origins.0"),
        ("public_url = 'cds.example.org'", "public_url"),
        ("public_url = 'http://cds.example.org'", "public_url"),
        ("[fhir]\nallowed = ['http://ehr.example.org/fhir']", "fhir.allowed.0"),
        ("[auth]\nlifetime_s = 100000", "auth.lifetime_s"),
        ("[auth]\nlifetime_m = 10", "auth.lifetime_m"),
        ("log = 'loud'", "log"),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_place(tmp_path: Path, text: str, element: str) -> None:
    file = written(tmp_path, text)
    assert complaint(file).startswith(f"{file}: {element}: ")


@pytest.mark.parametrize(
    ("name", "value", "element"),
    [
        ("CDS_HOOKS_SERVER__WORKERS", "many", "server.workers"),
        ("CDS_HOOKS_SERVER__WROKERS", "1", "server.wrokers"),
        ("CDS_HOOKS_CORS__ORIGINS", "https://x.example", ""),
        ("CDS_HOOKS_LOG", "loud", "log"),
    ],
)
def test_a_mistake_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str, element: str
) -> None:
    monkeypatch.setenv(name, value)
    text = complaint(written(tmp_path, "[server]\nthreads = 4"))
    assert text.startswith("environment: ")
    assert element in text


def test_variables_that_kubernetes_sets_do_no_harm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_HOOKS_PORT", "tcp://10.0.0.1:8000")
    monkeypatch.setenv("CDS_HOOKS_SERVICE_HOST", "10.0.0.1")
    assert load_settings(None).server.workers == 2


def test_no_file_and_no_toml(tmp_path: Path) -> None:
    assert "cannot be read" in complaint(tmp_path / "none.toml")
    assert "is no TOML" in complaint(written(tmp_path, "x ="))
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    assert "is no TOML" in complaint(tmp_path / "binary.toml")


def test_settings_cannot_be_changed() -> None:
    settings = load_settings(None)
    with pytest.raises(ValueError, match="frozen"):
        settings.development = False


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "[::1]", "localhost", "LOCALHOST"])
def test_loopback_may_be_served(host: str) -> None:
    check_bind(Settings(), host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.1.2", "localhost.example.org", "example.org"])  # noqa: S104
@pytest.mark.parametrize("development", [True, False])
def test_off_loopback_nobody_may_call_unauthenticated(host: str, development: bool) -> None:
    with pytest.raises(ContentError, match=r"not authenticated: list them in the settings \(\[\[clients\]\]\)"):
        check_bind(Settings(development=development), host)


# --- Clients --------------------------------------------------------------------------------------------------------

CLIENT = """
    [[clients]]
    name = "hospital-a"
    issuer = "https://ehr.example.org"
    jwks_url = "https://ehr.example.org/jwks.json"
"""
PUBLIC = 'public_url = "https://cds.example.org"\n'
WHOLE = (
    PUBLIC
    + """
    [fhir]
    deadline_ms = 2500
    max_pages = 5
    [cors]
    origins = ["https://ehr.example.org"]
    """
    + CLIENT
    + """
    audiences = []
    tenants = []
    algorithms = ["ES384", "RS384"]
    services = ["*"]
    fhir_servers = ["https://ehr.example.org/fhir"]
    """
)


def test_a_client(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, WHOLE))
    (client,) = settings.clients
    assert (client.name, client.issuer) == ("hospital-a", "https://ehr.example.org")
    assert client.fhir_servers == ("https://ehr.example.org/fhir",)
    assert settings.cors.origins == ("https://ehr.example.org",)


def test_with_clients_the_defaults_are_those_of_production(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, PUBLIC + CLIENT))
    assert settings.development is False
    assert settings.cors.origins == ()
    assert settings.clients[0].algorithms == ("ES384", "RS384")
    assert settings.clients[0].fhir_servers == ()
    for host in ("0.0.0.0", "::", "cds.example.org", "127.0.0.1"):  # noqa: S104
        check_bind(settings, host)


def test_development_with_clients_stays_at_home(tmp_path: Path) -> None:
    settings = load_settings(written(tmp_path, "development = true\n" + PUBLIC + CLIENT))
    check_bind(settings, "127.0.0.1")
    with pytest.raises(ContentError, match="set development = false"):
        check_bind(settings, "0.0.0.0")  # noqa: S104


def test_a_client_on_ones_own_machine(tmp_path: Path) -> None:
    text = 'public_url = "http://127.0.0.1:8000"\n' + CLIENT.replace("https://", "http://localhost:8001/")
    client = load_settings(written(tmp_path, text + 'fhir_servers = ["http://[::1]:8080/fhir"]')).clients[0]
    assert client.jwks_url == "http://localhost:8001/ehr.example.org/jwks.json"


def test_a_url_with_keys_may_have_a_query(tmp_path: Path) -> None:
    url = "https://login.example.org/t/discovery/keys?p=policy-1"
    text = PUBLIC + CLIENT.replace("https://ehr.example.org/jwks.json", url)
    assert load_settings(written(tmp_path, text)).clients[0].jwks_url == url


def test_clients_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CDS_HOOKS_PUBLIC_URL", "https://cds.example.org")
    monkeypatch.setenv("CDS_HOOKS_CLIENTS", '[{"name": "a", "issuer": "b", "jwks_file": "/run/keys.json"}]')
    settings = load_settings(None)
    assert settings.clients[0].jwks_file == Path("/run/keys.json")
    assert settings.development is False
    monkeypatch.setenv("CDS_HOOKS_CLIENTS", '[{"name": "a", "issuer": "b"}]')
    assert complaint(None).startswith("environment: clients.0: ")


#: What is unsafe -> what the sentence says to change.
UNSAFE = {
    CLIENT: "public_url is missing",
    PUBLIC + '[cors]\norigins = ["*"]' + CLIENT: 'cors.origins holds "*"',
    PUBLIC + '[cors]\norigins = ["https://a.example.org", "*"]' + CLIENT: 'cors.origins holds "*"',
    PUBLIC + '[fhir]\nallowed = ["https://ehr.example.org/fhir"]' + CLIENT: "move the URLs to fhir_servers",
    PUBLIC + CLIENT + CLIENT.replace("hospital-a", "hospital-b"): 'two have the issuer "https://ehr.example.org"',
    PUBLIC + CLIENT + CLIENT.replace("https://ehr", "https://b"): 'two have the name "hospital-a"',
    PUBLIC + CLIENT.replace("jwks_url", "# jwks_url"): "has neither of jwks_url and jwks_file",
    PUBLIC + CLIENT + 'jwks_file = "jwks.json"': "has both of jwks_url and jwks_file",
    PUBLIC + CLIENT.replace("https://ehr.example.org/jwks", "http://ehr.example.org/jwks"): "must begin with https://",
    PUBLIC + CLIENT.replace("https://ehr.example.org/jwks", "https://u:p@ehr.example.org/jwks"): "plain URL",
    PUBLIC + CLIENT.replace("https://ehr.example.org/jwks", "file:///etc/jwks"): "absolute URL",
    PUBLIC + CLIENT + 'fhir_servers = ["http://ehr.example.org/fhir"]': "must begin with https://",
    PUBLIC.replace("https", "http") + CLIENT: "must begin with https://",
    PUBLIC + CLIENT + 'algorithms = ["ES384", "HS256"]': "HS256 is refused, because whoever can check",
    PUBLIC + CLIENT + 'algorithms = ["none"]': "none is refused",
    PUBLIC + CLIENT + 'algorithms = ["es384"]': "es384 is not known; take ES256",
    PUBLIC + CLIENT + "algorithms = []": "at least 1",
    PUBLIC + CLIENT + "services = []": "at least 1",
    PUBLIC + CLIENT + "secret = 'x'": "clients.0.secret: there is no such setting",
    PUBLIC + CLIENT.replace("hospital-a", "Hospital A"): "clients.0.name",
    PUBLIC + CLIENT.replace('issuer = "https', '# "'): "clients.0.issuer",
}


@pytest.mark.parametrize("text", UNSAFE, ids=[f"{number}: {told}" for number, told in enumerate(UNSAFE.values())])
def test_what_is_unsafe_does_not_start(tmp_path: Path, text: str) -> None:
    file = written(tmp_path, text)
    told = complaint(file)
    assert told.startswith(f"{file}: ")
    assert UNSAFE[text] in told


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[storage]\nkey = "0123456789abcdef0123456789abcdef"', "storage.key: is a secret: put it into a file"),
        ('[storage]\npassword = "hunter2"', "storage.password: is a secret: put it into a file"),
        ('[storage]\nurl = "postgresql://cds:hunter2@db.example.org/cds"', "storage.url: holds a password"),
        ("[storage]\nkeep_days = 0", "storage.keep_days: must be greater than or equal to 1"),
        ('[storage]\ncache = "x"', "storage.cache: there is no such setting"),
    ],
)
def test_storage_that_is_refused(tmp_path: Path, text: str, words: str) -> None:
    told = complaint(written(tmp_path, text))
    assert words in told
    assert "hunter2" not in told


def test_secrets_of_the_environment_and_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("from the file\n")
    text = f'[storage]\nurl = "postgresql://cds@db.example.org/cds"\npassword_file = "{tmp_path}/password"'
    file = written(tmp_path, text)
    assert load_settings(file).storage.secret_password == "from the file"
    monkeypatch.setenv("CDS_HOOKS_STORAGE__PASSWORD", "from the environment")
    monkeypatch.setenv("CDS_HOOKS_STORAGE__KEY", "k" * 40)
    settings = load_settings(file)
    assert settings.storage.secret_password == "from the environment"
    assert settings.storage.secret_key == "k" * 40
    assert "kkkk" not in repr(settings)
    assert "from the" not in repr(settings)
    (tmp_path / "password").unlink()
    monkeypatch.delenv("CDS_HOOKS_STORAGE__PASSWORD")
    with pytest.raises(ContentError, match="cannot be read"):
        _ = load_settings(file).storage.secret_password
