"""`stream-app programs`: look at referral programmes before they pay."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from stream_app.cli.common import Moment, fail

if TYPE_CHECKING:
    from stream_app.domain.referral.dryrun import Example, Outcome


@click.group(short_help="Check referral programmes, and what they would pay.")
def programs() -> None:
    """Referral programmes of a settings file."""


@programs.command(short_help="Check programmes, and explain what they pay on examples.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--program", "name", default="", help="Only this one.")
@click.option(
    "--purchases",
    type=click.File("r", encoding="utf-8"),
    help="Example purchases, one JSON object a line: value, currency, goal, status, profit, advocate_kind, day (after "
    "the visit), refund. - reads standard input. Without it: 20, 100 and 1000.",
)
@click.option("--at", type=Moment(), help="When the visit through the link is; without it now.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object for each purchase.")
def check(file: Path, name: str, purchases: IO[str] | None, at: int | None, as_json: bool) -> None:
    """Checks the programmes in FILE and explains what they pay on example purchases.

    The purchases are those of one referred person, in the order given, each with three referrers above. It is the code
    that pays: rates, conditions, caps, the first N, rounding, refunds. Ends with status 1 if a programme is wrong.
    """
    import msgspec

    from stream_app.domain.referral.dryrun import Example, try_out
    from stream_app.settings import SettingsError, load
    from stream_app.settings.programs import doubts_of, programs_of

    try:
        settings = load(file)
    except SettingsError as exc:
        fail(str(exc))
    lines = [line for line in purchases if line.strip()] if purchases is not None else _USUAL
    examples = []
    for number, line in enumerate(lines, 1):
        try:
            example = msgspec.json.decode(line, type=Example)
        except msgspec.DecodeError as exc:
            fail(f"purchase {number} cannot be read: {exc}")
        if example.problem:
            fail(f"purchase {number}: {example.problem}")
        examples.append(example)
    found = programs_of(settings)
    chosen = [program for program in found.by_name.values() if not name or program.name == name]
    if not chosen:
        fail(f"no programme {name!r} in {file}" if name else f"no [[programs]] in {file}")
    starts = at if at is not None else int(time.time()) * 1000
    shown = {program.name for program in chosen}
    for given in settings.programs:
        if given.name in shown:
            for doubt in doubts_of(settings, given):
                click.echo(f"{given.name}: {doubt}", err=True)
    for program in chosen:
        outcomes = try_out(program, examples, found.exchange, starts)
        if as_json:
            for outcome, example in zip(outcomes, examples, strict=True):
                record = {
                    "program": program.name,
                    "purchase": msgspec.to_builtins(example),
                    **msgspec.to_builtins(outcome),
                }
                click.echo(json.dumps(record))
        else:
            _show(program.name, program.kind, examples, outcomes)


@programs.command("plan", short_help="How many of so many new clients a programme brings.")
@click.option("--clients", type=click.IntRange(1), required=True, help="New clients wanted.")
@click.option(
    "--share", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="Share of clients who refer."
)
@click.option("--invites", type=click.FloatRange(0), default=3, show_default=True, help="Invitations that each sends.")
@click.option(
    "--conversion",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    help="Share of them that become clients.",
)
@click.option(
    "--mix",
    "sources",
    type=click.File("r", encoding="utf-8"),
    help="What sources bring now, as `stream-app counters --format json` prints it; - reads standard input.",
)
def plan_clients(clients: int, share: float, invites: float, conversion: float, sources: IO[str] | None) -> None:
    """Says how many of so many new clients a programme brings, and how many other sources must.

    With --mix also which share each source has of the new clients now, how many each must bring, the others in the
    same proportions as now, and how many more that is: for as many as a month is to bring, give it a month's counters.
    """
    import msgspec

    from stream_app.domain.referral.planning import mix, plan

    made = plan(clients, Decimal(str(share)), Decimal(str(invites)), Decimal(str(conversion)))
    said: dict[str, object] = {
        "clients": made.clients,
        "k_factor": f"{made.k_factor.normalize():f}",
        "referred": made.referred,
        "elsewhere": made.elsewhere,
    }
    if sources is not None:
        now, programme = _new_clients(sources)
        said["mix"] = [msgspec.to_builtins(source) for source in mix(made, now, programme)]
    click.echo(json.dumps(said, ensure_ascii=False))


def _new_clients(lines: IO[str]) -> tuple[dict[str, int], set[str]]:
    """New clients by source, and which of these sources are programmes' own."""
    import msgspec

    from stream_app.domain.channels import REFERRAL_PROGRAMME, REFERRAL_PROGRAMME_MEDIUM

    class Counter(msgspec.Struct):
        keys: dict[str, str]
        counts: dict[str, int] | None = None

    now: dict[str, int] = {}
    programme = set()
    for number, line in enumerate(lines, 1):
        try:
            counter = msgspec.json.decode(line, type=Counter)
        except msgspec.DecodeError as exc:
            fail(f"--mix: line {number} is no counter as `stream-app counters --format json` prints it: {exc}")
        if counter.counts is None:
            continue  # money of another currency
        source = " / ".join(counter.keys.values())
        now[source] = now.get(source, 0) + counter.counts.get("new_clients", 0)
        if not {REFERRAL_PROGRAMME, REFERRAL_PROGRAMME_MEDIUM}.isdisjoint(counter.keys.values()):
            programme.add(source)
    return now, programme


_USUAL = ['{"value":"20"}', '{"value":"100"}', '{"value":"1000"}']


def _show(name: str, kind: str, examples: Sequence[Example], outcomes: Sequence[Outcome]) -> None:
    """For people."""
    click.echo(f"{name} ({kind.replace('_', ' ')}): good")
    for example, outcome in zip(examples, outcomes, strict=True):
        click.echo(f"  {outcome.number}. {_purchase(example)}")
        if outcome.why:
            click.echo(f"     nobody is paid: {outcome.why}")
        for payment in outcome.payments:
            notes = f" [{', '.join(payment.notes)}]" if payment.notes else ""
            after = f", {payment.after_refund} after the refund" if payment.after_refund != payment.amount else ""
            amount = f"{payment.amount} {payment.currency} ({payment.kind}, {payment.rate})"
            click.echo(f"     {payment.who}: {amount}{after}{notes}")


def _purchase(example: Example) -> str:
    import msgspec

    given = {k: v for k, v in msgspec.to_builtins(example).items() if v not in ("", None, "0", 0)}
    return ", ".join(f"{k} {v}" for k, v in given.items())
