"""The commands: serve, lint, test, explain, call, evidence, export, review, report."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from cds_hooks import __version__
from cds_hooks.errors import CdsHooksError, StorageError
from cds_hooks.reasoning.content import content_root


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="cds-hooks")
def main() -> None:
    """A CDS Hooks server whose clinical content is FHIR data."""


def _fail(error: Exception) -> None:
    click.echo(f"cds-hooks: {error}", err=True)
    sys.exit(1)


@main.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, type=click.IntRange(1, 65535))
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file with settings.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder for what the server stores.")
def serve(host: str, port: int, config: Path | None, data: Path | None) -> None:
    """Start the production server. All content is checked before the port opens."""
    from cds_hooks.lint import lint_static
    from cds_hooks.loading import load_all
    from cds_hooks.recall import check_kept
    from cds_hooks.service import CdsService
    from cds_hooks.serving import check_port, command, counters_folder
    from cds_hooks.settings import check_bind, load_settings
    from cds_hooks.store.opening import prepare
    from cds_hooks.wsgi import ADDRESS, CONFIG, build_gate, build_tracing

    if data is not None:
        os.environ["CDS_HOOKS_DATA"] = str(data.resolve())
    if config is not None:
        os.environ[CONFIG] = str(config.resolve())
    try:
        settings = load_settings(config)
        check_bind(settings, host)
        plans = load_all(site=settings.site)
        for loaded in plans:
            for error in lint_static(loaded):
                raise error
        build_gate(settings, CdsService(plans).ids())
        build_tracing(settings)
        check_port(host, port)
        check_kept(plans, settings.storage.keep_days)
        prepare(settings.storage, settings.data)
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counters_folder(settings.data, port))
        os.environ[ADDRESS] = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        argv = command("cds_hooks.wsgi:application", host, port, settings.server.workers, settings.server.threads)
    except CdsHooksError as error:
        _fail(error)
    os.execv(argv[0], argv)  # noqa: S606 - our own argv, no shell


_SITE = click.option("--site", type=click.Path(exists=True, file_okay=False, path_type=Path),
                     help="Folder with a site's own layer over the plans.")  # fmt: skip


@main.command()
@_SITE
def lint(site: Path | None) -> None:
    """Check all content: FHIR, expressions, templates, evidence, and every case."""
    from cds_hooks.lint import lint as check

    try:
        errors = list(check(content_root(), datetime.now().astimezone(), site))
    except CdsHooksError as error:
        _fail(error)
    for found in errors:
        click.echo(str(found))
    click.echo(f"{len(errors)} problem(s)" if errors else "content is fine")
    sys.exit(bool(errors))


@main.command()
@click.argument("plan", required=False)
@click.option("-v", "--verbose", is_flag=True, help="Show the cases that passed, too.")
@_SITE
def test(plan: str | None, verbose: bool, site: Path | None) -> None:
    """Play the cases of a plan (default: all plans) and show which rules they cover."""
    from cds_hooks.cases import run_cases, run_site_cases
    from cds_hooks.lint import coverage
    from cds_hooks.loading import check_site_folder, load_plan
    from cds_hooks.reasoning.content import plan_names

    passed = failed = 0
    try:
        root = content_root()
        check_site_folder(root, site)
        if plan not in (None, *plan_names(root)):
            raise CdsHooksError(f"PLAN: one of {', '.join(plan_names(root)) or 'none, there is no plan'}")
        for name in [plan] if plan else plan_names(root):
            loaded = load_plan(root, name, site=site)
            now = datetime.now().astimezone()
            results = [*run_cases(loaded, now), *run_site_cases(loaded, now)]
            for result in results:
                passed, failed = passed + (not result.problems), failed + bool(result.problems)
                if verbose or result.problems:
                    click.echo(f"{'FAIL' if result.problems else 'ok  '} {result.case.file} {result.case.id}")
                for problem in result.problems:
                    click.echo(f"     {problem}")
            _coverage(coverage(loaded, results))
    except CdsHooksError as error:
        _fail(error)
    click.echo(f"{passed} passed, {failed} failed")
    sys.exit(bool(failed))


def _coverage(table: dict[str, dict[str, int]]) -> None:
    kinds = list(next(iter(table.values())))
    click.echo(f"{'rule':<40}" + "".join(f"{kind:>10}" for kind in kinds))
    for rule, counts in table.items():
        click.echo(f"{rule:<40}" + "".join(f"{counts[kind] or '-':>10}" for kind in kinds))


@main.command()
@click.argument("request", type=click.File("rb"))
@click.option("--plan", help="The plan to ask (default: the first that serves the request's hook).")
@click.option("--json", "as_json", is_flag=True, help="The whole trace as JSON.")
@click.option("--rule", "rules", multiple=True, help="Show only this rule (may be repeated).")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file with settings.")
@_SITE
def explain(
    request: Any, plan: str | None, as_json: bool, rules: Sequence[str], config: Path | None, site: Path | None
) -> None:
    """Say for each rule why it speaks, or why not, for a hook request in a JSON file (- for standard input)."""
    from cds_hooks.calling import service_for
    from cds_hooks.protocol.caller import Caller
    from cds_hooks.protocol.hooks import HOOKS
    from cds_hooks.protocol.request import parse_request
    from cds_hooks.reasoning.trace import as_text
    from cds_hooks.settings import load_settings
    from cds_hooks.wsgi import build_service

    try:
        body = json.load(request)
        if not isinstance(body, dict):
            raise CdsHooksError(f"{request.name}: a hook request is a JSON object")
        settings = load_settings(config)
        service = build_service(settings.model_copy(update={"site": site}) if site else settings)
        name = service_for(service, str(body.get("hook")), plan)
        operator = Caller(fhir_servers=settings.fhir_servers)  # who may read the settings may ask for every client
        shown = service.explain(name, parse_request(body, HOOKS[body["hook"]]), operator)
        known = {rule["id"] for rule in shown["rules"]}
        for rule in rules:
            if rule not in known:
                raise CdsHooksError(f"--rule: on this hook there is no {rule}, but {', '.join(sorted(known))}")
    except ValueError as error:
        _fail(CdsHooksError(f"{request.name}: is no JSON: {error}"))
    except CdsHooksError as error:
        _fail(error)
    if rules:
        shown["rules"] = [rule for rule in shown["rules"] if rule["id"] in rules]
    click.echo(json.dumps(shown, indent=2, ensure_ascii=False) if as_json else as_text(shown))


@main.command()
@click.option("--fhir-server", "base", required=True, help="Base URL of an R4 server: https, or http on this machine.")
@click.option("--patient", required=True, help="The id of the patient there.")
@click.option("--hook", help="Default: patient-view; with an order, order-select.")
@click.option("--order", "orders", multiple=True, help="SYSTEM|CODE or words; may be repeated, all are selected.")
@click.option("--encounter", help="The id of the encounter.")
@click.option("--user", default="Practitioner/example", show_default=True, help="Type/id of who is asking.")
@click.option("--token-file", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Holds a token.")
@click.option("--seconds", default=10.0, show_default=True, type=click.FloatRange(0.1, 120), help="Time for fetching.")
@click.option("--plan", help="The plan to ask (default: the first that serves the hook).")
@click.option("--explain", "explained", is_flag=True, help="Show the whole trace instead of the cards.")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@_SITE
def call(
    base: str, patient: str, hook: str | None, orders: Sequence[str], encounter: str | None, user: str,
    token_file: Path | None, seconds: float, plan: str | None, explained: bool, as_json: bool, site: Path | None,
) -> None:  # fmt: skip
    """Act as an EHR: call a hook for a patient of any FHIR server and show the cards. Nothing leaves but the reads."""
    from cds_hooks.calling import as_text as cards_text
    from cds_hooks.calling import asked, hook_call
    from cds_hooks.reasoning.trace import as_text

    try:
        token = token_file.read_text("utf-8").strip() if token_file else None
        body = hook_call(hook or ("order-select" if orders else "patient-view"), base, patient, user=user,
                         encounter=encounter, token=token, orders=orders)  # fmt: skip
        shown = asked(body, seconds=seconds, plan=plan, site=site, explained=explained)
    except (CdsHooksError, OSError) as error:
        _fail(error)
    if as_json:
        click.echo(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        click.echo(as_text(shown) if explained else "\n".join(cards_text(shown["cards"])))


@main.command()
@click.option("--plan", help="The plan to show (default: all plans).")
@click.option("--unused", is_flag=True, help="Show only what no rule cites, with the reason why it is there.")
def evidence(plan: str | None, unused: bool) -> None:
    """Print the evidence register: every claim, source of evidence and choice, with the rules that cite it."""
    from cds_hooks.evidence import report
    from cds_hooks.loading import load_plan
    from cds_hooks.reasoning.content import plan_names

    try:
        root = content_root()
        names = [name for name in plan_names(root) if plan in (None, name)]
        if not names:
            raise CdsHooksError(f"--plan: one of {', '.join(plan_names(root)) or 'none, there is no plan'}")
        for name in names:
            for line in report(load_plan(root, name), unused=unused):
                click.echo(line)
    except CdsHooksError as error:
        _fail(error)


@main.command()
@click.option("--out", default=Path("export"), show_default=True, type=click.Path(file_okay=False, path_type=Path))
def export(out: Path) -> None:
    """Write the content as FHIR JSON and as a FHIR package."""
    from cds_hooks.export import export as write
    from cds_hooks.reasoning.content import load_package, plan_names

    try:
        root = content_root()
        for name in plan_names(root):
            written = write(load_package(root, name), out / name)
            click.echo(f"{len(written)} files in {out / name}")
    except CdsHooksError as error:
        _fail(error)


@main.command()
@click.option("--plan", help="The plan to show (default: the only one).")
@click.option("--out", default=Path("review.html"), show_default=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Where to write it: a name in .html or .md.")  # fmt: skip
@_SITE
def review(plan: str | None, out: Path, site: Path | None) -> None:
    """Write all that a plan does as one page for a clinician to read and sign."""
    from cds_hooks.loading import load_plan
    from cds_hooks.reasoning.content import plan_names
    from cds_hooks.review.build import review as build
    from cds_hooks.review.render import FORMATS

    try:
        root = content_root()
        names = [name for name in plan_names(root) if plan in (None, name)]
        if len(names) != 1:
            raise CdsHooksError(f"--plan: one of {', '.join(plan_names(root)) or 'none, there is no plan'}")
        if out.suffix not in FORMATS:
            raise CdsHooksError(f"--out: the name ends in {' or '.join(FORMATS)}")
        page = build(load_plan(root, names[0], site=site), datetime.now().astimezone().date())
        out.write_text(FORMATS[out.suffix](page), encoding="utf-8")
    except (CdsHooksError, OSError) as error:
        _fail(error)
    click.echo(f"{len(page.rules)} rules of {page.plan} {page.version} in {out}")


@main.command()
@click.option("--since", metavar="DATE|DAYS", help="Only cards sent since then: 2026-10-01, or 90d.")
@click.option("--client", help="Only cards sent to this client of the settings.")
@click.option("--csv", "as_csv", is_flag=True, help="Comma-separated values instead of a table.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Write a page with a chart: FILE.html.")
@click.option("--db", help="URL of the database (default: that of the settings).")
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="TOML file with settings.")
@click.option("--data", type=click.Path(file_okay=False, path_type=Path), help="Folder for what the server stores.")
def report(
    since: str | None, client: str | None, as_csv: bool, out: Path | None, db: str | None, config: Path | None,
    data: Path | None,
) -> None:  # fmt: skip
    """Count what users made of the cards, by topic and version: accepted, overridden and why, ignored."""
    from cds_hooks.loading import load_all
    from cds_hooks.report.figures import figures
    from cds_hooks.report.page import as_page
    from cds_hooks.report.text import as_csv as csv
    from cds_hooks.report.text import as_table
    from cds_hooks.settings import load_settings
    from cds_hooks.store.database import Database, parse_url
    from cds_hooks.store.opening import FILE, database_of
    from cds_hooks.store.tally import tally

    now = datetime.now().astimezone()
    try:
        if out is not None and (as_csv or out.suffix != ".html"):
            raise CdsHooksError("--out writes a page, FILE.html; for --csv send the output to a file: > FILE.csv")
        settings = load_settings(config)
        folder = data or settings.data
        if not db and not settings.storage.url and not (folder / FILE).exists():
            raise CdsHooksError(f"{folder / FILE}: nothing was stored there (--data names the folder of the server)")
        database = Database(parse_url(db)) if db else database_of(settings.storage, folder)
        first = _since(since, now)
        rows = figures(tally(database, first, client), load_all(site=settings.site))
        database.close()
        if out is not None:
            told = f" since {first.date().isoformat()}" if first else ""
            out.write_text(as_page(rows, f"What users made of the cards{told}", now.date()), encoding="utf-8")
            click.echo(f"{len(rows)} rows in {out}")
        else:
            click.echo(csv(rows) if as_csv else "\n".join(as_table(rows, client)), nl=not as_csv)
    except StorageError as error:
        _fail(CdsHooksError(f"the database cannot be read: {error}"))
    except (CdsHooksError, OSError) as error:
        _fail(error)


def _since(text: str | None, now: datetime) -> datetime | None:
    """The moment that `--since` means; raises CdsHooksError."""
    if text is None:
        return None
    try:
        if text[-1:] == "d" and text[:-1].isdecimal():
            return now - timedelta(days=int(text[:-1]))
        return datetime.combine(date.fromisoformat(text), datetime.min.time()).astimezone()
    except (ValueError, OverflowError):
        raise CdsHooksError("--since: a date such as 2026-10-01, or a number of days such as 90d") from None
