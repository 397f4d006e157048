"""Tables of counters from records of the topic, for whoever has no worker to ask."""

from __future__ import annotations

import time
from collections.abc import Iterable

from stream_app.app.topology import counter_rules, rules_version
from stream_app.domain.counters.dimensions import GOALS
from stream_app.domain.counters.questions import Question, ask
from stream_app.domain.counters.records import LeadCounter, Renderer
from stream_app.domain.counters.tables import Row, Table, figures_of, in_order
from stream_app.domain.counters.windows import TOTAL, Windows
from stream_app.domain.times import MINUTE_MS, parse_rfc3339
from stream_app.settings import Settings


class Tables:
    """Asks records of one site. Their amounts are rounded, so that sums over many windows may differ by a cent from
    those that a worker gives."""

    def __init__(self, settings: Settings, records: Iterable[LeadCounter]) -> None:
        rules = counter_rules(settings)
        self.windows = Windows(rules.timezone)
        self.base_currency = rules.base_currency
        self._renderer = Renderer(rules.base_currency, rules_version(rules))
        self._records: dict[tuple[str, str], list[LeadCounter]] = {}
        for record in records:
            self._records.setdefault((record.dimension, record.window), []).append(record)

    def question(self, parameters: Iterable[tuple[str, str]]) -> Question:
        """A checked question. Raises CannotAsk."""
        return ask(parameters, self.windows, int(time.time()) // 60)

    def rows(self, question: Question) -> list[Row]:
        """The answer, in order."""
        table = Table(question, self._renderer)
        for start, record in self._within(question, question.dimension):
            table.add(tuple(record.keys.values()), record.currency, start, figures_of(record), record.nps)
        if question.dimension == GOALS:
            for start, record in self._within(question, "all"):
                table.add_everything(record.currency, start, figures_of(record))
        return in_order(table.rows(), question)

    def _within(self, question: Question, dimension: str) -> Iterable[tuple[int, LeadCounter]]:
        for record in self._records.get((dimension, question.window), ()):
            start = parse_rfc3339(record.window_start) // MINUTE_MS if record.window_start else 0
            if question.kind == TOTAL or question.since <= start < question.until:
                yield start, record
