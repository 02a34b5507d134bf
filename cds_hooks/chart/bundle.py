"""One page of a search, however it came: what in a Bundle is an answer, and whether it is all of it.

A Bundle that holds no usable answer must not be read as "there is none": entries that are damaged or report an error
leave the page incomplete. What comes along with matches (included resources, information of the server) does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cds_hooks.chart.reading import as_list

#: Search modes of entries that are no matches: `total` does not count them (FHIR R4, Bundle.total).
_EXTRAS: Final = ("include", "outcome")
_ERRORS: Final = ("error", "fatal")
#: Codes of issues that are no errors, whatever the severity beside them says (FHIR R4, issue-type).
_HARMLESS: Final = ("informational", "success")


@dataclass(slots=True)
class Page:
    """The resources of the wanted type, how many entries may be matches, what is wrong, where it goes on.

    `problem` is None, "error in the answer" or "damaged entry". `total` is None if it makes no sense, `next` the URL of
    the next page, empty if there is a link to it that names none.
    """

    resources: list[dict[str, Any]]
    matches: int
    problem: str | None
    total: int | None
    next: str | None

    @property
    def cut(self) -> bool:
        """Whether there is more than this page."""
        return self.next is not None or (self.total is not None and self.total > self.matches)


def page_of(bundle: Mapping[str, Any], kind: str) -> Page:
    """Read a Bundle whose matches are resources of a type. Never raises, whatever is in it."""
    resources: list[dict[str, Any]] = []
    odd: list[Any] = []
    entries = as_list(bundle.get("entry"))
    for entry in entries:
        resource = entry.get("resource") if isinstance(entry, dict) else None
        if (
            isinstance(resource, dict)
            and resource.get("resourceType") == kind
            and ("search" not in entry or not _is_extra(entry))
        ):
            resources.append(resource)
        else:
            odd.append(entry)
    total = bundle.get("total")
    return Page(
        resources,
        matches=len(entries) - sum(map(_is_extra, odd)),
        problem=_problem(odd, alone=not resources) if odd else None,
        total=total if type(total) is int else None,  # not bool
        next=_next(bundle),
    )


def _is_extra(entry: Any) -> bool:
    search = entry.get("search") if isinstance(entry, dict) else None
    return isinstance(search, dict) and search.get("mode") in _EXTRAS


def _problem(odd: list[Any], *, alone: bool) -> str | None:
    """What entries that are no matches say of the answer. Other types beside matches do no harm, alone they do."""
    found = None
    for entry in odd:
        extra, resource = _is_extra(entry), entry.get("resource") if isinstance(entry, dict) else None
        kind = resource.get("resourceType") if isinstance(resource, dict) else None
        if kind == "OperationOutcome" and _is_error(resource, told=extra):
            return "error in the answer"
        if kind != "OperationOutcome" and not extra and (alone or not isinstance(kind, str)):
            found = "damaged entry"
    return found


def _is_error(outcome: Any, *, told: bool) -> bool:
    """Whether an OperationOutcome reports an error; one in place of a match that does not say is taken for one."""
    issues = [issue for issue in as_list(outcome.get("issue")) if isinstance(issue, dict)]
    if any(issue.get("severity") in _ERRORS and issue.get("code") not in _HARMLESS for issue in issues):
        return True
    return not told and not any(issue.get("severity") for issue in issues)


def _next(bundle: Mapping[str, Any]) -> str | None:
    for link in as_list(bundle.get("link")):
        if isinstance(link, dict) and link.get("relation") == "next":
            url = link.get("url")
            return url if isinstance(url, str) else ""
    return None
