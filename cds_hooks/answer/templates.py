"""Card templates: one Markdown file per topic, its first line the summary, the rest the detail.

Rendered in a sandbox with strict undefined names. Strings from the chart come out as literal text: Markdown, HTML and
links in them are escaped, line breaks and control characters folded, length bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from typing import Any, Final

from jinja2 import StrictUndefined, Template, TemplateError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.visitor import NodeTransformer

from cds_hooks.answer.facts import Facts
from cds_hooks.chart import dates
from cds_hooks.chart.reading import as_list, codings, done_at, texts
from cds_hooks.errors import ContentError

SUFFIX: Final = ".md.j2"
FOOTER: Final = "_footer" + SUFFIX
_NAME: Final = re.compile(r"[A-Za-z0-9_-]+" + re.escape(SUFFIX))
_ONLY: Final = 'a part is taken in by {% include "_name.md.j2" %} and in no other way'
_LONGEST: Final = 120  # characters of one chart string on a card
_ACTIVE: Final = re.compile(r"([\\`*_\[\]()<>&~|!{}#$:=])")  # what Markdown acts on anywhere in a line
_LEADING: Final = re.compile(r"([+-]|\d+(?=[.]))")  # what it acts on at the start of one
_INVISIBLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]+")
#: Where an invisible joiner keeps a reader from finding an address: a scheme, a mail address, a host by its name.
_LINKLIKE: Final = re.compile(r"(?i)\b(https?|ftp|www|mailto)(?=[:.])|@|(?<=\w)\.(?=[^\W\d_]{2})")


class Words(str):
    """Text that our own content wrote: trusted, printed as it is."""

    __slots__ = ()


def plain(value: Any) -> str:
    """A chart string as one bounded line without control characters."""
    text = " ".join(_INVISIBLE.sub(" ", str(value)).split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"


def escaped(value: Any) -> str:
    """A chart string as literal Markdown: what would be markup is escaped, no address becomes a link by itself.

    Only what needs it: some clients print the backslashes.
    """
    text = _LINKLIKE.sub(lambda match: match[0] + "\u2060", plain(value))
    text = _ACTIVE.sub(r"\\\1", text)
    start = _LEADING.match(text)
    if start is None:
        return text
    place = start.end() if start[0].isdigit() else 0
    return f"{text[:place]}\\{text[place:]}"


def short(value: Any, length: int = 40) -> str:
    """Cut at a word to at most `length` characters: for summaries, which are short themselves."""
    text = plain(value)
    if len(text) <= length:
        return text
    cut = text[: length - 1].rsplit(" ", 1)[0]
    return cut.rstrip(",;: ") + "…"


class _Sandbox(ImmutableSandboxedEnvironment):
    """The sandbox, with a short way to facts: they hold plain values only, and their names begin with a letter."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        """The attribute of an object, undefined if there is none or it is not safe."""
        if type(obj) is Facts and attribute[:1].isalpha():
            return getattr(obj, attribute)
        return super().getattr(obj, attribute)


class _PutIn(NodeTransformer):
    """Replaces each include by what a function makes of it."""

    def __init__(self, part: Callable[[nodes.Include], nodes.Node]) -> None:
        self._part: Final = part

    def visit_Include(self, node: nodes.Include) -> nodes.Node:
        return self._part(node)


class Cards:
    """The compiled templates of one plan."""

    def __init__(self, folder: Path, display_of: Callable[[str | None, str], str | None]) -> None:
        self.folder: Final = folder
        self._display_of: Final = display_of
        self._details = self._environment(lambda value: value if isinstance(value, Words | int) else escaped(value))
        self._summaries = self._environment(lambda value: value if isinstance(value, Words | int) else plain(value))
        self.topics: Final = sorted(
            path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("_")
        )
        self._compiled: dict[str, tuple[Any, Any]] = {topic: self._compile(topic) for topic in self.topics}

    def _environment(self, finalize: Callable[[Any], Any]) -> ImmutableSandboxedEnvironment:
        environment = _Sandbox(
            undefined=StrictUndefined, finalize=finalize,
            trim_blocks=True, lstrip_blocks=True, autoescape=False,
            keep_trailing_newline=True,  # of a part that is taken in: what follows it begins on a new line
        )  # fmt: skip
        environment.filters.update({
            "day": lambda value: Words(dates.day(_when(value)) or "date unknown"),
            "words": self.words, "names": self.names, "short": short,
        })  # fmt: skip
        return environment

    def _compile(self, topic: str) -> tuple[Any, Any]:
        summary, detail = self._trees(topic)
        return self._ready(topic, self._summaries, summary), self._ready(topic, self._details, detail)

    def _ready(self, topic: str, environment: ImmutableSandboxedEnvironment, tree: nodes.Template) -> Template:
        try:
            code = environment.compile(tree, topic + SUFFIX)
        except TemplateError as error:
            raise _wrong(topic, error) from None
        # A dict of its own: Jinja would chain two, and walk the chain for each card.
        return environment.template_class.from_code(environment, code, dict(environment.globals))

    def _trees(self, topic: str) -> tuple[nodes.Template, nodes.Template]:
        """Summary and detail, with all that they take in."""
        summary, _, detail = self.source(topic).partition("\n")
        if (self.folder / FOOTER).exists():
            detail = detail.rstrip() + "\n\n" + self.source("_footer")
        return self._whole(topic, summary, (topic,)), self._whole(topic, "\n" + detail, (topic,))

    def _whole(self, name: str, text: str, above: tuple[str, ...]) -> nodes.Template:
        """The tree of a text with those of its parts in it: put together at start, not for each card."""
        try:
            tree = self._details.parse(text, name + SUFFIX)
        except TemplateError as error:
            raise _wrong(name, error) from None
        other = next(tree.find_all((nodes.Import, nodes.FromImport, nodes.Extends)), None)
        if other is not None:
            raise ContentError(name + SUFFIX, f"line {other.lineno}", _ONLY)
        whole: nodes.Template = _PutIn(lambda part: self._part(name, part, above)).visit(tree)
        return whole

    def _part(self, name: str, include: nodes.Include, above: tuple[str, ...]) -> nodes.Node:
        wanted = include.template.value if isinstance(include.template, nodes.Const) else None
        if not isinstance(wanted, str) or not _NAME.fullmatch(wanted) or include.ignore_missing:
            raise ContentError(name + SUFFIX, f"line {include.lineno}", _ONLY)
        part = wanted.removesuffix(SUFFIX)
        if part in above:
            raise ContentError(part + SUFFIX, "include", "the template takes itself in")
        # A scope: what a part sets stays its own.
        return nodes.Scope(self._whole(part, self.source(part), (*above, part)).body, lineno=include.lineno)

    def source(self, name: str) -> str:
        """The text of a template; raises ContentError if there is none."""
        path = self.folder / (name + SUFFIX)
        if not path.is_file():
            raise ContentError(f"cards/{self.folder.name}/{name}{SUFFIX}", "", "template is missing")
        return path.read_text(encoding="utf-8")

    def facts_read(self, topic: str) -> frozenset[str]:
        """The facts (`f.name`) that the templates of a topic read, those of its parts counted in."""
        return frozenset(node.attr for tree in self._trees(topic) for node in tree.find_all(nodes.Getattr)
                         if isinstance(node.node, nodes.Name) and node.node.name == "f")  # fmt: skip

    def render(self, topic: str, context: Mapping[str, Any]) -> tuple[str, str]:
        """(summary, detail) of a card; raises ContentError when the template does not fit the facts."""
        try:
            summary, detail = self._compiled[topic]
            return " ".join(summary.render(context).split()), _tidied(detail.render(context))
        except (TemplateError, TypeError, ArithmeticError) as error:
            raise ContentError(topic + SUFFIX, "", f"cannot be rendered: {error}") from None

    # ---- filters

    def words(self, concept: Any) -> str | None:
        """The best name of a concept or resource: its own text, else a display of ours, else the code."""
        if isinstance(concept, dict) and "resourceType" in concept:
            keys = ("code", "medicationCodeableConcept", "type", "vaccineCode")
            names = [concept[key] for key in keys if isinstance(concept.get(key), dict)]
            spoken = [*as_list(concept.get("procedureCode")), *(
                one.get("name") for one in as_list(concept.get("deviceName")) if isinstance(one, dict))]  # fmt: skip
            concept = next((name for name in (*names, *spoken) if next(texts(name), None) or codings(name)), None)
        name = next(texts(concept), None)
        if name is None:
            pairs = codings(concept)
            name = next((found for pair in pairs if (found := self._display_of(*pair))), pairs[0][1] if pairs else None)
        return name

    def names(self, concepts: Any) -> str:
        """Several names in one line, without repetition."""
        found = [name for item in (concepts or ()) if (name := self.words(item))]
        return ", ".join(dict.fromkeys(plain(name) for name in found))


def _when(value: Any) -> Any:
    """The date of a resource's event; a date as it is."""
    return done_at(value) if isinstance(value, dict) and "resourceType" in value else value


def _tidied(text: str) -> str:
    """Lines without trailing blanks, at most one empty line in a row."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines))


def clock(today: date) -> dict[str, Callable[[Any], Any]]:
    """Template functions that depend on the day of the call."""

    def months_since(value: Any) -> int | None:
        return dates.whole_months(dates.day(_when(value)), today)

    return {"months_since": months_since}


def _wrong(name: str, error: TemplateError) -> ContentError:
    return ContentError(name + SUFFIX, f"line {getattr(error, 'lineno', 1)}", str(error))
