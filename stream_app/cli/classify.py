"""`stream-app classify`: source and channel of clicks, one a line."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO

import click
import msgspec

from stream_app.cli.common import FAILED, common_options, line_writer, open_lines, say, settings, unmarked

if TYPE_CHECKING:
    from stream_app.domain.bots import BotDetector
    from stream_app.domain.sources import Explanation, Source, SourceResolver

_INPUTS = ("url", "referrer", "user_agent", "source", "medium", "campaign")


class Click(msgspec.Struct, gc=False):
    """One line in. Either an address with what came along, or explicit tags."""

    url: str | None = None
    referrer: str | None = None
    user_agent: str | None = None
    source: str | None = None
    medium: str | None = None
    campaign: str | None = None


class Answer(msgspec.Struct, gc=False, omit_defaults=True):
    """One line out. `kind` says what the click brings: `source`, `referral`, `direct`, `none` (internal or excluded:
    the visit goes on) or `spam`."""

    source: str
    medium: str
    campaign: str
    term: str
    content: str
    source_platform: str
    channel: str
    arrival: str
    click_id_type: str
    keyword: str
    bot: bool
    kind: str
    explain: dict[str, Any] | None = None


class Wrong(msgspec.Struct):
    """A line that cannot be classified; it stands where the answer would."""

    error: str
    detail: str
    line: int


class Classifier:
    """The resolver and the bot detector of one run."""

    def __init__(self, resolver: SourceResolver, bots: BotDetector, *, explain: bool) -> None:
        self._resolver = resolver
        self._bots = bots
        self._explain = explain

    def answer(self, asked: Click) -> Answer:
        """Classify one click, or assign the channel of explicit tags."""
        bot = self._bots.is_bot(asked.user_agent or "")
        if not asked.url and not asked.referrer and (asked.source or asked.medium or asked.campaign):
            fields = (asked.source or "", asked.medium or "", asked.campaign or "")
            if self._explain:
                return _explained(self._resolver.explain_fields(*fields), bot=bot)
            return _answer(self._resolver.of_fields(*fields), "source", bot=bot)
        url, referrer = asked.url or "", asked.referrer or ""
        if not self._explain:
            arrival = self._resolver.resolve(url, referrer)
            return _answer(arrival.source, arrival.kind, bot=bot)
        return _explained(self._resolver.explain(url, referrer, asked.user_agent or ""), bot=bot)


def _explained(told: Explanation, *, bot: bool) -> Answer:
    answer = _answer(told.arrival.source, told.arrival.kind, bot=bot)
    answer.explain = {
        "decided_by": told.decided_by,
        "channel_by": told.channel_rule,
        "steps": [f"{step.rule}: {step.verdict}" for step in told.steps],
    }
    return answer


def _answer(source: Source | None, kind: str, *, bot: bool) -> Answer:
    from stream_app.domain.sources import DIRECT

    if kind == "spam":
        return Answer("", "", "", "", "", "", "", "", "", "", bot, kind)
    # A visit that begins with an internal or excluded referrer is direct (domain rules, section 3).
    found = source or DIRECT
    return Answer(
        found.source,
        found.medium,
        found.campaign,
        found.term,
        found.content,
        found.source_platform,
        found.channel,
        found.arrival,
        found.click_id_type,
        found.keyword,
        bot,
        kind,
    )


@click.command(short_help="Source and channel of clicks, one a line.")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False, allow_dash=True), required=False)
@click.option("--profile", type=click.Choice(("extended", "ga4")), help="Channel groups; wins over the settings.")
@click.option(
    "--own-domain", "own_domains", multiple=True, metavar="D", help="A domain of yours; may be given more than once."
)
@click.option("--explain", is_flag=True, help="Tell which rules were looked at and which one decided.")
@click.option("--csv", "as_csv", is_flag=True, help="CSV in and out, with a header; the default for .csv files.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="NAME=HEADER",
    help="In CSV: the column that holds url, referrer, user_agent, source, medium or campaign, if called otherwise.",
)
@common_options
def classify(
    file: Path | None,
    profile: str | None,
    own_domains: tuple[str, ...],
    explain: bool,
    as_csv: bool,
    columns: tuple[str, ...],
) -> None:
    """Classifies clicks by the rules of the settings, as the worker does.

    Reads FILE or standard input, JSON Lines {url?, referrer?, user_agent?, source?, medium?, campaign?} (.gz too), and
    writes one line {source, medium, campaign, term, content, source_platform, channel, arrival, click_id_type, keyword,
    bot, kind} for each as it comes. With source, medium or campaign instead of addresses it only assigns the channel.
    A line that cannot be read becomes {error, detail, line}, and the status is 1 at the end.
    """
    names = _column_names(columns)
    classifier = _classifier(profile, own_domains, explain=explain)
    as_csv = as_csv or (file is not None and file.name.removesuffix(".gz").endswith(".csv"))
    with open_lines(file) as source:
        if as_csv:
            text = io.TextIOWrapper(source, "utf-8-sig", newline="")
            wrong = _run_csv(classifier, text, names)
            text.detach()
        else:
            wrong = _run_json(classifier, source)
    if wrong:
        say(f"stream-app: {wrong} line{'' if wrong == 1 else 's'} could not be classified")
        sys.exit(FAILED)


def _classifier(profile: str | None, own_domains: tuple[str, ...], *, explain: bool) -> Classifier:
    from stream_app.app.topology import source_rules
    from stream_app.domain.bots import BotDetector
    from stream_app.domain.sources import SourceResolver
    from stream_app.reference import load

    rules = source_rules(settings())
    if profile is not None:
        rules = msgspec.structs.replace(rules, profile=profile)
    if own_domains:
        rules = msgspec.structs.replace(rules, own_domains=(*rules.own_domains, *own_domains))
    tables = load()
    return Classifier(SourceResolver(rules, tables), BotDetector(tables.ai_crawlers), explain=explain)


def _column_names(columns: tuple[str, ...]) -> dict[str, str]:
    names = {name: name for name in _INPUTS}
    for column in columns:
        name, separator, header = column.partition("=")
        if not separator or name not in names or not header:
            raise click.BadParameter(f"{column!r}: write NAME=HEADER, NAME one of {', '.join(_INPUTS)}")
        names[name] = header
    return names


def _run_json(classifier: Classifier, source: BinaryIO) -> int:
    decode = msgspec.json.Decoder(Click).decode
    encode = msgspec.json.Encoder().encode
    write = line_writer(source)
    wrong = 0
    for number, line in enumerate(unmarked(source), 1):
        if not line.strip():
            continue
        out: Answer | Wrong
        try:
            out = classifier.answer(decode(line))
        except msgspec.ValidationError as exc:
            out = Wrong("bad_field", str(exc), number)
            wrong += 1
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            out = Wrong("bad_json", str(exc), number)
            wrong += 1
        write(encode(out) + b"\n")
    sys.stdout.flush()
    return wrong


def _run_csv(classifier: Classifier, source: IO[str], names: dict[str, str]) -> int:
    rows = csv.reader(source)
    header = next(rows, None)
    if header is None:
        return 0
    places = {name: header.index(column) for name, column in names.items() if column in header}
    missing = [column for name, column in names.items() if column != name and column not in header]
    if missing or not places:
        raise click.UsageError(
            f"the CSV has no column {', '.join(missing or _INPUTS)}; it has: {', '.join(header)}. "
            "Name columns with --column NAME=HEADER"
        )
    out = csv.writer(sys.stdout, lineterminator="\n")
    fields = [field for field in Answer.__struct_fields__ if field != "explain"]
    out.writerow([*header, *(f"classified_{field}" if field in header else field for field in fields), "decided_by"])
    wrong = 0
    for row in rows:
        try:
            asked = Click(**{name: row[place] for name, place in places.items()})
        except IndexError:
            wrong += 1
            out.writerow([*row, *[""] * (len(header) - len(row)), *[""] * len(fields), "too few columns"])
            continue
        out.writerow([*row, *_cells(classifier.answer(asked), fields)])
    sys.stdout.flush()
    return wrong


def _cells(answer: Answer, fields: list[str]) -> Iterator[str]:
    for field in fields:
        value = getattr(answer, field)
        yield ("true" if value else "false") if isinstance(value, bool) else value
    yield answer.explain["decided_by"] if answer.explain else ""
