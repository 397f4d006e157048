"""The same job done the simple way: sort everything, fold once, keep everything in memory.

It shares with the product only the resolver, the hashing of ids and the decoder of single events; sessions,
duplicates, attribution, credit and refunds are written again, straight from the rules.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from stream_app.domain.hits import BOT, CONVERSION, LINK_CLICK, REFUND, Hit, content
from stream_app.domain.ids import conversion_id, session_id
from stream_app.domain.rules import JourneyRules
from stream_app.domain.sources.model import DIRECT, Source
from stream_app.engine.processor import Rejected
from stream_app.processors.journeys import JourneysProcessor
from tests.domain.credit_oracle import credits_by_hand
from tests.processors.harness import ENROLMENTS, PROGRAMS

DAY = 86_400_000
PROGRAMME = Source("referral-programme", "referral-programme", channel="Referral Programme")


def show(ms: int) -> str:
    moment = datetime.fromtimestamp(ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{ms % 1000:03}Z"


def amount(value: Decimal, currency: str) -> str:
    digits = {"JPY": 0, "KWD": 3}.get(currency, 2)
    return f"{value:.{digits}f}"  # tests use amounts that need no rounding


def reference(processor: JourneysProcessor, records: list[tuple[str, dict[str, Any], int]]) -> dict[str, Any]:
    """Last records of everything, once all is over."""
    import json

    by_client: dict[str, list[Hit]] = defaultdict(list)
    owned: dict[str, list[dict[str, Any]]] = defaultdict(list)
    ends: dict[str, int] = {}
    for topic, record, ts in records:
        if topic == ENROLMENTS:
            if record["type"] == "enrolled":
                owned[record["code"]].append(record)
            else:
                ends[record["event_id"]] = record["occurred_at"]
            continue
        try:
            hit = processor.decoder(topic)(None, json.dumps(record).encode(), ts)
        except Rejected:
            continue
        if hit.kind < BOT:
            by_client[hit.client].append(hit)
    known = programme_of(owned, ends)
    everybody = [_Client(client, processor.rules, hits, known) for client, hits in by_client.items()]
    rivals: dict[str, list[tuple[int, str, str, bool]]] = defaultdict(list)
    refunds: dict[str, list[Hit]] = defaultdict(list)
    for one in everybody:
        for sold in one.sold:
            if sold["order"]:
                rivals[sold["order"]].append((sold["hit"].at, sold["hit"].id, one.client, sold["hit"].sale.late))
        for order, asked in one.refunds.items():
            refunds[order] += asked
    sessions: dict[str, Any] = {}
    conversions: dict[str, Any] = {}
    for one in everybody:
        one.lose(rivals)
        sessions.update(one.sessions())
        conversions.update(one.conversions(refunds, [other for other in everybody if other is not one]))
    return {"sessions": dict(sorted(sessions.items())), "conversions": dict(sorted(conversions.items()))}


def programme_of(owned: dict[str, list[dict[str, Any]]], ends: dict[str, int]) -> Callable[[Hit], bool]:
    """Whether a conversion names a code that its owner, who enrolled with it first, could be paid for."""

    def is_active(code: str, at: int) -> bool:
        claims = sorted(owned[code.casefold()], key=lambda claim: (claim["occurred_at"], claim["event_id"]))
        for claim in claims:
            end = ends.get(claim["event_id"], at + 1)
            if claim["user_id"] == claims[0]["user_id"] and claim["occurred_at"] <= at < end:
                program = PROGRAMS.by_name[claim["program"]]
                return program.starts <= at and (program.ends == 0 or at < program.ends)
        return False

    return lambda hit: any(is_active(code, hit.at) for code in (hit.sale.promo_code, hit.sale.invite_code) if code)


class _Client:
    def __init__(self, client: str, rules: JourneyRules, hits: list[Hit], has_programme: Callable[[Hit], bool]) -> None:
        self.has_programme = has_programme
        self.client = client
        self.rules = rules
        self.visits: list[dict[str, Any]] = []
        self.touches: list[dict[str, Any]] = []
        self.sold: list[dict[str, Any]] = []
        self.refunds: dict[str, list[Hit]] = defaultdict(list)
        self.zone = ZoneInfo(rules.timezone)
        for hit in self.distinct(hits):
            self.take(hit)

    def distinct(self, hits: list[Hit]) -> list[Hit]:
        clicks: dict[str, int] = {}
        sold: set[str] = set()
        result = []
        for hit in sorted(hits, key=lambda h: (h.at, h.id, h.kind >= CONVERSION, content(h))):
            if hit.kind < CONVERSION:
                if hit.id in clicks and hit.at - clicks[hit.id] <= self.rules.sessions.grace_ms:
                    continue
                clicks[hit.id] = hit.at
            else:
                if hit.id in sold:
                    continue
                sold.add(hit.id)
            result.append(hit)
        return result

    def why_new(self, hit: Hit) -> str | None:
        if not self.visits:
            return "first"
        visit, rules = self.visits[-1], self.rules.sessions
        if hit.at - visit["last"] >= rules.timeout_minutes * 60_000:
            return "timeout"
        if hit.user and visit["user"] and hit.user != visit["user"]:
            return "user"
        if rules.profile == "ua":
            source, latest = hit.source, visit["latest"]
            if hit.kind < CONVERSION and source is not None and not hit.referral and source.source != "(direct)":
                same = (source.source, source.medium) == (latest.source, latest.medium)
                if not same or source.campaign not in {"(not set)", latest.campaign}:
                    return "campaign"
            days = [datetime.fromtimestamp(at / 1000, self.zone).date() for at in (visit["last"], hit.at)]
            if days[0] != days[1]:
                return "midnight"
        if hit.at - visit["start"] >= rules.max_age_hours * 3_600_000:
            return "max_age"
        if visit["events"] >= rules.max_events:
            return "max_events"
        return None

    def take(self, hit: Hit) -> None:
        if hit.kind == REFUND:
            self.refunds[f"{hit.sale.goal}\n{hit.sale.order_id}"].append(hit)
            return
        sale = hit.sale
        away = sale is not None and (sale.offline or sale.late or sale.bot)
        order = f"{sale.goal}\n{sale.order_id}" if sale is not None and sale.order_id else ""
        repeated = bool(order) and any(other["order"] == order for other in self.sold)
        visit = self.visits[-1] if self.visits else None
        if away:
            if visit is not None and hit.at - visit["last"] >= self.rules.sessions.timeout_minutes * 60_000:
                visit = None
            if hit.source is not None and not sale.late and not sale.bot and not repeated:
                self.touch(hit.at, visit["id"] if visit else None, hit.source)
        else:
            reason = self.why_new(hit)
            if reason is not None:
                visit = self.start(hit, reason)
            else:
                self.extend(visit, hit)
        if sale is None:
            return
        if not repeated and not sale.late and not sale.bot and self.has_programme(hit):
            self.redeem(hit, visit, away=away)
        joined = visit is not None and not sale.late and not sale.bot and not repeated
        if joined:
            visit["conversions"] += 1
            if sale.value is not None:
                visit["value"][sale.currency] = visit["value"].get(sale.currency, Decimal(0)) + sale.value
        if not repeated:
            user = hit.user
            if not user and visit is not None and not sale.late:
                user = visit["user"] or visit["before"]
            self.sold.append({"hit": hit, "visit": visit, "user": user, "order": order, "joined": joined})

    def redeem(self, hit: Hit, visit: dict[str, Any] | None, *, away: bool) -> None:
        if visit is None or away:
            self.touch(hit.at, visit["id"] if visit else None, PROGRAMME)
        elif not visit["touched"] or visit["latest"].source != PROGRAMME.source:
            visit["latest"], visit["touched"] = PROGRAMME, True
            self.touch(hit.at, visit["id"], PROGRAMME)

    def start(self, hit: Hit, reason: str) -> dict[str, Any]:
        clicked = hit.kind < CONVERSION
        source = hit.source if clicked and hit.source is not None else DIRECT
        name = session_id(self.client, hit.id, hit.at, conversion=not clicked)
        own = {"at": hit.at, "session": name, "source": source}
        attributed = own
        if source.source == "(direct)":
            days = self.rules.sessions.campaign_timeout_days or (183 if self.rules.sessions.profile == "ua" else 90)
            named = [t for t in self.touches if t["source"].source != "(direct)"]
            if named and hit.at - named[-1]["at"] <= days * DAY:
                attributed = named[-1]
        visit = {
            "id": name, "number": len(self.visits) + 1, "why": reason, "start": hit.at, "last": hit.at, "events": 1,
            "views": 1 if clicked and hit.kind != LINK_CLICK else 0, "user": hit.user,
            "before": self.users[-1] if self.users else "", "source": source, "latest": source,
            "known": hit.at, "attributed": attributed, "landing": hit.url, "exit": hit.url,
            "ignored": [], "conversions": 0, "value": {}, "touched": clicked,
        }  # fmt: skip
        if hit.user:
            self.users.append(hit.user)
        self.visits.append(visit)
        if clicked:
            self.touch(hit.at, name, source)
        return visit

    def touch(self, at: int, session: str | None, source: Any) -> None:
        visit = self.visits[-1] if self.visits else None
        self.touches.append({"at": at, "session": session, "source": source, "visit": visit})

    def whose(self, touch: dict[str, Any], at: int) -> str:
        """The user to whom a touchpoint belonged, as far as was known at a time."""
        visit = touch["visit"]
        if visit is not None:
            if visit["user"] and visit["known"] <= at:
                return str(visit["user"])
            if visit["before"]:
                return str(visit["before"])
        first = next((v for v in self.visits if v["user"]), None)
        return first["user"] if first is not None and first["known"] <= at else ""

    def lose(self, rivals: dict[str, list[tuple[int, str, str, bool]]]) -> None:
        """Takes out what other clients hold: conversions, and what their sessions show of them."""
        for sold in list(self.sold):
            hit, visit = sold["hit"], sold["visit"]
            mine = (hit.at, hit.id, self.client)
            others = [rival for rival in rivals.get(sold["order"], []) if rival[2] != self.client and rival[:3] < mine]
            if others:
                self.sold.remove(sold)
            if any(not late for *_, late in others) and sold["joined"]:
                visit["conversions"] -= 1
                if hit.sale.value is not None:
                    visit["value"][hit.sale.currency] -= hit.sale.value
                visit["value"] = {currency: value for currency, value in visit["value"].items() if value}

    @property
    def users(self) -> list[str]:
        return self.__dict__.setdefault("_users", [])

    def extend(self, visit: dict[str, Any], hit: Hit) -> None:
        visit["last"] = hit.at
        visit["events"] += 1
        if hit.user:
            self.users.append(hit.user)
            if not visit["user"]:
                visit["user"], visit["known"] = hit.user, hit.at
        if hit.kind >= CONVERSION:
            return
        if hit.kind != LINK_CLICK:
            visit["views"] += 1
            visit["exit"] = hit.url
        visit["exit"] = visit["exit"] or hit.url
        visit["landing"] = visit["landing"] or hit.url
        source = hit.source
        if hit.referral:
            if hit.referral not in visit["ignored"]:
                visit["ignored"].append(hit.referral)
        elif source is not None and source.source != "(direct)":
            tags = (source.source, source.medium, source.campaign)
            latest = visit["latest"]
            if not visit["touched"] or tags != (latest.source, latest.medium, latest.campaign):
                visit["latest"], visit["touched"] = source, True
                self.touch(hit.at, visit["id"], source)

    def sessions(self) -> dict[str, Any]:
        return {visit["id"]: self.session(visit) for visit in self.visits}

    def session(self, v: dict[str, Any]) -> dict[str, Any]:
        source, a = v["source"], v["attributed"]
        return {
            "id": v["id"], "retracted": False, "truncated": False, "rules_version": "test", "client_id": self.client,
            "user_id": v["user"] or v["before"] or None, "session_number": v["number"], "status": "closed",
            "started_at": show(v["start"]), "ended_at": show(v["last"]), "duration_s": (v["last"] - v["start"]) // 1000,
            "page_views": v["views"], "events": v["events"],
            "engaged": v["last"] - v["start"] > 10_000 or v["views"] >= 2 or v["conversions"] > 0,
            "is_new_client": v["number"] == 1, "landing_url": v["landing"] or None, "exit_url": v["exit"] or None,
            "split_reason": v["why"], "source": source.source, "medium": source.medium, "campaign": source.campaign,
            "term": source.term, "content": source.content, "source_platform": source.source_platform,
            "channel": source.channel, "click_id_type": source.click_id_type, "arrival": source.arrival,
            "attributed": {
                "source": a["source"].source, "medium": a["source"].medium, "campaign": a["source"].campaign,
                "channel": a["source"].channel, "from_session": a["session"], "age_s": (v["start"] - a["at"]) // 1000,
            },
            "ignored_referrals": v["ignored"], "conversions": v["conversions"],
            "conversion_value": {c: amount(value, c) for c, value in sorted(v["value"].items())},
        }  # fmt: skip

    def conversions(self, refunds: dict[str, list[Hit]], others: list[_Client]) -> dict[str, Any]:
        return {conversion_id(self.client, s["hit"].id): self.conversion(s, refunds, others) for s in self.sold}

    def conversion(self, s: dict[str, Any], asked: dict[str, list[Hit]], others: list[_Client]) -> dict[str, Any]:
        hit, sale = s["hit"], s["hit"].sale
        goal = next((g for g in self.rules.goals if g.name == sale.goal), None)
        rules = self.rules.attribution
        days = rules.acquisition_lookback_days if goal is not None and goal.acquisition else rules.lookback_days
        touches = [t for t in self.touches if 0 <= hit.at - t["at"] <= days * DAY]
        user = s["user"]
        if user and rules.persons:
            touches = [t for t in touches if self.whose(t, hit.at) in {"", user}]
            foreign = [
                (t["at"], t["session"] or "", other.client, number, t)
                for other in others
                for number, t in enumerate(other.touches)
                if 0 <= hit.at - t["at"] <= days * DAY and other.whose(t, hit.at) == user
            ]
            touches = sorted([t for *_, t in sorted(foreign, key=lambda f: f[:4])] + touches, key=lambda t: t["at"])
        if hit.source is not None and sale.late and not sale.bot:
            touches.append({"at": hit.at, "session": None, "source": hit.source})
        visit = s["visit"]
        if sale.late or sale.bot:
            timeout = self.rules.sessions.timeout_minutes * 60_000
            begun = [v for v in self.visits if v["start"] <= hit.at]
            visit = begun[-1] if begun and hit.at - begun[-1]["last"] < timeout else None
        named = [t for t in touches if t["source"].source != "(direct)"] or touches
        last = named[-1]["source"].channel if named else None
        channels = [t["source"].channel for t in touches]
        left = sale.value or Decimal(0)
        refunds = []
        everywhere = asked.get(s["order"], []) if s["order"] else []
        for refund in sorted(everywhere, key=lambda r: (r.at, r.id, str(r.sale.value))):
            if refund.sale.value is not None and refund.sale.currency != sale.currency:
                continue
            taken = left if refund.sale.value is None else min(left, refund.sale.value)
            left -= taken
            refunds.append(
                {"event_id": refund.id, "occurred_at": show(refund.at), "value": amount(taken, sale.currency)}
            )

        return {
            "id": conversion_id(self.client, hit.id), "retracted": False, "truncated": False, "rules_version": "test",
            "client_id": self.client, "event_id": hit.id, "order_id": sale.order_id or None,
            "user_id": s["user"] or None, "session_id": visit["id"] if visit else None, "lead_id": sale.lead_id or None,
            "goal": sale.goal, "occurred_at": show(hit.at),
            "value": None if sale.value is None else amount(sale.value, sale.currency),
            "currency": None if sale.value is None else sale.currency, "bot": sale.bot,
            "touchpoints": [
                {
                    "session_id": t["session"], "occurred_at": show(t["at"]), "source": t["source"].source,
                    "medium": t["source"].medium, "campaign": t["source"].campaign, "channel": t["source"].channel,
                    "age_s": (hit.at - t["at"]) // 1000,
                }
                for t in touches
            ],
            "path": " > ".join(channels), "days_to_convert": (hit.at - touches[0]["at"]) // DAY if touches else None,
            "credits": credits_by_hand(
                [(t["at"], t["source"]) for t in touches], hit.at, sale.value, sale.currency, rules
            ),
            "assisting_channels": [c for c in dict.fromkeys(channels) if c not in {last, "Direct"}],
            "source_determined": bool(touches), "refunds": refunds,
            "refunded_value": None if sale.value is None else amount((sale.value or Decimal(0)) - left, sale.currency),
        }  # fmt: skip
