"""What the demo shows: a frame for a terminal, a line for anything else. Both are made of two readings of metrics."""

from __future__ import annotations

import msgspec
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from stream_app import metrics
from stream_app.devtools.scrape import EMPTY, Reading, quantile
from stream_app.domain.lead_events import STATUSES

_BAR_WIDTH = 24


class Scene(msgspec.Struct, kw_only=True):
    """What stays the same while the demo runs."""

    title: str
    """Where the events flow: a broker's address, or why there is none."""
    url: str = ""
    """The worker's web; empty: none."""
    hints: list[str] = []
    """Commands for another terminal."""


def rate(metric: metrics.Metric, now: Reading, before: Reading) -> float:
    """Growth of a counter per second between two readings."""
    return _per_second(now.total(metric), before.total(metric), now, before)


def _per_second(after: float, until_then: float, now: Reading, before: Reading) -> float:
    seconds = now.at - before.at
    return max(0.0, after - until_then) / seconds if before.samples and seconds > 0 else 0.0


def line(now: Reading, before: Reading, elapsed_s: float, trouble: str = "") -> str:
    """One line for a log file: everything that tells whether it works."""
    if trouble:
        return f"{elapsed_s:.0f} s: not ready: {trouble}"
    parts = [
        f"{elapsed_s:.0f} s: {_per_second(now.events(), before.events(), now, before):,.0f} events/s",
        f"{now.events():,.0f} events",
        f"lag {now.total(metrics.LAG):,.0f}",
        f"sessions {now.total(metrics.SESSIONS):,.0f} opened {now.total(metrics.SESSIONS_CLOSED):,.0f} closed",
        f"conversions {now.total(metrics.CONVERSIONS):,.0f}",
        f"dead letters {now.total(metrics.DEAD_LETTER_RECORDS):,.0f}",
        f"commit p50 {_ms(quantile(metrics.COMMIT_SECONDS, 0.5, now, before))}"
        f" p99 {_ms(quantile(metrics.COMMIT_SECONDS, 0.99, now, before))}",
    ]
    return ", ".join(parts)


def frame(scene: Scene, now: Reading, before: Reading, elapsed_s: float, trouble: str = "") -> RenderableType:
    """One picture for the terminal. In a low one it has fewer channels: the addresses below them must be seen."""
    below: list[RenderableType] = []
    if any(now.by(metrics.LEADS, "status").values()):
        below.append(_leads(now))
    if now.total(metrics.DEAD_LETTER_RECORDS):
        below.append(_dead_letters(now))
    below.append(_foot(scene))
    return _Picture(Group(_head(scene, elapsed_s, trouble), _figures(now, before)), now, Group(*below))


class _Picture:
    """Channels, as many as there is room for, between what is always shown."""

    def __init__(self, above: RenderableType, now: Reading, below: RenderableType) -> None:
        self._above = above
        self._now = now
        self._below = below

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        taken = sum(len(console.render_lines(part, options, pad=False)) for part in (self._above, self._below))
        yield self._above
        yield _channels(self._now, options.size.height - taken - 1)
        yield self._below


def _head(scene: Scene, elapsed_s: float, trouble: str) -> RenderableType:
    text = Text.assemble(("stream_app", "bold"), f"  {scene.title}  {elapsed_s:.0f} s  ")
    if trouble:
        text.append(f"not ready: {trouble}", style="bold yellow")
    else:
        text.append("ready", style="bold green")
    return text


def _figures(now: Reading, before: Reading) -> RenderableType:
    table = Table.grid(expand=True, padding=(0, 2))
    columns: list[tuple[str, list[tuple[str, str]]]] = [
        (
            "Events",
            [
                ("in", f"{_per_second(now.events(), before.events(), now, before):,.0f}/s"),
                ("out", f"{rate(metrics.OUTPUT_RECORDS, now, before):,.0f}/s"),
                ("lag", f"{now.total(metrics.LAG):,.0f}"),
                ("so far", f"{now.events():,.0f}"),
            ],
        ),
        (
            "Sessions",
            [
                ("opened", f"{now.total(metrics.SESSIONS):,.0f}"),
                ("closed", f"{now.total(metrics.SESSIONS_CLOSED):,.0f}"),
                ("conversions", f"{now.total(metrics.CONVERSIONS):,.0f}"),
                ("bots, duplicates", f"{now.total(metrics.BOTS):,.0f}, {now.total(metrics.DUPLICATES):,.0f}"),
            ],
        ),
        (
            "Commits",
            [
                ("p50", _ms(quantile(metrics.COMMIT_SECONDS, 0.5, now, before))),
                ("p99", _ms(quantile(metrics.COMMIT_SECONDS, 0.99, now, before))),
                ("event to commit p99", _ms(quantile(metrics.LATENCY, 0.99, now, before))),
                ("aborted", f"{now.total(metrics.ABORTS):,.0f}"),
            ],
        ),
    ]
    panels = []
    for title, rows in columns:
        table.add_column(ratio=1)
        inner = Table.grid(padding=(0, 1))
        inner.add_column(style="dim")
        inner.add_column(justify="right")
        for name, value in rows:
            inner.add_row(name, value)
        panels.append(Panel(inner, title=title, title_align="left", border_style="dim"))
    table.add_row(*panels)
    return table


def _channels(now: Reading, rows: int) -> RenderableType:
    """The largest that fit into so many rows, and how many more there are."""
    sessions, conversions = now.by(metrics.SESSIONS, "channel"), now.by(metrics.CONVERSIONS, "channel")
    table = Table(box=None, padding=(0, 2), header_style="dim")
    table.add_column("Channel")
    table.add_column("Sessions", justify="right")
    table.add_column("")
    table.add_column("Conversions", justify="right")
    most = max(sessions.values(), default=0)
    names = sorted({*sessions, *conversions}, key=lambda name: (-sessions.get(name, 0), name))
    shown = names if len(names) <= rows else names[: max(0, rows - 1)]
    for channel in shown:
        opened = sessions.get(channel, 0)
        bar = "█" * round(_BAR_WIDTH * opened / most) if most else ""
        table.add_row(channel, f"{opened:,.0f}", Text(bar, style="cyan"), f"{conversions.get(channel, 0):,.0f}")
    if len(shown) < len(names):
        table.add_row(Text(f"and {len(names) - len(shown)} more", style="dim"))
    return table


def _leads(now: Reading) -> RenderableType:
    found = now.by(metrics.LEADS, "status")
    text = ", ".join(f"{status} {n:,.0f}" for status in STATUSES if (n := found.get(status, 0)))
    return Text.assemble(("  Leads  ", "dim"), text)


def _dead_letters(now: Reading) -> RenderableType:
    found = {reason: n for reason, n in now.by(metrics.DEAD_LETTER_RECORDS, "reason").items() if n}
    text = ", ".join(f"{reason} {n:,.0f}" for reason, n in sorted(found.items(), key=lambda item: -item[1]))
    return Text.assemble(("  Dead letters  ", "dim"), text)


def _foot(scene: Scene) -> RenderableType:
    lines = [f"open {scene.url}/   metrics {scene.url}/metrics   health {scene.url}/health/ready"] if scene.url else []
    # No wrapping inside a command: whoever copies it gets it whole.
    return Text("\n".join(["", *lines, *scene.hints, "Ctrl-C ends everything"]), style="dim", no_wrap=False)


def _ms(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds * 1000:,.0f} ms"


__all__ = ["EMPTY", "Scene", "frame", "line", "rate"]
