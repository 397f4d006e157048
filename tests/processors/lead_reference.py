"""The life of a lead told once more, as simply as possible: sort everything, cut it into runs of one status, look back.

Independent of `stream_app.domain.leads`. Shares with it the input records only."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from itertools import groupby
from typing import Any

from stream_app.domain.lead_events import LeadFact
from stream_app.domain.sources.model import Source
from tests.processors.lead_harness import RESOLVER, Cell

Attribution = Callable[[str, int], Source | None]
"""(client, moment) → where the client came from then."""
NOWHERE = ("(not determined)", "(not set)", "(not set)", "Not determined")


def lead_of(  # noqa: C901  # one story, told in one go
    lead_id: str, updates: list[dict[str, Any]], facts: list[LeadFact], came_from: Attribution
) -> tuple[dict[str, Any], dict[Cell, Decimal]] | None:
    """(record without revision, what it counts); None: no such lead."""
    goals = sorted(facts, key=lambda f: (f.at, f.event_id))
    crm = sorted(_once(updates), key=lambda u: (u["occurred_at"], u["event_id"]))
    if not goals and not crm:
        return None
    by_goal = bool(goals) and (
        not crm or (goals[0].at, goals[0].event_id) <= (crm[0]["occurred_at"], crm[0]["event_id"])
    )
    created = goals[0].at if by_goal else crm[0]["occurred_at"]
    story = [{"status": "new", "occurred_at": created}, *crm] if by_goal else crm
    source = _source(goals, crm, by_goal, created, came_from)
    goal, segment = (goals[0].goal, goals[0].segment) if goals else ("", ())
    counts: dict[Cell, Decimal] = defaultdict(Decimal)

    def add(at: int, name: str, amount: Decimal | int, owner: str, reason: str = "", currency: str = "") -> None:
        counts[source, goal, segment, at // 60_000, name, currency, owner, reason] += amount

    owner_now = _latest(story, len(story), "owner") or ""
    add(created, "leads", 1, owner_now)
    runs, start = [], 0
    for status, run in groupby(story, key=lambda u: u["status"]):
        end = start + len(list(run))
        runs.append((status, start, end))
        start = end
    history = []
    contacted_at = None
    for status, start, end in runs:
        at = story[start]["occurred_at"]
        owner = _latest(story, start + 1, "owner") or next((u["owner"] for u in story[start:end] if u.get("owner")), "")
        reason = next((u["reason"] for u in reversed(story[start:end]) if u.get("reason")), "")
        history.append({"status": status, "at": stamp(at), "owner": owner or None, "reason": reason or None})
        name = {"proposal": "proposals"}.get(status, status)
        if status in {"contacted", "proposal", "won", "refused", "reopened"}:
            add(at, name, 1, owner, reason if status == "refused" else "")
        if status == "contacted" and contacted_at is None:
            contacted_at = at
            add(at, "time_to_contact_s", (at - created) // 1000, owner)
        if status == "won":
            add(at, "time_to_close_s", (at - created) // 1000, owner)
            for name, amount, currency in _worth(story[:end]):
                add(at, name, amount, owner, currency=currency)
                if end < len(story):
                    add(story[end]["occurred_at"], name, -amount, owner, currency=currency)
    for name in ("mql", "sql"):
        for index, one in enumerate(story):
            if one.get("qualification") == name:
                add(one["occurred_at"], name, 1, _latest(story, index + 1, "owner") or "")
                break
    last = runs[-1]
    since = story[last[1]]["occurred_at"]
    if last[0] == "won":
        add(created, "won_cohort", 1, owner_now)
    worth = {name: (amount, currency) for name, amount, currency in _worth(story)}
    record = {
        "id": lead_id,
        "retracted": False,
        "truncated": False,
        "rules_version": "test",
        "lead_id": lead_id,
        "status": last[0],
        "qualification": _latest(story, len(story), "qualification"),
        "created_at": stamp(created),
        "first_status_at": stamp(created),
        "status_since": stamp(since),
        "history": history,
        "owner": owner_now or None,
        "client_id": goals[0].client_id if goals else next((u["client_id"] for u in crm if u.get("client_id")), None),
        "contact_id": _latest(story, len(story), "contact_id"),
        "goal": goal or None,
        "segment": dict(segment),
        "attributed": dict(zip(("source", "medium", "campaign", "channel"), source, strict=True)),
        "source_determined": source != NOWHERE,
        "revenue": f"{worth['revenue'][0]:.2f}" if "revenue" in worth else None,
        "profit": f"{worth['profit'][0]:.2f}" if "profit" in worth else None,
        "currency": next(iter(worth.values()))[1] if worth else None,
        "refusals": sum(status == "refused" for status, _, _ in runs),
        "reopened": sum(status == "reopened" for status, _, _ in runs),
        "time_to_contact_s": None if contacted_at is None else (contacted_at - created) // 1000,
        "time_to_close_s": (since - created) // 1000 if last[0] == "won" else None,
    }
    return record, {cell: amount for cell, amount in counts.items() if amount}


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """A record as the reference has it: of the source what decides."""
    attributed = {name: record["attributed"][name] for name in ("source", "medium", "campaign", "channel")}
    return {**record, "attributed": attributed}


def stamp(ms: int) -> str:
    """RFC 3339."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + f".{ms % 1000:03}Z"


def _once(updates: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of one event id what came in time, then what happened first."""
    best: dict[str, dict[str, Any]] = {}
    for one in updates:
        other = best.get(one["event_id"])
        if other is None or (one["late"], one["occurred_at"]) < (other["late"], other["occurred_at"]):
            best[one["event_id"]] = one
    return list(best.values())


def _latest(story: list[dict[str, Any]], end: int, field: str) -> Any:
    return next((one[field] for one in reversed(story[:end]) if one.get(field)), None)


def _worth(story: list[dict[str, Any]]) -> list[tuple[str, Decimal, str]]:
    """Revenue and profit as the records so far say it: in the currency of the last that names any, and not from before
    the last that named some in another."""
    found: dict[str, Decimal] = {}
    currency = ""
    for one in reversed(story):
        named = {name: one[name] for name in ("revenue", "profit") if one.get(name) is not None}
        if not named:
            continue
        code = one.get("currency") or "EUR"
        if currency and code != currency:
            break
        currency = code
        for name, amount in named.items():
            found.setdefault(name, Decimal(str(amount)))
    return [(name, amount, currency) for name, amount in found.items()]


def _source(
    goals: list[LeadFact], crm: list[dict[str, Any]], by_goal: bool, created: int, came_from: Attribution
) -> tuple[str, str, str, str]:
    named = [_named(one) for one in crm if one.get("source") or one.get("medium") or one.get("campaign")]
    says: list[Source | None] = []
    if not by_goal and crm[0].get("source"):
        says.append(_named(crm[0]))
    says += [one.source for one in goals]
    client = next((one["client_id"] for one in crm if one.get("client_id")), None)
    if not goals and client:
        says.append(came_from(client, created))
    says += named
    for source in says:
        if source is not None and source.source != "(not determined)":
            return source.source, source.medium, source.campaign, source.channel
    return NOWHERE


def _named(one: dict[str, Any]) -> Source:
    return RESOLVER.of_fields(one.get("source", ""), one.get("medium", ""), one.get("campaign", ""))
