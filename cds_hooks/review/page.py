"""What a reviewer is shown: one data structure for all formats. Strings are raw; a format escapes what it prints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class Named:
    """Something that is shown elsewhere on the page: its anchor is made of `kind` and `id`."""

    kind: str  # rule | set | fact | gate | tension | label | parameter
    id: str
    title: str


@dataclass(frozen=True, slots=True)
class Question:
    """A condition: in plain words, as the machine reads it, and what it rests on."""

    text: str
    expression: str
    rests_on: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Tension:
    """Sources that disagree, and what the cards do about it."""

    id: str
    says: str
    known: str
    shown: str
    claims: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One entry of the evidence register."""

    label: str
    kind: str  # claims | evidence | choices
    says: str
    figures: str
    source: str
    read: str  # how it was read, in words; empty for what needs no source
    verified: bool
    role: str
    note: str
    value: str
    tensions: tuple[Tension, ...]
    cited_by: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One element of an order, before and after a suggestion."""

    element: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Effect:
    """What an accepted change does to one order of a case."""

    order: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One change of a suggestion, with its effects in the first case that shows it."""

    kind: str
    text: str
    conditions: tuple[Question, ...]
    case: str
    effects: tuple[Effect, ...]


@dataclass(frozen=True, slots=True)
class Suggestion:
    """A button on the card."""

    label: str
    recommended: bool
    conditions: tuple[Question, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class CaseLine:
    """Cases of one title in one line; `instead` are the other rules that spoke in them.

    `own`: from the file that is named like the rule's family, where the telling cases are.
    """

    title: str
    own: bool
    when: str
    times: int
    instead: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Example:
    """A case with the card that came."""

    title: str
    when: str
    patient: str
    chart: tuple[str, ...]
    orders: tuple[str, ...]
    label: str
    summary: str
    detail: str  # Markdown
    buttons: tuple[str, ...]
    beside: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A rule with everything around it."""

    id: str
    topic: str
    title: str
    description: str
    place: int
    hooks: tuple[str, ...]
    indicator: str
    level: str
    off: bool
    muted: tuple[str, ...]  # hooks, in words, on which a card of this indicator is not shown
    gates: tuple[Named, ...]
    one_of: tuple[Named, ...]
    suppresses: tuple[Named, ...]
    suppressed_by: tuple[Named, ...]
    conditions: tuple[Question, ...]
    firing: tuple[CaseLine, ...]
    silent: tuple[CaseLine, ...]
    undecided: tuple[CaseLine, ...]
    evidence: tuple[Statement, ...]
    background: tuple[Statement, ...]  # the register names the topic, the rule does not cite it
    parameters: tuple[Named, ...]
    value_sets: tuple[Named, ...]
    more_value_sets: tuple[Named, ...]  # only for the card's text and suggestions
    example: Example | None
    suggestions: tuple[Suggestion, ...]

    @property
    def choices(self) -> tuple[Statement, ...]:
        """What is the makers' own choice."""
        return tuple(entry for entry in (*self.evidence, *self.background) if entry.kind == "choices")

    @property
    def tensions(self) -> tuple[Tension, ...]:
        """Where the sources that it cites disagree, each once."""
        return tuple({item.id: item for entry in self.evidence for item in entry.tensions}.values())


@dataclass(frozen=True, slots=True)
class Family:
    """Rules whose topics begin with the same word."""

    id: str
    titles: tuple[str, ...]
    rules: tuple[Rule, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """Conditions that stand before several rules."""

    id: str
    title: str
    conditions: tuple[Question, ...]
    rules: int


@dataclass(frozen=True, slots=True)
class Parameter:
    """A value that a site may change."""

    name: str
    value: str
    shipped: str  # the value without the site's layer, if that is another one
    meaning: str


@dataclass(frozen=True, slots=True)
class Code:
    """One code of a value set or order. `note` says more than the display does."""

    system: str
    code: str
    display: str
    verified: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class ValueSet:
    """A set of codes and words that mean the same to the rules."""

    id: str
    title: str
    description: str
    codes: tuple[Code, ...]
    members: tuple[Named, ...]
    words: tuple[str, ...]
    pattern: str
    rules: tuple[Named, ...]


@dataclass(frozen=True, slots=True)
class Order:
    """An order that a suggestion may create."""

    id: str
    title: str
    description: str
    codes: tuple[Code, ...]
    contents: tuple[tuple[str, str], ...]  # (element, expression)


@dataclass(frozen=True, slots=True)
class Replacement:
    """Codes that a suggestion replaces within their own system."""

    id: str
    title: str
    description: str
    pairs: tuple[tuple[Code, Code], ...]


@dataclass(frozen=True, slots=True)
class Fact:
    """A named value that conditions rest on; an input is one that is read from the chart as it is."""

    name: str
    question: Question


@dataclass(frozen=True, slots=True)
class Source:
    """Where evidence comes from."""

    id: str
    kind: str
    text: str
    address: str
    read: str
    basis: bool


@dataclass(frozen=True, slots=True)
class Review:
    """The page."""

    plan: str
    title: str
    description: str
    version: str
    status: str
    digest: str
    site: str
    generated: date
    played: str
    card_limit: int
    quiet: tuple[tuple[str, str], ...]  # (hook, lowest indicator), in words
    override_reasons: tuple[str, ...]
    families: tuple[Family, ...]
    gates: tuple[Gate, ...]
    parameters: tuple[Parameter, ...]
    facts: tuple[Fact, ...]
    inputs: tuple[Fact, ...]
    value_sets: tuple[ValueSet, ...]
    orders: tuple[Order, ...]
    replacements: tuple[Replacement, ...]
    tensions: tuple[Tension, ...]
    unused_claims: tuple[Statement, ...]
    used_claims: tuple[Statement, ...]
    choices: tuple[Statement, ...]
    evidence: tuple[Statement, ...]
    unverified: tuple[Statement, ...]
    sources: tuple[Source, ...]
    gaps: tuple[str, ...]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """All rules, as the page shows them."""
        return tuple(rule for family in self.families for rule in family.rules)
