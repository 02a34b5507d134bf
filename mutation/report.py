"""What came of a run: a table by kind, then each survivor with its reason, then what is wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from cds_hooks.errors import ContentError
from cds_hooks.reasoning.content import read_yaml
from mutation.judging import Verdict
from mutation.mutants import Mutant

REASONS = "mutation-survivors.yaml"


def read_reasons(folder: Path) -> dict[str, str]:
    """The file of reasons: a mapping from the id of a survivor to why no case can, or need, notice it."""
    path = folder / REASONS
    documents = read_yaml(path) if path.exists() else []
    reasons: dict[str, str] = {}
    for document in documents:
        if not isinstance(document, dict) or not all(isinstance(value, str) and value for value in document.values()):
            raise ContentError(REASONS, "", "expected a mapping from ids to reasons")
        reasons.update(document)
    return reasons


def table(found: Sequence[Mutant], verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """Mutants by kind: how many, noticed by a case, noticed by lint only, survived."""
    yield f"{'kind':<22}{'mutants':>9}{'by case':>9}{'by lint':>9}{'survived':>10}{'killed':>9}"
    kinds = dict.fromkeys(mutant.kind for mutant in found)
    for kind in kinds:
        yield _line(kind, [verdicts[mutant.id] for mutant in found if mutant.kind == kind])
    yield _line("all", list(verdicts.values()))


def _line(name: str, verdicts: Sequence[Verdict]) -> str:
    cases, lint = (sum(verdict.how == how for verdict in verdicts) for how in ("case", "lint"))
    survived = len(verdicts) - cases - lint
    return f"{name:<22}{len(verdicts):>9}{cases:>9}{lint:>9}{survived:>10}{share(verdicts):>8.1f}%"


def share(verdicts: Sequence[Verdict]) -> float:
    """Percentage of mutants that were noticed."""
    return 100 * sum(bool(verdict.how) for verdict in verdicts) / len(verdicts) if verdicts else 100.0


def survivors(found: Sequence[Mutant], verdicts: Mapping[str, Verdict], reasons: Mapping[str, str]) -> Iterator[str]:
    """Each survivor: its id, what was changed, why it may survive."""
    for mutant in found:
        if not verdicts[mutant.id].how:
            yield mutant.id
            yield f"    changed: {mutant.change}"
            yield f"    reason:  {reasons.get(mutant.id, 'NONE GIVEN')}"


def problems(
    found: Sequence[Mutant], verdicts: Mapping[str, Verdict], reasons: Mapping[str, str], at_least: float
) -> Iterator[str]:
    """What makes the run fail."""
    alive = {mutant.id for mutant in found if not verdicts[mutant.id].how}
    for identity in sorted(alive - reasons.keys()):
        yield f"no reason in {REASONS}: {identity}"
    for identity in sorted(reasons.keys() - alive):
        yield f"stale reason in {REASONS}: {identity}"
    if (killed := share(list(verdicts.values()))) < at_least:
        yield f"{killed:.1f}% of the mutants were noticed; {at_least:g}% are needed"
