"""Mutate the content of each plan and play its cases. The exit status is 1 if a survivor has no reason, a reason has
no survivor, or too few mutants are noticed."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from itertools import groupby
from multiprocessing import get_context
from pathlib import Path

from cds_hooks.errors import CdsHooksError
from cds_hooks.reasoning.content import content_root, plan_names
from mutation import judging, report
from mutation.mutants import Mutant

AT_LEAST = 95.0  # per cent


def main() -> int:
    """Check all plans."""
    parser = argparse.ArgumentParser(prog="python -m mutation", description=__doc__)
    parser.add_argument("plan", nargs="?", help="one plan (default: all)")
    parser.add_argument("--only", default="", help="only mutants whose id contains this; then reasons are not checked")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    options = parser.parse_args()
    root = content_root()
    try:
        names = [options.plan] if options.plan else plan_names(root)
        return max([_check(root, name, options.only, options.jobs) for name in names])
    except CdsHooksError as error:
        print(error, file=sys.stderr)
        return 1


def _check(root: Path, name: str, only: str, jobs: int) -> int:
    started = time.monotonic()
    judge = judging.Judge(root, name)
    if broken := judge.broken():
        print(f"{name}: cases fail on the content as it is: {', '.join(broken)}", file=sys.stderr)
        return 1
    found = [mutant for mutant in judge.mutants if only in mutant.id]
    verdicts = _judged(judge, found, jobs)
    reasons = report.read_reasons(root / "plans" / name)
    print(f"{name}: {len(found)} mutants in {time.monotonic() - started:.0f} s\n")
    print("\n".join([*report.table(found, verdicts), "", *report.survivors(found, verdicts, reasons)]))
    wrong = [] if only else list(report.problems(found, verdicts, reasons, AT_LEAST))
    if wrong:
        print("\n" + "\n".join(wrong))
    return bool(wrong)


def _judged(judge: judging.Judge, found: Sequence[Mutant], jobs: int) -> dict[str, judging.Verdict]:
    """Verdicts by id. Mutants of one element stay together: what notices one often notices the next."""
    batches = [[mutant.id for mutant in group] for _, group in groupby(found, key=lambda mutant: mutant.names)]
    with get_context("fork").Pool(jobs, _start, (judge,)) as pool:  # forked: content and cases are there already
        return {verdict.mutant: verdict for batch in pool.imap_unordered(_work, batches) for verdict in batch}


_judge: list[judging.Judge] = []


def _start(judge: judging.Judge) -> None:
    _judge.append(judge)


def _work(ids: Sequence[str]) -> list[judging.Verdict]:
    return [_judge[0].judge(mutant) for mutant in _judge[0].mutants if mutant.id in ids]


if __name__ == "__main__":
    sys.exit(main())
