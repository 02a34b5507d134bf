"""What is a base URL, and what only looks like one to some parser."""

import pytest

from cds_hooks.protocol.address import base_url


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("https://ehr.example.org/fhir", "https://ehr.example.org/fhir"),
        ("http://127.0.0.1:9080", "http://127.0.0.1:9080"),
        ("http://127.0.0.1:9080/r4//", "http://127.0.0.1:9080/r4"),
        ("http://[::1]:80/fhir/", "http://[::1]:80/fhir"),
        ("HTTPS://EHR.example.org/fhir", "HTTPS://EHR.example.org/fhir"),
    ],
)
def test_plain_urls_are_kept_without_the_slash(given: str, kept: str) -> None:
    assert base_url(given) == kept


@pytest.mark.parametrize(
    "given",
    [
        "",
        "not a url",
        "example/fhir",
        "//127.0.0.1/fhir",
        "127.0.0.1:80/fhir",
        "file:///etc/x",
        "ftp://127.0.0.1/fhir",
        "gopher://127.0.0.1/x",
        "javascript:alert(1)",
        "http://",
        "http:///fhir",
        "http://:80/fhir",
        "http://127.0.0.1:99999/fhir",
        "http://127.0.0.1:0/fhir",
        "http://127.0.0.1:x/fhir",
        "http://[::1",
        "http://[v1.x]/fhir",
        "http://[127.0.0.1]/fhir",
        "http://127.0.0.1/f\r\nX-Probe: 1",
        "http://127.0.0.1/fhir\n",
        "http://127.0.0.1/f hir",
        "http://user:secret@127.0.0.1/fhir",
        "http://127.0.0.1:1@127.0.0.1:2/fhir",
        "http://127.0.0.1\\@evil.example/fhir",
        "http://127.0.0.1/fhir?x=1",
        "http://127.0.0.1/fhir?",
        "http://127.0.0.1/fhir#x",
        "http://127.0.0.1/fhir/../admin",
        "http://127.0.0.1/fhir/%2E%2e/admin",
        "http://b\u00fccher.example/fhir",
        "http://-x.example/fhir",
        "http://" + "a" * 3000,
    ],
)
def test_anything_else_is_refused(given: str) -> None:
    with pytest.raises(ValueError, match="must be a"):
        base_url(given)
