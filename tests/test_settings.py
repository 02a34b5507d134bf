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
        "server": {"workers": 2, "threads": 16, "body_limit": 10_000_000},
        "fhir": {"deadline_ms": 2500, "max_pages": 5, "max_bytes": 20_000_000, "allowed": ()},
        "cors": {"origins": ("*",)},
        "development": True,
        "data": tmp_path / "hfs-cds-hooks",
        "site": None,
        "log": "json",
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
        ("[cors]\norigins = ['ehr.example.org']", "cors.origins.0"),
        ("[cors]\norigins = ['https://ehr.example.org/']", "cors.origins.0"),
        ("public_url = 'cds.example.org'", "public_url"),
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
def test_nothing_else_may_be_served_yet(host: str, development: bool) -> None:
    with pytest.raises(ContentError, match="not authenticated"):
        check_bind(Settings(development=development), host)
