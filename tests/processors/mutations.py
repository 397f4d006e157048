"""Breaks journeys, persons and orders on purpose, one way at a time, and runs their tests: each must turn one red.

    python -m tests.processors.mutations            all of them, a line each
    python -m tests.processors.mutations timeout    those whose name has the word

Works on a copy. Exit code 1 if a mutation survives. `mutations.md` is its table.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
TESTS = (
    "tests/domain/test_sessions.py",
    "tests/processors/test_journeys.py",
    "tests/processors/test_facts.py",
    "tests/processors/test_persons_and_orders.py",
    "tests/processors/test_state_versions.py",
    "tests/processors/test_promos.py",
    "tests/processors/test_journeys_properties.py",
)
PATIENCE_S = 600
SESSIONIZATION = "domain/sessionization.py"
CLIENT = "domain/client.py"
TIMELINE = "domain/timeline.py"
HORIZONS = "domain/horizons.py"
VIEWS = "domain/views.py"
PERSONS = "domain/persons.py"
ORDERS = "domain/orders.py"
PUBLISHING = "processors/journeys/publishing.py"
CONVERSIONS = "processors/journeys/conversions.py"
JOURNEYS = "processors/journeys/processor.py"
SETTLING = "processors/journeys/settling.py"
EXPIRY = "processors/journeys/expiry.py"
HEARING = "processors/journeys/hearing.py"
PROMOS = "processors/journeys/promos.py"
CODES = "processors/codes.py"


class Mutation(NamedTuple):
    """One way to be wrong."""

    name: str
    path: str
    before: str
    after: str


MUTATIONS = (
    Mutation("timeout off by one", SESSIONIZATION,
             "if at - session.ended_at >= self.timeout_ms:\n            return \"timeout\"",
             "if at - session.ended_at > self.timeout_ms:\n            return \"timeout\""),
    Mutation("< for <= on lookback", VIEWS, "for touchpoint in journey.touchpoints if oldest <= touchpoint.at <= at)",
             "for touchpoint in journey.touchpoints if oldest < touchpoint.at <= at)"),
    Mutation("touchpoint at the conversion's own time left out", VIEWS,
             "for touchpoint in journey.touchpoints if oldest <= touchpoint.at <= at)",
             "for touchpoint in journey.touchpoints if oldest <= touchpoint.at < at)"),
    Mutation("< for <= on campaign timeout", SESSIONIZATION, "at - last.at <= self.campaign_timeout_ms",
             "at - last.at < self.campaign_timeout_ms"),
    Mutation("wrong tie order", "domain/hits.py", "return (hit.at, hit.id, hit.kind)",
             "return (hit.at, hit.kind, hit.id)"),
    Mutation("midnight in UTC", SESSIONIZATION, "LocalDays(rules.timezone)", 'LocalDays("UTC")'),
    Mutation("the later duplicate stands", TIMELINE,
             "if (other.at, hits.content(other)) <= (hit.at, hits.content(hit)):",
             "if (other.at, hits.content(other)) >= (hit.at, hits.content(hit)):"),
    Mutation("lost retraction", PUBLISHING, "for record_id in [other for other in published if other not in exists]:",
             "for record_id in [other for other in published if other not in exists and False]:"),
    Mutation("facts not taken back with their record", PUBLISHING,
             "        tell(entry.told, (), record_id, context)\n        self._move(client, entry.counted",
             "        self._move(client, entry.counted"),
    Mutation("counted anew instead of the difference to what was emitted", PUBLISHING,
             "client, entry.counted, counter.session(client_id, client, session, record), context",
             'client, b"", counter.session(client_id, client, session, record), context'),
    Mutation("rules changed between emit and refold: recomputed, not emitted, is taken off", CONVERSIONS,
             "self._move(client, counted, counter.conversion(client_id, client, frozen, record), context)",
             "self._move(client, counted and counter.conversion(client_id, client, frozen, record),"
             " counter.conversion(client_id, client, frozen, record), context)"),
    Mutation("double refund", TIMELINE,
             "head.refunds = tuple(refund for refund in head.refunds if refund.at >= horizon)",
             "pass"),
    Mutation("a refund takes more than is left", "domain/refunds.py",
             "value = left if refund.value is None else min(refund.value, left)",
             "value = left if refund.value is None else refund.value"),
    Mutation("refunds of other clients ignored", CONVERSIONS, "asked += ruling.refunds", "pass"),
    Mutation("late link applied backwards", PERSONS, "return self.since <= at and", "return"),
    Mutation("a link that ended goes on", PERSONS, "(not self.until or at < self.until)", "True"),
    Mutation("anonymous sessions before the first id are nobody's", "domain/owners.py",
             "Owner(session.number if owners else 0,", "Owner(session.number,"),
    Mutation("another user's sessions on the same client are seen", PERSONS, 'seen = {"", user}',
             "seen = {owner.user for owner in owners}"),
    Mutation("order loser kept", ORDERS, "return rival is not None and rival < place", "return False"),
    Mutation("of two claims the later keeps the order", ORDERS, "return rival is not None and rival < place",
             "return rival is not None and rival > place"),
    Mutation("the loser's session keeps its conversion", VIEWS, "session.conversions - len(lost)",
             "session.conversions"),
    Mutation("a lost claim is told no more: who has won loses, and wins, for ever", PUBLISHING,
             "entry.told = tell(entry.told, orders.claims(client_id, frozen), record_id, context)",
             "entry.told = tell(entry.told, (), record_id, context)"),
    Mutation("nothing is kept for what is on its way", CLIENT, "HOLD_COMMITS = 4", "HOLD_COMMITS = -1"),
    Mutation("persons in order of arrival", PERSONS, "parts = sorted(joined, key=_name)", "parts = list(joined)"),
    Mutation("a refund that waited is forgotten silently", "processors/orders.py",
             'self._bury(key, order.asked.pop(name), "unknown_order"',
             'order.asked.pop(name) or (key, "unknown_order"'),
    Mutation("thirteen months are twelve", ORDERS, "WAIT_MS = 396 * DAY_MS", "WAIT_MS = 365 * DAY_MS"),
    Mutation("old states are not published anew", "processors/journeys/codec.py",
             "client.anew = client.snapshot_changed = True", "client.snapshot_changed = True"),
    Mutation("the horizon passes what has not settled", SETTLING,
             "until = min(horizon, client.recents[0].at) if client.recents else horizon", "until = horizon"),
    Mutation("code: nothing waits for the answer", HORIZONS, "until = min(until, promo.at)", "pass"),
    Mutation("code: commits count from the conversion, not from the leap", HORIZONS,
             "if not promo.overdue or revision < promo.overdue + clients.HOLD_COMMITS:", "if not promo.overdue:"),
    Mutation("code: a question is forgotten when time leaps", CODES,
             "if page.overdue and context.revision >= page.overdue + HOLD_COMMITS:", "if True:"),
    Mutation("code: whoever asked before is not told", CODES, "told.update(name for name in everybody if",
             "told.update(name for name in asking if"),
    Mutation("code: an answer is not folded anew", HEARING, "heard.refold = True", "pass"),
    Mutation("code: answers are lost when a client is loaded", TIMELINE,
             "arrivals=promos.arrivals(stored.promos) if stored.promos else promos.NONE", "arrivals=promos.NONE"),
    Mutation("code: what settles is folded without the answer", TIMELINE,
             "apply(snapshot, hit, client_id, orders, arrivals)", "apply(snapshot, hit, client_id, orders)"),
    Mutation("code: when the programme runs does not matter", PROMOS,
             "program is not None and program.runs_at(at)", "program is not None"),
    Mutation("code: an answer once is an answer for ever", PROMOS, "is_arrival=self._is_active(spans, promo.at)",
             "is_arrival=promo.is_arrival or self._is_active(spans, promo.at)"),
    Mutation("code: the end of an enrolment does not matter", "domain/referral/facts.py",
             "if since <= at and (not until or at < until)", "if since <= at"),
    Mutation("code: equal ones in a session are two", SESSIONIZATION,
             "if _same(source, session.latest):\n                return", "if False:\n                return"),
    Mutation("code: it is not its session's latest", SESSIONIZATION,
             "            session.latest = source\n        name =",
             "            pass\n        name ="),
    Mutation("code: off the site it becomes its session's latest", SESSIONIZATION,
             "if session is not None and not sale.offline:", "if session is not None:"),
    Mutation("code: a program's counts", PROMOS, "or sale.late or sale.bot:", "or sale.late:"),
    Mutation("code: beyond grace it is asked for", PROMOS, "or sale.late or sale.bot:", "or sale.bot:"),
    Mutation("code: the same name at another time is an arrival too", "domain/promos.py", "known.get((at, code))",
             "next((s for (_, c), s in known.items() if c == code), None)"),
    Mutation("code: what waits counts as within grace", JOURNEYS,
             "if client.recents[-clients.MAX_RECENT - 1].at >= horizon:", "if True:"),
    Mutation("code: a client is forgotten before its answer", EXPIRY,
             "stored.linked or stored.orders or stored.held or stored.promos)",
             "stored.linked or stored.orders or stored.held)"),
    Mutation("ids of a time when they were many are used again", TIMELINE,
             "            or client.ids is not None\n", ""),
    Mutation("grace is exclusive", "processors/journeys/decoding.py", "<= age <= grace_ms", "<= age < grace_ms"),
)  # fmt: skip


def main(words: list[str]) -> int:
    """Runs the mutations whose name has all the words; how many survived."""
    survived = 0
    with tempfile.TemporaryDirectory() as directory:
        copy = Path(directory)
        for name in ("stream_app", "tests", "schemas"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis"))
        shutil.copy(ROOT / "pyproject.toml", copy)
        for mutation in MUTATIONS:
            if not all(word in mutation.name for word in words):
                continue
            file = copy / "stream_app" / mutation.path
            source = file.read_text()
            if mutation.before not in source:
                raise SystemExit(f"{mutation.name}: the text to change is not there any more")
            file.write_text(source.replace(mutation.before, mutation.after))
            began = time.monotonic()
            red = _red(copy)
            file.write_text(source)
            survived += not red
            print(
                f"{'red' if red else 'SURVIVED':8} {time.monotonic() - began:5.1f} s  {mutation.name}: {red}",
                flush=True,
            )
    return survived


def _red(copy: Path) -> str:
    """The first test that fails on the copy; empty: none does."""
    environment = os.environ | {"HISTORIES": os.environ.get("HISTORIES", "300"), "PYTHONPATH": str(copy)}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--no-header", "-p", "no:cacheprovider",
               "-p", "tests.processors.unshrunk", *TESTS]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=copy, env=environment, capture_output=True, text=True, check=False, timeout=PATIENCE_S
        )
    except subprocess.TimeoutExpired:
        return "they do not end"
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode and not failed:
        raise SystemExit(done.stdout + done.stderr)
    return failed[0].split("::")[-1].split(" - ")[0] if failed else ""


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
