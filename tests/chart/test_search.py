"""Prefetch templates: what every client of CDS Hooks 2.0 understands, and nothing else."""

import re

import pytest

from cds_hooks.chart.search import SEARCHABLE, Query
from cds_hooks.loading import load_all

TOKEN = re.compile(r"\{\{(.*?)\}\}")
#: https://cds-hooks.hl7.org/2.0/#prefetch-tokens, of the context fields that this server reads.
ALLOWED = {"context.patientId", "context.encounterId", "context.userId"}
CONTENT = [(loaded.plan.id, query) for loaded in load_all() for query in loaded.plan.retrieval.queries]
CODES = (("code", ("urn:s|a", "urn:s|b")),)
MADE_UP = [Query(f"made-up-{kind}", kind, 10, tokens=CODES) for kind in sorted(SEARCHABLE)]


@pytest.mark.parametrize("query", [*(query for _, query in CONTENT), *MADE_UP], ids=lambda query: query.key)
def test_a_template_keeps_to_the_restrictions(query: Query) -> None:
    template = query.template
    assert set(TOKEN.findall(template)) <= ALLOWED
    if query.reads:
        assert re.fullmatch(rf"{query.type}/\{{\{{context\.\w+\}}\}}", template)
        return
    path, _, parameters = template.partition("?")
    names = [parameter.partition("=")[0] for parameter in parameters.split("&")]
    assert path == query.type
    assert len(names) == len(set(names)), "a parameter twice means AND to some and OR to others"
    assert names[0] == "patient"
    assert not [name for name in names if ":" in name or "." in name], "no modifier, no chain"
    assert "patient={{context.patientId}}" in template


@pytest.mark.parametrize("plan", sorted({plan for plan, _ in CONTENT}))
def test_a_plan_asks_for_each_type_once(plan: str) -> None:
    types = [query.type for name, query in CONTENT if name == plan]
    assert len(types) == len(set(types))


@pytest.mark.parametrize(
    ("query", "template"),
    [
        (Query("p", "Patient"), "Patient/{{context.patientId}}"),
        (Query("e", "Encounter"), "Encounter/{{context.encounterId}}"),
        (Query("d", "Device", 5), "Device?patient={{context.patientId}}&_count=5"),
        (Query("c", "Condition"), "Condition?patient={{context.patientId}}&_sort=-recorded-date"),
        (
            Query("o", "Observation", 9, tokens=(("code", ("urn:s|a", "urn:s|b")),)),
            "Observation?patient={{context.patientId}}&code=urn:s|a,urn:s|b&_sort=-date&_count=9",
        ),
    ],
)
def test_templates(query: Query, template: str) -> None:
    assert query.template == template


def test_filling_needs_every_token() -> None:
    assert Query("e", "Encounter").filled({"patientId": "p1"}) is None
    assert Query("e", "Encounter").filled({"patientId": "p1", "encounterId": "e1"}) == "Encounter/e1"
    assert Query("d", "Device").filled({"patientId": "p1"}) == "Device?patient=p1"
