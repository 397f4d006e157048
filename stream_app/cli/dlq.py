"""`stream-app dlq`: list, show and replay dead letters."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import sys
from collections.abc import Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, TypeVar

import click

from stream_app.cli.common import FAILED, Moment, common_options, fail, say, settings

if TYPE_CHECKING:
    from stream_app.dlq import DeadLetter, Filter, Outcome
    from stream_app.settings import Settings

F = TypeVar("F", bound=Callable[..., Any])
_ID = re.compile(r"\d+:\d+")


@click.group(short_help="List, show or replay dead letters.")
def dlq() -> None:
    """Records that could not be used: why, what to do, and sending them once more.

    A dead letter's id is its place in the topic, PARTITION:OFFSET.
    """


def _filters(function: F) -> F:
    for option in (
        click.option("--until", type=Moment(), help="Written before this time."),
        click.option("--since", type=Moment(), help="Written at or after: RFC 3339, epoch ms, or 90m, 2h, 3d ago."),
        click.option("--partition", "partitions", type=click.IntRange(min=0), multiple=True, help="It came from."),
        click.option("--topic", "topics", multiple=True, help="It came from, with or without the prefix."),
        click.option("--reason", "reasons", multiple=True, help="As bad_json; may be given several times."),
    ):
        function = option(function)
    return function


def _filter(
    config: Settings,
    reasons: tuple[str, ...],
    topics: tuple[str, ...],
    partitions: tuple[int, ...],
    since: int | None,
    until: int | None,
    ids: tuple[str, ...] = (),
) -> Filter:
    from stream_app.dlq import EXPLANATIONS, Filter
    from stream_app.topics import LOGICAL, Catalogue

    for reason in reasons:
        if reason not in EXPLANATIONS:
            raise click.BadParameter(f"{reason!r}; there are: {', '.join(EXPLANATIONS)}", param_hint="--reason")
    catalogue = Catalogue.of(config)
    names = set()
    for topic in topics:
        names.add(catalogue.name(topic) if topic in LOGICAL else topic)
    for name in ids:
        _check_id(name)
    return Filter(
        reasons=frozenset(reasons),
        topics=frozenset(names),
        partitions=frozenset(partitions),
        since_ms=since,
        until_ms=until,
        ids=frozenset(ids),
    )


def _check_id(text: str) -> None:
    if not _ID.fullmatch(text):
        raise click.BadParameter(f"{text!r} is no id; allowed: PARTITION:OFFSET as 3:1207")


# --- list ----------------------------------------------------------------------------------------------


@dlq.command("list", short_help="List dead letters: why, and what to do.")
@_filters
@click.option("--limit", type=click.IntRange(min=1), help="At most so many.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["table", "jsonl", "summary"]),
    help="A table on a terminal, else JSON Lines; a summary counts by reason.",
)
@common_options
def list_letters(
    reasons: tuple[str, ...],
    topics: tuple[str, ...],
    partitions: tuple[int, ...],
    since: int | None,
    until: int | None,
    limit: int | None,
    form: str | None,
) -> None:
    """Lists dead letters with their reason, explained, and what to do about it."""
    config = settings()
    wanted = _filter(config, reasons, topics, partitions, since, until)
    asyncio.run(_list(config, wanted, limit, form or ("table" if sys.stdout.isatty() else "jsonl")))


async def _list(config: Settings, wanted: Filter, limit: int | None, form: str) -> None:
    from stream_app.dlq import Summary, overview, read

    summary = Summary()
    if form == "table":
        click.echo(f"{'ID':<12} {'WRITTEN':<24} {'REASON':<15} {'FROM':<32} DETAIL")
    async with aclosing(read(config, wanted)) as letters:
        async for letter in letters:
            summary.add(letter)
            if form == "jsonl":
                click.echo(json.dumps(overview(letter), ensure_ascii=False))
            elif form == "table":
                click.echo(_row(letter))
            if limit and summary.total >= limit:
                break
    if form == "summary":
        for line in summary.lines():
            click.echo(line)
    elif form == "table":
        say("")
        for line in summary.lines():
            say(line)
    if not summary.total:
        say("no dead letters")


def _row(letter: DeadLetter) -> str:
    from stream_app.dlq import shown_bytes, shown_time

    origin = f"{letter.topic}[{letter.origin_partition}]@{letter.origin_offset}"
    detail, _ = shown_bytes(letter.detail.encode())
    return f"{letter.id:<12} {shown_time(letter.written_ms) or '?':<24} {letter.reason:<15} {origin:<32} {detail}"


# --- show ----------------------------------------------------------------------------------------------


@dlq.command(short_help="Show one dead letter whole.")
@click.argument("name", metavar="ID")
@click.option("--raw", is_flag=True, help="Only the original value, byte for byte.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object; bytes that are no text in base64.")
@common_options
def show(name: str, raw: bool, as_json: bool) -> None:
    """Shows one dead letter: why, from where, its headers and its original bytes, safe for the terminal."""
    from stream_app.dlq import overview

    config = settings()
    letter = asyncio.run(_one(config, name))
    if letter is None:
        fail(f"there is no dead letter {name}")
    if raw:
        sys.stdout.buffer.write(letter.value or b"")
        return
    if as_json:
        whole = {
            **overview(letter),
            "key": _json_bytes(letter.key),
            "headers": [{"name": header, "value": _json_bytes(value)} for header, value in letter.headers],
            "value": _json_bytes(letter.value),
        }
        click.echo(json.dumps(whole, ensure_ascii=False))
        return
    for line in _description(letter):
        click.echo(line)


def _description(letter: DeadLetter) -> list[str]:
    from stream_app.dlq import shown_bytes, shown_time

    def quoted(raw: bytes | None) -> str:
        text, how = shown_bytes(raw)
        if text is None:
            return "(none)"
        return f"{text}    (not printable: shown escaped, --raw gives the bytes)" if how == "escaped" else text

    detail, _ = shown_bytes(letter.detail.encode())
    lines = [
        f"id          {letter.id}",
        f"reason      {letter.reason}: {letter.explanation.meaning}",
        f"detail      {detail}",
        f"what to do  {letter.explanation.action}",
        f"from        {letter.topic} partition {letter.origin_partition} offset {letter.origin_offset}",
        f"timestamp   {shown_time(letter.timestamp_ms) or letter.timestamp_ms}",
        f"written at  {shown_time(letter.written_ms) or letter.written_ms}",
        f"key         {quoted(letter.key)}",
    ]
    lines += [f"header      {shown_bytes(name.encode())[0]}: {quoted(value)}" for name, value in letter.headers]
    size = f"{len(letter.value)} bytes" if letter.value is not None else "no value"
    return [*lines, f"value       {size}", quoted(letter.value)]


def _json_bytes(raw: bytes | None) -> Any:
    if raw is None:
        return None
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(raw).decode()}


async def _one(config: Settings, name: str) -> DeadLetter | None:
    from stream_app.dlq import Filter, read

    _check_id(name)
    async with aclosing(read(config, Filter(ids=frozenset({name})))) as letters:
        return await anext(letters, None)


# --- replay --------------------------------------------------------------------------------------------


@dlq.command(short_help="Send dead letters to where they came from, once each.")
@click.argument("ids", metavar="[ID]...", nargs=-1)
@_filters
@click.option("--again", is_flag=True, help="Also those that were replayed before.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@click.option("--verbose", is_flag=True, help="A line on standard error for each letter.")
@common_options
def replay(
    ids: tuple[str, ...],
    reasons: tuple[str, ...],
    topics: tuple[str, ...],
    partitions: tuple[int, ...],
    since: int | None,
    until: int | None,
    again: bool,
    dry_run: bool,
    verbose: bool,
) -> None:
    """Sends dead letters, with their first timestamps, to the topics they came from: after a fix.

    Each is sent once, however often this is called, unless --again. Without ids and filters: all that there are.
    Clicks beyond the grace period cannot be applied live; they are named and stay. Prints what was done as JSON.
    """
    from stream_app import dlq as letters

    config = settings()
    wanted = _filter(config, reasons, topics, partitions, since, until, ids)

    def tell(letter: DeadLetter, outcome: Outcome) -> None:
        if verbose or outcome in {"beyond_grace", "unknown_topic"}:
            say(f"{letter.id} {letter.topic}[{letter.origin_partition}]@{letter.origin_offset}: {_OUTCOMES[outcome]}")

    report = asyncio.run(letters.replay(config, wanted, again=again, dry_run=dry_run, say=tell))
    click.echo(
        json.dumps(
            {
                "replayed": report.replayed,
                "already_replayed": report.already,
                "cannot_be_applied_live": report.beyond_grace,
                "unknown_topic": report.unknown_topic,
                "by_reason": report.by_reason,
                **({"dry_run": True} if dry_run else {}),
            }
        )
    )
    if ids and not (report.replayed or report.already or report.beyond_grace or report.unknown_topic):
        fail(f"there is no dead letter {', '.join(ids)}", FAILED)


_OUTCOMES = {
    "replayed": "replayed",
    "already": "was replayed before (--again sends it once more)",
    "beyond_grace": "cannot be applied live; reprocess. It stays",
    "unknown_topic": "comes from no input of these settings. It stays",
}
