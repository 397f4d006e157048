"""A plain recount of the final outputs: what the counters must be, by code that shares nothing with them.

It reads the last record of each id of `attributed-sessions` and `attributed-conversions` and, for what no output shows
(scores, profit, suspicion), the input event of a conversion. It sums in fractions and knows no delta, revision or
window row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

Key = tuple[str, str | None, str, tuple[tuple[str, str], ...], str]
"""(window, start, dimension, keys, currency)"""
MINOR = {"JPY": 0, "KWD": 3}
LIVES = {"1m": timedelta(days=2), "1h": timedelta(days=60), "1d": timedelta(days=761)}
TIMES = ("time_to_contact_s", "time_to_close_s")
COUNTED = {"lead", "purchase", "signup"}


Places = list[tuple[str, tuple[tuple[str, str], ...]]]


def when(event: Mapping[str, Any]) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=event["occurred_at"])


def parse(text: str) -> datetime:
    return datetime.fromisoformat(text)


def rfc(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


class Recount:
    """Counts one deployment's outputs."""

    def __init__(
        self, *, zone: str, goals: Mapping[str, str], base: str = "EUR", rates: Mapping[str, str] = {}
    ) -> None:
        self.zone = ZoneInfo(zone)
        self.goals = goals
        self.base = base
        self.rates = {currency: Fraction(rate) for currency, rate in rates.items()}
        self.counts: dict[Key, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        self.sums: dict[Key, dict[str, Fraction]] = defaultdict(lambda: defaultdict(Fraction))
        self.sets: dict[Key, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
        self.scores: dict[Key, dict[str, tuple[datetime, str, int]]] = defaultdict(dict)

    # -- windows ------------------------------------------------------------------------------------------
    def windows(
        self, at: datetime, which: Iterable[str] = ("1m", "1h", "1d", "total")
    ) -> Iterator[tuple[str, str | None]]:
        local = at.astimezone(self.zone)
        for window in which:
            if window == "1m":
                yield window, rfc(at.replace(second=0, microsecond=0))
            elif window == "1h":
                # The clock's hour began the minutes that its hand shows ago; zones here move by whole hours.
                yield window, rfc((at - timedelta(minutes=local.minute)).replace(second=0, microsecond=0))
            elif window == "1d":
                yield window, rfc(datetime(local.year, local.month, local.day, tzinfo=self.zone))
            else:
                yield window, None

    # -- adding -------------------------------------------------------------------------------------------
    def places(
        self, where: tuple[str, str, str, str, str] | None, goal: str | None = None
    ) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
        found: list[tuple[str, tuple[tuple[str, str], ...]]] = [("all", ())]
        if where is not None:
            source, medium, campaign, channel, platform = where
            found += [
                ("channel", (("channel", channel),)),
                ("source_medium", (("source", source), ("medium", medium))),
                ("campaign", (("source", source), ("medium", medium), ("campaign", campaign.casefold()))),
                ("platform", (("platform", platform),)),
            ]
        if goal is not None:
            found.append(("goal", (("goal", goal),)))
        return found

    def count(self, at: datetime, places: Any, name: str, n: int = 1) -> None:
        for window, start in self.windows(at):
            for dimension, keys in places:
                self.counts[window, start, dimension, keys, self.base][name] += n

    def sum(self, at: datetime, places: Any, name: str, amount: Fraction, currency: str) -> None:
        if currency in self.rates:
            currency, amount = self.base, amount * self.rates[currency]
        for window, start in self.windows(at):
            for dimension, keys in places:
                self.sums[window, start, dimension, keys, currency][name] += amount

    def distinct(self, at: datetime, places: Any, stage: str, client: str) -> None:
        for window, start in self.windows(at, ("1d", "total")):
            for dimension, keys in places:
                self.sets[window, start, dimension, keys, self.base][stage].add(client)

    # -- records ------------------------------------------------------------------------------------------
    def session(self, record: Mapping[str, Any], platforms: Mapping[tuple[str, str, str], str]) -> None:
        at = parse(record["started_at"])
        a = record["attributed"]
        where = (
            a["source"],
            a["medium"],
            a["campaign"],
            a["channel"],
            platforms.get((a["source"], a["medium"], a["campaign"]), ""),
        )
        places = self.places(where)
        self.count(at, places, "sessions")
        self.count(at, places, "page_views", record["page_views"])
        self.count(at, places, "engaged_sessions", int(record["engaged"]))
        self.count(at, places, "new_clients", int(record["is_new_client"]))
        client = record["client_id"]
        self.distinct(at, places, "clients", client)
        self.distinct(at, places, "acquisition" if record["session_number"] == 1 else "retention", client)

    def conversion(
        self, record: Mapping[str, Any], event: Mapping[str, Any], platforms: Mapping[tuple[str, str, str], str]
    ) -> None:
        if record["bot"]:
            return
        at = parse(record["occurred_at"])
        credit = record["credits"]["last_non_direct"][0]
        names = credit["source"], credit["medium"], credit["campaign"]
        where = (*names, credit["channel"], platforms.get(names, ""))
        goal = record["goal"]
        kind = self.goals.get(goal, "other")
        places = self.places(where, goal)
        self._goal(record, event, kind, at, places)
        self._money(record, event, kind, at, places)
        client, by_source = record["client_id"], self.places(where)
        if kind == "purchase":
            self.distinct(at, by_source, "revenue", client)
        if kind == "activation":
            self.distinct(at, by_source, "activation", client)
        if kind == "nps" and event.get("score") is not None:
            answer = at, record["event_id"], event["score"]
            for window, start in self.windows(at, ("1d", "total")):
                for dimension, keys in by_source:
                    latest = self.scores[window, start, dimension, keys, self.base]
                    latest[client] = max(latest.get(client, answer), answer)

    def _goal(
        self, record: Mapping[str, Any], event: Mapping[str, Any], kind: str, at: datetime, places: Places
    ) -> None:
        if kind in COUNTED:
            self.count(at, places, "conversions")
            self.count(at, places, "undetermined", int(not record["source_determined"]))
            if record["assisting_channels"]:
                everywhere: Places = [("all", ()), ("goal", (("goal", record["goal"]),))]
                self.count(at, everywhere, "assisted_conversions")
            for channel in record["assisting_channels"]:
                self.count(at, [("channel", (("channel", channel),))], "assisted_conversions")
        if kind == "join":
            self.count(at, places, "joins")
            self.count(at, places, "suspicious", int(bool(event.get("suspicious"))))
        if kind == "leave":
            self.count(at, places, "leaves")

    def _money(
        self, record: Mapping[str, Any], event: Mapping[str, Any], kind: str, at: datetime, places: Places
    ) -> None:
        revenue = kind == "purchase" and record["lead_id"] is None
        if record["value"] is not None:
            value = Fraction(record["value"])
            self.sum(at, places, "value", value, record["currency"])
            if revenue:
                self.sum(at, places, "revenue", value, record["currency"])
        if revenue and event.get("profit") is not None:
            currency = event.get("currency", "EUR")
            self.sum(at, places, "profit", half_up(Fraction(str(event["profit"])), MINOR.get(currency, 2)), currency)
        for refund in record["refunds"]:
            at_refund, value = parse(refund["occurred_at"]), Fraction(refund["value"])
            self.count(at_refund, places, "refunds")
            self.sum(at_refund, places, "refunded", value, record["currency"])
            if revenue:
                self.sum(at_refund, places, "revenue", -value, record["currency"])

    def lead(self, record: Mapping[str, Any], updates: Sequence[Mapping[str, Any]]) -> None:
        """`updates`: those of the CRM, in order of (occurred_at, event_id)."""
        a = record["attributed"]
        where = a["source"], a["medium"], a["campaign"], a["channel"], a["source_platform"]
        places = self.places(where, record["goal"])
        created = parse(record["created_at"])
        self.count(created, places, "leads")
        self.count(created, places, "won_cohort", int(record["status"] == "won"))
        for name in ("mql", "sql"):
            first = next((u for u in updates if u.get("qualification") == name), None)
            if first is not None:
                self.count(when(first), places, name)
        for entry in record["history"]:
            name = {"proposal": "proposals"}.get(entry["status"], entry["status"])
            if name in {"contacted", "proposals", "won", "refused", "reopened"}:
                self.count(parse(entry["at"]), places, name)
        contacted = next((parse(e["at"]) for e in record["history"] if e["status"] == "contacted"), None)
        if contacted is not None:
            self.count(contacted, places, "time_to_contact_s", (contacted - created) // timedelta(seconds=1))
        self._deals(record, updates, created, places)

    def _deals(
        self, record: Mapping[str, Any], updates: Sequence[Mapping[str, Any]], created: datetime, places: Places
    ) -> None:
        """Each stay in `won`: what the lead is worth at its end counts at its begin, and is taken back at its end."""
        history = record["history"]
        for index, entry in enumerate(history):
            if entry["status"] != "won":
                continue
            begin = parse(entry["at"])
            self.count(begin, places, "time_to_close_s", (begin - created) // timedelta(seconds=1))
            end = parse(history[index + 1]["at"]) if index + 1 < len(history) else None
            if end is None:
                known = list(updates)
            else:  # the update that ended it is the first at that time with another status
                ending = next(
                    i for i, u in enumerate(updates) if when(u) == end and u["status"] == history[index + 1]["status"]
                )
                known = list(updates[:ending])
            for name in ("revenue", "profit"):
                amount = next((u[name] for u in reversed(known) if u.get(name) is not None), None)
                if amount is None:
                    continue
                currency = known[-1]["currency"]
                rounded = half_up(Fraction(amount), MINOR.get(currency, 2))
                self.sum(begin, places, name, rounded, currency)
                if end is not None:
                    self.sum(end, places, name, -rounded, currency)

    def cost(self, row: Mapping[str, Any], channel: str, platform: str) -> None:
        source, medium = row["source"].lower(), row["medium"].lower()
        year, month, day = map(int, row["day"].split("-"))
        start = rfc(datetime(year, month, day, tzinfo=self.zone))
        amount, currency = Fraction(row["cost"]), row["currency"]
        if currency in self.rates:
            amount, currency = amount * self.rates[currency], self.base
        for dimension, keys in self.places((source, medium, row["campaign"], channel, platform)):
            for window in (("1d", start), ("total", None)):
                sums = self.sums[(*window, dimension, keys, currency)]
                sums["cost"] += amount
                sums["ad_clicks"] += row["clicks"]
                sums["impressions"] += row["impressions"]

    # -- the result ---------------------------------------------------------------------------------------
    def result(self) -> dict[Key, dict[str, Any]]:
        """What each counter must show; the ones that are all zero are not there."""
        found = {}
        keys = {*self.counts, *self.sums, *self.sets, *self.scores}
        for key in keys:
            counts = {name: n for name, n in self.counts.get(key, {}).items() if n}
            sums = {name: amount for name, amount in self.sums.get(key, {}).items() if amount}
            sums |= {name: Fraction(counts.pop(name)) for name in TIMES if name in counts}
            funnel = {name: len(clients) for name, clients in self.sets.get(key, {}).items()}
            answers = self.scores.get(key, {})
            if not (counts or sums or funnel or answers):
                continue
            if "clients" in funnel:
                counts["clients"] = funnel.pop("clients")
            found[key] = {"counts": counts, "sums": sums, "funnel": funnel, "nps": nps(answers.values())}
        for key, counter in found.items():
            window, start, dimension, _, currency = key
            if dimension == "goal":  # takes sessions and cost of `all`
                everything = found.get((window, start, "all", (), currency), {"counts": {}, "sums": {}})
                counter["counts"]["sessions"] = everything["counts"].get("sessions", 0)
                for name in ("cost", "ad_clicks", "impressions"):
                    if everything["sums"].get(name):
                        counter["sums"][name] = everything["sums"][name]
        for key, counter in found.items():
            counter["rates"] = rates(key, counter, self.base)
        return found


def nps(answers: Iterable[tuple[datetime, str, int]]) -> Fraction | None:
    scores = [score for _, _, score in answers]
    if not scores:
        return None
    return Fraction(100 * (sum(s >= 9 for s in scores) - sum(s <= 6 for s in scores)), len(scores))


def rates(key: Key, counter: Mapping[str, Any], base: str) -> dict[str, Fraction]:
    window, _, _, _, currency = key
    c, s = defaultdict(int, counter["counts"]), defaultdict(Fraction, counter["sums"])
    if currency != base:
        c = defaultdict(int)
    net, revenue, cost = s["value"] - s["refunded"], s["revenue"], s["cost"]
    wanted: dict[str, tuple[Any, Any]] = {}
    if currency == base:
        wanted |= {
            "cr": (c["conversions"], c["sessions"]),
            "lead_cr": (c["leads"], c["sessions"]),
            "lead_to_won": (c["won_cohort"], c["leads"]),
            "growth": (c["joins"], c["leaves"]),
            "suspicious_share": (c["suspicious"], c["joins"]),
        }
    if window in {"1d", "total"}:
        wanted |= {
            "cpc": (cost, s["ad_clicks"]),
            "drr": (cost, revenue),
            "roas": (net, cost),
            "romi": (revenue - cost, cost),
            "roi": (s["profit"] - cost, cost),
        }
        if currency == base:
            wanted |= {
                "cpl": (cost, c["leads"]),
                "cpa": (cost, c["conversions"]),
                "click_cr": (c["leads"], s["ad_clicks"]),
                "arpu": (revenue, c["clients"]),
            }
    return {name: Fraction(n) / d for name, (n, d) in wanted.items() if d}


MONEY_RATES = {"cpc", "cpl", "cpa", "arpu"}


def shown(counter: Mapping[str, Any], currency: str) -> dict[str, Any]:
    """A recounted counter with the roundings that records have."""
    ints = {"ad_clicks", "impressions", "time_to_contact_s", "time_to_close_s"}
    return {
        "counts": {name: n for name, n in counter["counts"].items() if n},
        "sums": {
            name: rounded
            for name, amount in counter["sums"].items()
            if (rounded := amount if name in ints else half_up(amount, MINOR.get(currency, 2)))
        },
        "funnel": {name: n for name, n in counter["funnel"].items() if n},
        "rates": {
            name: half_up(rate, MINOR.get(currency, 2) if name in MONEY_RATES else 6)
            for name, rate in counter["rates"].items()
        },
        "nps": None if counter["nps"] is None else half_up(counter["nps"], 2),
    }


def half_up(amount: Fraction, digits: int) -> Fraction:
    """Away from zero at one half."""
    scaled = abs(amount) * 10**digits
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if amount >= 0 else -whole, 10**digits)


def read(records: Iterable[Mapping[str, Any]]) -> dict[Key, dict[str, Any]]:
    """Records of `lead-counters` in the same form."""
    found = {}
    for record in records:
        keys = tuple((k, v.casefold() if k == "campaign" else v) for k, v in record["keys"].items())
        key = record["window"], record["window_start"], record["dimension"], keys, record["currency"]
        assert key not in found, f"one record per counter: {key}"
        found[key] = {
            "counts": {name: n for name, n in record["counts"].items() if n},
            "sums": {name: Fraction(amount) for name, amount in record["sums"].items() if Fraction(amount)},
            "funnel": {name: n for name, n in (record["funnel"] or {}).items() if n},
            "rates": {name: Fraction(rate) for name, rate in record["rates"].items() if rate is not None},
            "nps": None if record["nps"] is None else Fraction(record["nps"]),
        }
    return found
