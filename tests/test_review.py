"""The review page: nothing of the content is left out, nothing is loaded, nothing hostile gets through."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections import Counter
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import pytest
from click.testing import CliRunner

from cds_hooks.cli import main
from cds_hooks.loading import Loaded, load_plan
from cds_hooks.reasoning.content import content_root, plan_names
from cds_hooks.review.build import review
from cds_hooks.review.examples import Played, moment, play
from cds_hooks.review.markdown import as_html
from cds_hooks.review.page import Review
from cds_hooks.review.render import literal, to_html, to_markdown
from cds_hooks.review.words import Speaker, phrases

DAY = date(2026, 11, 21)
EXAMPLES = Path(__file__).parent.parent / "examples"
EVIL = "<script>alert(1)</script><img src=//e.example onerror=x> [x](https://e.example) ![y](//e.example) | `a`"


@pytest.fixture(scope="module", params=plan_names(content_root()))
def loaded(request: pytest.FixtureRequest) -> Loaded:
    return load_plan(content_root(), request.param, validate=False)


@pytest.fixture(scope="module")
def played(loaded: Loaded) -> list[Played]:
    return play(loaded, moment(loaded))


@pytest.fixture(scope="module")
def page(loaded: Loaded, played: list[Played]) -> Review:
    return review(loaded, DAY, played)


@pytest.fixture(scope="module")
def html(page: Review) -> str:
    return to_html(page)


@pytest.fixture(scope="module")
def markdown(page: Review) -> str:
    return to_markdown(page)


class Tags(HTMLParser):
    """Every tag with its attributes, and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "

    def values(self, name: str) -> list[str]:
        return [attributes[name] or "" for _, attributes in self.tags if name in attributes]


def loads_nothing(text: str) -> None:
    found = Tags(text)
    names = {tag for tag, _ in found.tags}
    assert not names & {"script", "img", "iframe", "link", "object", "embed", "video", "audio", "base", "form", "svg"}
    assert not found.values("src")
    assert not found.values("style")
    assert not [name for _, attributes in found.tags for name in attributes if name.startswith("on")]
    assert all(address.startswith("#") for address in found.values("href"))
    css = re.search(r"<style>(.*?)</style>", text, re.DOTALL)
    assert css
    assert not re.search(r"url\(|@import", css[1])


def no_links_but_our_own(text: str) -> None:
    assert not re.search(r"(?<!\\)\]\((?!#)", re.sub(r"(`+).*?\1", "", text))


# ---- nothing is left out


def test_every_rule_is_there_with_its_card_and_what_it_rests_on(loaded: Loaded, page: Review):
    assert {rule.id for rule in page.rules} == {rule.id for rule in loaded.plan.rules}
    for rule in page.rules:
        assert rule.conditions
        assert rule.evidence
        assert rule.silent, rule.id
        assert rule.value_sets
        assert rule.example is not None, rule.id
        assert rule.example.summary
        assert {item.label for item in rule.suggestions} >= set(rule.example.buttons)


@pytest.mark.parametrize("part", ["claims", "evidence", "choices", "tensions", "sources"])
def test_every_entry_of_the_register_is_on_both_pages(loaded: Loaded, html: str, markdown: str, part: str):
    text = Tags(html).text
    plain = markdown.replace("\\", "")
    for label in loaded.package.evidence.get(part, {}):
        assert re.search(rf"\b{re.escape(label)}\b", text), label
        assert re.search(rf"\b{re.escape(label)}\b", plain), label


def test_every_value_set_with_every_code_is_on_both_pages(loaded: Loaded, page: Review, html: str, markdown: str):
    sets = [one for _, one in loaded.package.of_type("ValueSet")]
    assert [one["id"] for one in sets] == [one.id for one in page.value_sets]
    for one, shown in zip(sets, page.value_sets, strict=True):
        assert f'id="set-{one["id"]}"' in html
        assert f'id="set-{one["id"]}"' in markdown
        codes = [item["code"] for part in one.get("compose", {}).get("include", ()) for item in part.get("concept", ())]
        assert {code.code for code in shown.codes} >= set(codes)
    for one in page.value_sets:
        assert one.codes or one.members or one.words, one.id


def test_parameters_orders_facts_and_gates_are_all_shown(loaded: Loaded, page: Review, html: str):
    assert [item.name for item in page.parameters] == list(loaded.plan.parameters)
    assert {fact.name for fact in page.facts} == set(loaded.plan.facts)
    assert {order.id for order in page.orders} == {one["id"] for _, one in loaded.package.of_type("ActivityDefinition")}
    for group in {group.id for rule in loaded.plan.rules for group in rule.groups if group.conditions}:
        assert f'id="gate-{group}"' in html


def test_both_formats_carry_the_same_rules_and_the_content_hash(page: Review, html: str, markdown: str):
    ids = [re.findall(r'id="rule-([^"]+)"', text) for text in (html, markdown)]
    assert ids[0] == ids[1] == [rule.id for rule in page.rules]
    assert page.digest in html
    assert page.digest in markdown


def test_links_within_the_page_lead_somewhere_and_to_one_place(html: str, markdown: str):
    found = Tags(html)
    ids = Counter(found.values("id"))
    assert not [name for name, times in ids.items() if times > 1]
    assert not [address for address in found.values("href") if address[1:] not in ids]
    targets = set(re.findall(r'<a id="([^"]+)"', markdown))
    missing = {name for name in re.findall(r"\]\(#([^)]+)\)", markdown) if name not in targets}
    assert missing <= {"gaps"}


def test_the_same_content_gives_the_same_page(loaded: Loaded, played: list[Played], html: str):
    assert to_html(review(loaded, DAY, played)) == html


def test_an_update_shows_what_changes_and_nothing_else(page: Review):
    rows = [row for rule in page.rules for item in rule.suggestions for step in item.changes
            for effect in step.effects for row in effect.rows]  # fmt: skip
    assert rows
    assert all(row.before != row.after for row in rows)
    assert not {"id", "subject", "resource type"} & {row.element for row in rows}


def test_a_site_sees_its_own_values_and_what_it_has_switched_off(loaded: Loaded, played: list[Played]):
    page = review(load_plan(content_root(), loaded.plan.id, site=EXAMPLES / "site", validate=False), DAY, played)
    assert page.site
    assert any(item.shipped for item in page.parameters)
    assert any(rule.off for rule in page.rules)
    assert page.site in Tags(to_html(page)).text


# ---- nothing is loaded, nothing hostile gets through


def test_the_page_loads_nothing_and_runs_nothing(html: str, markdown: str):
    loads_nothing(html)
    assert "default-src 'none'" in html
    assert "<script" not in markdown
    no_links_but_our_own(markdown)


def test_hostile_content_stays_text(loaded: Loaded, played: list[Played]):
    package = copy.deepcopy(loaded.package)
    for _, one in package.of_type("ValueSet"):
        one["title"] = one["description"] = EVIL
        for include in one.get("compose", {}).get("include", ()):
            for concept in include.get("concept", ()):
                concept["display"] = EVIL
    for part in ("claims", "evidence", "choices"):
        for entry in package.evidence.get(part, {}).values():
            entry.update(says=EVIL, figures=EVIL, note=EVIL)
    rules = tuple(dataclasses.replace(rule, title=EVIL, description=EVIL) for rule in loaded.plan.rules)
    by_hook = {hook: tuple(rule for rule in rules if hook in rule.hooks) for hook in loaded.plan.hooks}
    plan = dataclasses.replace(loaded.plan, title=EVIL, rules=rules, rules_by_hook=by_hook)
    page = review(dataclasses.replace(loaded, plan=plan, package=package), DAY, played)
    hostile = to_html(page)
    loads_nothing(hostile)
    assert "alert(1)" in Tags(hostile).text
    text = to_markdown(page)
    assert not re.search(r"(?<!\\)<script", text)
    no_links_but_our_own(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\nb", "<p>a b</p>"),
        ("- **a** *b*\n- c", "<ul><li><strong>a</strong> <em>b</em></li><li>c</li></ul>"),
        ("|a|b|\n|---|---|\n|1|2\\|3|", "<table><tr><th>a</th><th>b</th></tr><tr><td>1</td><td>2|3</td></tr></table>"),
        ("a\n- b\n\nc", "<p>a</p><ul><li>b</li></ul><p>c</p>"),
        (r"\<script\> \*a\* \& \\", "<p>&lt;script&gt; *a* &amp; \\</p>"),
        ("<b onclick=x>&</b>", "<p>&lt;b onclick=x&gt;&amp;&lt;/b&gt;</p>"),
        ("[a](javascript:b)", "<p>[a](javascript:b)</p>"),
        ("\ue03cscript\ue03e", "<p>script</p>"),
        ("", ""),
    ],
)
def test_the_markdown_of_a_card_becomes_safe_html(text: str, shown: str):
    assert as_html(text) == shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a|b", r"a\|b"), ("<b>", r"\<b\>"), ("- a", r"\- a"), ("1. a", r"1\. a"), ("0.1.0", "0.1.0"), ("a\nb", "a b"),
        ("https://x.example", r"https\://x.example"), ("[a](b)", r"\[a\](b)"), (3, 3), (None, ""),
    ],
)  # fmt: skip
def test_content_is_literal_in_markdown(text: object, shown: object):
    assert literal(text) == shown


# ---- words


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        (r"\bABC\b|def", ("ABC", "…def…")),
        (r"(?-i:\bABC\b)", ("'ABC'",)),
        (r"3D[- ]?(heavily )?T2", ("…3D [heavily ]T2…",)),
        (r"\b(one|two)\b", ("(one / two)",)),
        (r"drops?\b", ("…drop[s]",)),
        (r"art[ei]fact\w*", ("…art(e/i)fact…",)),
    ],
)
def test_a_text_pattern_is_said_in_words(pattern: str, said: tuple[str, ...]):
    assert phrases(pattern) == said


def test_values_are_said_in_words():
    say = Speaker({"urn:s": "System"}, lambda concept: concept.get("text"), [{"resourceType": "Device", "id": "d"}])
    concept = {"coding": [{"system": "urn:s", "code": "1"}], "text": "Thing"}
    assert say.say(concept) == "Thing [System 1]"
    assert say.say({"coding": concept["coding"]}) == "System 1"
    assert say.say([{"text": "a"}, {"text": "a"}, {"text": "b"}]) == "a; b"
    assert say.say({"value": 1, "unit": "days", "system": "urn:s", "code": "d"}) == "1 day"
    assert say.say({"reference": "Device/d"}) == "device d"
    assert say.say(True) == "yes"


# ---- the command


@pytest.mark.parametrize("name", ["page.html", "page.md"])
def test_the_command_writes_the_page(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CDS_CONTENT", str(EXAMPLES / "plan-tiny"))
    out = tmp_path / name
    plan = plan_names(content_root())[0]
    done = CliRunner().invoke(main, ["review", "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert plan in out.read_text(encoding="utf-8")


@pytest.mark.parametrize("arguments", [["--plan", "nope"], ["--out", "page.pdf"]])
def test_the_command_refuses_what_it_cannot_do(tmp_path: Path, arguments: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["review", *arguments])
    assert done.exit_code == 1
    assert not list(tmp_path.iterdir())
