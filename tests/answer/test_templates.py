"""Card templates: chart strings stay literal text, however hostile; a template that does not fit is an error."""

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from jinja2 import FileSystemLoader
from jinja2.sandbox import SandboxedEnvironment

from cds_hooks.answer.templates import Cards, Words, _tidied, clock, escaped, plain
from cds_hooks.errors import ContentError

BIDI = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "&lt;b&gt; &#60;", "[x](https://evil.example.org)",
    "![x](https://evil.example.org/x)", "<https://evil.example.org>", "https://evil.example.org",
    "www.evil.example.org",
    "javascript:alert(1)", "[x]: https://evil.example.org", "# heading", "* item", "1. item", "> quote", "---", "===",
    "| a | b |", "``` fence", "~~~", "`code`", "**bold** __bold__ ~~gone~~", "line\nbreak\r\n# x", "\ttab\t# x",
    "para\u2029graph", "a \\ b \\< \\[", "{{ 7 * 7 }} {% raw %}", "$$x$$", "\u202etxt.exe", "\x00\x07\x1b[31m",
    "\ud800", "\u200b\ufeff", "x" * 20_000, "# " * 10_000, "`" * 500, "[" * 500, "&" * 300, "", " ",
]  # fmt: skip
#: A Markdown reader sees these only if no backslash stands before them.
ACTIVE = re.compile(r"(?<!\\)(?:\\\\)*[<>\[\]()#*_`~|!{}&$:=]")


@pytest.fixture
def cards(tmp_path: Path) -> Callable[..., Cards]:
    def make(display_of: Any = lambda system, code: None, **templates: str) -> Cards:
        for name, text in templates.items():
            (tmp_path / f"{name}.md.j2").write_text(text, "utf-8")
        return Cards(tmp_path, display_of)

    return make


def rendered(cards: Callable[..., Cards], template: str, **f: Any) -> tuple[str, str]:
    return cards(topic=template).render("topic", {"f": f, **clock(date(2026, 11, 21))})


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_hostile_text_is_literal_bounded_and_on_one_line(text: str) -> None:
    found = escaped(text)
    assert not ACTIVE.search(found)
    assert found == "" or found.isprintable() or "\u2060" in found
    assert len(found) <= 2 * 120 + 10
    assert len(plain(text)) <= 120
    assert plain(text).isprintable()


def test_words_of_the_chart_can_still_be_read() -> None:
    assert plain("  Müller's  “MRI”\n(head) ") == "Müller's “MRI” (head)"
    assert re.sub(r"\\(.)", r"\1", escaped("MRI (head), 3 T; w/o & w")) == "MRI (head), 3 T; w/o & w"
    assert plain("x" * 121) == "x" * 119 + "…"


# On a summary line the answer model would refuse them, and the card would be lost.
@pytest.mark.parametrize("character", BIDI, ids=ascii)
def test_no_character_that_turns_the_direction(character: str) -> None:
    assert character not in plain(f"a{character}b")


# GitHub's Markdown finds bare e-mail addresses in text, after backslashes are resolved, and makes them links.
def test_an_email_address_does_not_become_a_link() -> None:
    assert not re.search(r"[\w.+-]+\\?@\w", escaped("write to doctor@evil.example.org"))


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_hostile_text_on_a_card(cards: Callable[..., Cards], text: str) -> None:
    template = "Found {{ f.name | words }}\n- {{ f.name | words }}\n- {{ f.all | names }}\n- {{ f.raw }}\n"
    template += "{% if f.raw %}end{% endif %}"
    concept = {"text": text}
    summary, detail = rendered(cards, template, name=concept, all=[concept, concept], raw=text)
    assert "\n" not in summary
    assert summary.startswith("Found")
    lines = detail.splitlines()
    assert len(lines) == 3 + bool(text)
    assert all(line == "-" or line.startswith("- ") for line in lines[:3])
    assert not any(ACTIVE.search(line.removeprefix("- ")) for line in lines)


def test_our_own_text_stays_markdown(cards: Callable[..., Cards]) -> None:
    template = "A *summary*, {{ f.n }}\n\n**bold** {{ f.w }} {{ f.s }}"
    summary, detail = rendered(cards, template, n=3, w=Words("**w**"), s="**s**")
    assert (summary, detail) == ("A *summary*, 3", r"**bold** **w** \*\*s\*\*")


def test_the_first_line_is_the_summary_and_the_footer_comes_last(cards: Callable[..., Cards]) -> None:
    made = cards(topic="One   line\n\n\n\nText  \n{% if false %}\nx\n{% endif %}\n", _footer="*Foot*", _part="P")
    assert made.topics == ["topic"]
    assert made.render("topic", {"f": {}}) == ("One line", "Text\n\n*Foot*")


def test_parts_and_the_footer_do_not_run_into_one_paragraph(cards: Callable[..., Cards]) -> None:
    part = '{% include "_part.md.j2" %}\n'
    made = cards(topic=f"S\n- point\n{part}{part}\nText\n{part}", _footer="*Foot*", _part="\nPart\n")
    assert made.render("topic", {"f": {}})[1] == "- point\n\nPart\n\nPart\n\nText\n\nPart\n\n*Foot*"


@pytest.mark.parametrize(
    "template",
    [
        "S {{ f.nothing }}\nD",
        "S\n{{ f.nothing }}",
        "S\n{% if f.nothing %}x{% endif %}",
        "S\n{{ unknown }}",
        "S\n{{ f.list[0] }}",
        "S\n{{ f.n / 0 }}",
        "S\n{{ f.list + 1 }}",
        "S\n{{ f.__class__.__mro__ }}",
        "S\n{{ f.list.append(1) }}",
        "S\n{{ range(99999999) | list | length }}",
    ],
)
def test_what_does_not_fit_is_a_content_error(cards: Callable[..., Cards], template: str) -> None:
    with pytest.raises(ContentError, match="cannot be rendered") as caught:
        rendered(cards, template, list=[], n=1)
    assert caught.value.file == "topic.md.j2"


@pytest.mark.parametrize("template", ["S {{", "S\n{% if %}", "S\n{{ x | nofilter }}", "S\n{% endif %}", "S\n{{ 'x }}"])
def test_broken_templates_are_refused_at_start(cards: Callable[..., Cards], template: str) -> None:
    with pytest.raises(ContentError) as caught:
        cards(topic=template)
    assert caught.value.file == "topic.md.j2"


def test_a_missing_template(cards: Callable[..., Cards]) -> None:
    with pytest.raises(ContentError, match=r"nobody\.md\.j2: template is missing"):
        cards(topic="S\nD").facts_read("nobody")


def test_facts_that_a_template_reads_with_those_of_its_parts(cards: Callable[..., Cards]) -> None:
    made = cards(
        topic='S {{ f.a }}\n{% include "_part.md.j2" %}{% if f.b and not f.c %}{{ f.d[0] | day }}{% endif %}',
        _part='{{ f.e | names }}{% include "_deeper.md.j2" %}', _deeper="{{ f.h }}", _footer="{{ f.g }}",
    )  # fmt: skip
    assert made.facts_read("topic") == set("abcdegh")


@pytest.mark.parametrize(
    ("part", "file", "reason"),
    [
        ('{% include "_part.md.j2" %}', "_part", "takes itself in"),
        ('{% include "topic.md.j2" %}', "topic", "takes itself in"),
        ('{% include "_none.md.j2" %}', "_none", "template is missing"),
        ('{% include "../_other.md.j2" %}', "_part", "in no other way"),
        ('{% include "_other.txt" %}', "_part", "in no other way"),
        ('\n\n{% include f.a %}', "_part.md.j2: line 3", "in no other way"),
        ('{% include "_other.md.j2" ignore missing %}', "_part", "in no other way"),
        ('{% import "_other.md.j2" as x %}', "_part", "in no other way"),
        ('{% extends "_other.md.j2" %}', "_part", "in no other way"),
        ("\n{% if f.a %}x", "_part.md.j2: line 2", "Unexpected end of template"),
        ("{% endif %}", "_part", "unknown tag 'endif'"),
    ],
)
def test_parts_that_cannot_be_taken_in_are_refused_at_start(
    cards: Callable[..., Cards], part: str, file: str, reason: str
) -> None:
    with pytest.raises(ContentError, match=re.escape(reason)) as caught:
        cards(topic='S\n{% if f.b %}{% include "_part.md.j2" %}{% endif %}', _part=part, _other="x")
    assert Path(caught.value.file).name.startswith(file.partition(":")[0])
    assert file in str(caught.value)


def test_errors_name_the_line_of_the_file(cards: Callable[..., Cards]) -> None:
    with pytest.raises(ContentError, match=r"topic\.md\.j2: line 3: "):
        cards(topic="S\nD\n{% if %}")


@pytest.mark.parametrize("a", ["a", ""])
@pytest.mark.parametrize(
    ("topic", "part"),
    [
        ('One\n  {% include "_p.md.j2" %}\nTwo', "{% if f.a %}\n- {{ f.a }}\n{% endif %}\n"),
        ('One {% include "_p.md.j2" %} two.', "{% if f.a %}and{% endif %}\n"),
        ('One {# {% include "_p.md.j2" %} #} two', "{# why #} text"),
        ('{% raw %}{% include "_p.md.j2" %}{% endraw %}', "text"),
        ('Text {% include "_p.md.j2" %}\n\n- item', "{% if f.a %}more{% endif %}"),
        ('One\n\n{% include "_p.md.j2" %}', "{%- if f.a %}- x{% endif %}"),
        ('One {%- include "_p.md.j2" -%} two', " x "),
        ('A {% include "_p.md.j2" %}', "  {% if f.a %}x{% endif %}"),
        ('{% set x = 1 %}{% include "_p.md.j2" %}{{ x }}', "{{ x }}{% set x = 2 %}{{ x }}"),
        ('{% for y in "ab" %}{% include "_p.md.j2" %}{% endfor %}', "{{ y }}"),
        ('{% include "_p.md.j2" %}{% include "_p.md.j2" %}', "x\n{% macro m() %}{{ f.a }}{% endmacro %}{{ m() }}"),
    ],
)
def test_parts_are_taken_in_as_jinja_takes_them_in(
    cards: Callable[..., Cards], tmp_path: Path, topic: str, part: str, a: str
) -> None:
    made = cards(topic=f"S\n{topic}", _p=part)
    jinja = SandboxedEnvironment(
        loader=FileSystemLoader(tmp_path), trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    expected = jinja.from_string(topic).render(f={"a": a})
    assert made.render("topic", {"f": {"a": a}})[1] == _tidied(expected)


@pytest.mark.parametrize(
    ("concept", "expected"),
    [
        ({"text": "own", "coding": [{"display": "display", "code": "x"}]}, "own"),
        ({"coding": [{"display": "display", "code": "x"}]}, "display"),
        ({"coding": [{"system": "urn:s", "code": "x"}]}, "ours"),
        ({"coding": [{"system": "urn:t", "code": "x"}]}, "x"),
        ({"resourceType": "Condition", "code": {"text": "own"}}, "own"),
        ({"resourceType": "ImagingStudy", "procedureCode": [{"text": "own"}]}, "own"),
        ({"resourceType": "MedicationRequest", "medicationCodeableConcept": {"text": "own"}}, "own"),
        ({"resourceType": "Device", "type": {"text": "own"}}, "own"),
        *[(value, None) for value in (None, {}, [], 5, {"coding": []}, {"resourceType": "Condition"},
                                      {"resourceType": "Condition", "code": []}, {"text": 5}, {"coding": [None, {}]})],
    ],
)  # fmt: skip
def test_the_best_name(cards: Callable[..., Cards], concept: Any, expected: str | None) -> None:
    def display_of(system: str | None, code: str) -> str | None:
        return "ours" if (system, code) == ("urn:s", "x") else None

    assert cards(display_of).words(concept) == expected


def test_names_come_once_and_skip_what_has_none(cards: Callable[..., Cards]) -> None:
    concepts = [{"text": "a"}, {}, {"text": "b"}, {"text": "a"}, None]
    assert cards().names(concepts) == "a, b"
    assert cards().names(None) == ""


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("2026-03-04T05:06:07Z", "2026-03-04"),
        ("2026-03", "2026-03"),
        ({"start": "2026-03-04"}, "2026-03-04"),
        ({"resourceType": "Procedure", "performedDateTime": "2026-03-04"}, "2026-03-04"),
    ],
)
def test_days_and_months(cards: Callable[..., Cards], value: Any, expected: str) -> None:
    summary, detail = rendered(cards, "{{ f.x | day }}\n{{ months_since(f.x) }}", x=value)
    assert (summary, detail) == (expected, "8")


@pytest.mark.parametrize("value", [None, "soon", {}, {"resourceType": "Procedure"}])
def test_a_date_that_is_not_known_does_not_read_as_none(cards: Callable[..., Cards], value: Mapping[str, Any]) -> None:
    summary, _ = rendered(cards, "On {{ f.x | day }}\nD", x=value)
    assert "None" not in summary
