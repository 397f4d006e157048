"""Generated lives of programmes, and how they arrive: in order, or in any order within grace."""

from __future__ import annotations

import copy
import json
import random
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec

from stream_app.domain.referral.facts import CAPTURED, CONVERSION, Purchase, RefundLine, Visit, Visits, person_of
from stream_app.domain.referral.programs import FraudRules, Program, Rate, RateRule, ReferredReward
from stream_app.processors.facts import Letter, encode_body
from tests.processors.referral_net import DAY, GRACE, HASHER, HOUR, MINUTE, T0, Net, asked, crm, program

PEOPLE = ("anna", "boris", "clara", "daina", "egil", "fred")
CODES = {name: f"k{number}" for number, name in enumerate(PEOPLE)}
"""Codes have nothing of their owners' names."""
PROGRAMS = ("friends", "partners")


class Happening(NamedTuple):
    """One thing that happens, before anybody hears of it."""

    at: int
    id: str
    what: str
    fields: dict[str, Any]


def programs(rng: random.Random) -> list[Program]:
    """One or two programmes with rules of every kind."""
    made = []
    for name in PROGRAMS[: rng.choice((1, 1, 2))]:
        levels = rng.choice((("10%", "5%", "2%"), ("33.335%", "12.5%"), ("15.00",), ("7.005%", "7.005%", "0.005%")))
        made.append(
            program(
                name,
                levels,
                attribution=rng.choice(("first", "last")),
                lookback_ms=rng.choice((DAY, 30 * DAY)),
                holding_ms=rng.choice((0, DAY, 14 * DAY)),
                review_ms=rng.choice((0, 2 * DAY)),
                on_deadline=rng.choice(("approve", "reject")),
                first_purchases=rng.choice((0, 0, 1, 2)),
                cap=rng.choice((Decimal(0), Decimal(0), Decimal(120))),
                cap_period=rng.choice(("day", "month", "total")),
                minimum_order=rng.choice((Decimal(0), Decimal(50))),
                exclusive=rng.random() < 0.6,
                referred=rng.choice((None, ReferredReward("fixed", Rate(Decimal(5))))),
                rates=rng.choice(((), (RateRule((Rate.parse("50%"),), occasion="first", minimum=Decimal(400)),))),
                fraud=FraudRules(same_ip=rng.choice((0, 1, 2)), burst=rng.choice((0, 2)), burst_ms=2 * HOUR),
                currency=rng.choice(("EUR", "EUR", "KWD")),
            )
        )
    return made


def life(seed: int, size: int = 36) -> tuple[list[Program], list[Happening]]:
    """What happens in some days among six people, sorted by time."""
    rng = random.Random(seed)
    made = programs(rng)
    names = [p.name for p in made]
    happenings: list[Happening] = []
    clicked: dict[str, list[tuple[str, int]]] = {}
    bought: list[Happening] = []
    times = sorted(rng.randrange(0, 3 * DAY // MINUTE) * MINUTE for _ in range(size))
    for number, at in enumerate(times):
        user = rng.choice(PEOPLE)
        what = rng.choices(("enrolled", "visit", "buy", "refund", "left", "undo"), (3, 8, 14, 4, 1, 1))[0]
        if number < 5:
            what, user = "enrolled", PEOPLE[number]
        elif number < 10:
            what = "visit"
        client = f"c-{user}"
        fields: dict[str, Any] = {"user": user}
        match what:
            case "enrolled":
                fields |= {
                    "program": rng.choice(names),
                    "code": CODES[user] if number < 5 else rng.choice((f"{CODES[user]}x", CODES[rng.choice(PEOPLE)])),
                }
                fields |= {"email": f"{user}@example.org", "client_id": rng.choice(("", client))}
            case "left":
                fields |= {"program": rng.choice(names)}
            case "visit":
                code = CODES[rng.choice(PEOPLE)]
                clicked.setdefault(client, []).append((code, at))
                fields |= {"code": code, "client": client, "anonymous": rng.random() < 0.4}
            case "buy":
                fields |= {
                    "client": client,
                    "value": rng.choice(("10", "49.99", "50", "100.10", "333.33", "500", "0.05")),
                    "currency": rng.choice(("EUR", "EUR", "EUR", "USD", "KWD")),
                    "visits": tuple(clicked.get(client, ())),
                    "codes": (CODES[rng.choice(PEOPLE)],) if rng.random() < 0.2 else (),
                    "email": rng.choice((f"{user}@example.org", "", "", f"{rng.choice(PEOPLE)}@example.org")),
                    "ip": f"198.51.100.{rng.randrange(2)}",
                    "anonymous": rng.random() < 0.3,
                }
            case "refund" | "undo":
                if not bought:
                    continue
                sale = rng.choice(bought)
                fields = {"of": sale.id, "value": rng.choice(("1", "9.99", "25"))}
                if what == "undo":  # an order that somebody else had before: what takes it back is not later
                    at = sale.at
        happening = Happening(at, f"{what}-{number}", what, fields)
        if what == "buy":
            bought.append(happening)
        happenings.append(happening)
    return made, sorted(happenings, key=lambda h: (h.at, h.id))


def on_shared_clients(seed: int, happenings: list[Happening]) -> list[Happening]:
    """The same life, but people use each other's clients and addresses, and several of them."""
    rng = random.Random(f"clients {seed}")
    clients = (*(f"c-{user}" for user in PEOPLE), "c-office", "c-home")
    shared = []
    for happening in happenings:
        fields = dict(happening.fields)
        for name in ("client", "client_id"):
            if fields.get(name) and rng.random() < 0.5:
                fields[name] = rng.choice(clients)
        if happening.what == "enrolled" and rng.random() < 0.4:
            fields["email"] = f"{rng.choice(PEOPLE)}@example.org"
        shared.append(happening._replace(fields=fields))
    return shared


def with_leads(seed: int, made: list[Program], happenings: list[Happening]) -> tuple[list[Program], list[Happening]]:
    """The same life, in which people also ask for something, and the CRM says for weeks what becomes of that."""
    rng = random.Random(f"leads {seed}")
    made = [msgspec.structs.replace(p, statuses=rng.choice((("mql", "won"), ("won",), ("mql", "sql")))) for p in made]
    result = list(happenings)
    for number in range(8):
        user = rng.choice(PEOPLE)
        at = rng.randrange(0, 3 * DAY // MINUTE) * MINUTE
        # on clients of their own: what is known to be whose does not change while people are erased
        anonymous = rng.random() < 0.3
        client = f"c-{user}-{'guest' if anonymous else 'lead'}"
        fields = {"user": user, "client": client, "lead": f"lead-{number}", "anonymous": anonymous}
        result.append(Happening(at, f"ask-{number}", "ask", fields))
        revenue = rng.choice(("", "49.99", "100.10", "500"))
        for update in range(rng.randrange(1, 6)):
            at += rng.choice((MINUTE, HOUR, DAY, 9 * DAY))
            status = rng.choice(("contacted", "qualified", "won", "won", "refused"))
            told = {"status": status, "qualification": rng.choice(("mql", "sql", ""))}
            told["revenue"] = revenue if not update else ""
            result.append(Happening(at, f"crm-{number}-{update}", "crm", {"user": "", "lead": f"lead-{number}"} | told))
    return made, sorted(result, key=lambda h: (h.at, h.id))


def with_amendments(
    seed: int, made: list[Program], happenings: list[Happening]
) -> tuple[list[Program], list[Happening]]:
    """A life with leads whose deals are amended within the hour, and weeks later."""
    made, happenings = with_leads(seed, made, happenings)
    rng = random.Random(f"amendments {seed}")
    made = [msgspec.structs.replace(p, basis=rng.choice(("value", "value", "profit"))) for p in made]
    result = []
    for happening in happenings:
        if happening.what == "crm" and rng.random() < 0.3:
            happening = happening._replace(fields=happening.fields | _worth(rng))
        result.append(happening)
        if happening.what != "crm" or happening.fields["status"] != "won":
            continue
        at = happening.at
        for number in range(rng.randrange(4)):
            at += rng.choice((0, MINUTE, 20 * MINUTE, HOUR, 5 * DAY))
            fields = {**happening.fields, "qualification": "", "revenue": ""} | _worth(rng)
            result.append(Happening(at, f"{happening.id}-{number}", "crm", fields))
    return made, sorted(result, key=lambda h: (h.at, h.id))


def with_moves(seed: int, happenings: list[Happening]) -> list[Happening]:
    """A life in which some purchases turn out to be somebody else's, and somebody else's again: whose they are, the
    first of what says so decides, as with the first user of a visit."""
    rng = random.Random(f"moves {seed}")
    result = list(happenings)
    for happening in happenings:
        if happening.what != "buy" or rng.random() < 0.5:
            continue
        users = rng.choice((rng.sample((*PEOPLE, ""), 2), [f"{happening.id}-a", f"{happening.id}-b"]))
        for number in range(rng.randrange(2, 6)):
            fields = {"of": happening.id, "user": users[number % 2]}
            result.append(Happening(happening.at, f"known-{happening.id}-{number}", "known", fields))
    return sorted(result, key=lambda h: (h.at, h.id))


def _worth(rng: random.Random) -> dict[str, str]:
    revenue = rng.choice(("0", "0.05", "40", "100.10", "333.33", "500", "1000", ""))
    profit = rng.choice(("", "-5", "33.33", "250"))
    return {"revenue": revenue, "profit": profit, "currency": rng.choice(("EUR", "EUR", "EUR", "USD", "KWD"))}


class Teller:
    """Plays the part of journeys, and of the programmes: what is known at a time, as letters."""

    def __init__(self, net: Net) -> None:
        self.net = net
        self.sales: dict[str, Happening] = {}
        self.asks: dict[str, Happening] = {}
        self.refunds: dict[str, list[Happening]] = {}
        self.undone: set[str] = set()
        self.known: dict[str, list[Happening]] = {}
        self.told: dict[str, str] = {}
        """Of each purchase, whose it was last."""
        self.clicks: dict[str, set[tuple[str, int]]] = {}
        self.heard_until = 0

    def net_at(self, at: int, happenings: list[Happening]) -> Net:
        """What has become of all that happened until `at`, when grace is over. Asked again, for a later time, it goes
        on from what happened before: what happens at that very time and the grace are those of a copy. Of figures,
        which nobody looks at, there is one set."""
        in_order = sorted((h for h in happenings if self.heard_until <= h.at <= at), key=lambda h: (h.at, h.id))
        for happening in in_order:
            if happening.at < at:
                self.hear(happening, happening.at)
        self.heard_until = at
        same = (*self.net.processors, self.net.programs, self.net.tally)
        other = copy.deepcopy(self, {id(part): part for part in same})
        for happening in in_order:
            if happening.at == at:
                other.hear(happening, at)
        other.net.pass_time(T0 + at + GRACE + MINUTE)
        return other.net

    def hear(self, happening: Happening, arrives: int) -> None:
        """It is heard of at T0 + `arrives`."""
        self.net.pass_time(T0 + arrives)
        fields = happening.fields
        match happening.what:
            case "buy":
                self.sales[happening.id] = happening
                self._tell(happening.id)
            case "ask":
                self.asks[happening.id] = happening
                self._tell_lead(happening)
            case "crm":
                told = {name: value for name, value in fields.items() if value and name not in {"user", "lead"}}
                event_id, status = happening.id, told.pop("status")
                self.net.send(crm(happening.at, fields["lead"], status, ts=arrives, event_id=event_id, **told))
            case "refund":
                self.refunds.setdefault(fields["of"], []).append(happening)
                self._tell(fields["of"])
            case "known":
                self.known.setdefault(fields["of"], []).append(happening)
                self._tell(fields["of"])
            case "undo":
                self.undone.add(fields["of"])
                self._tell(fields["of"])
            case "visit":
                client = fields["client"]
                self.clicks.setdefault(client, set()).add((fields["code"], happening.at))
                for sale in list(self.sales.values()):
                    if sale.fields["client"] == client and sale.at >= happening.at:
                        self._tell(sale.id)
                for ask in list(self.asks.values()):
                    if f"c-{ask.fields['user']}" == client and ask.at >= happening.at:
                        self._tell_lead(ask)
                user = "" if fields["anonymous"] else fields["user"]
                letter = encode_body(Letter(happening.id, Visits((Visit(fields["code"], T0 + happening.at),))))
                self.net.send((CAPTURED, person_of(user, client).encode(), letter, T0 + arrives))
            case _:
                record = {
                    "event_id": happening.id,
                    "user_id": fields["user"],
                    "occurred_at": T0 + happening.at,
                    "type": happening.what,
                    **({"program": "friends"} if happening.what != "erased" else {}),
                    **{k: v for k, v in fields.items() if k != "user" and v},
                }
                self.net.send(("referral-events", fields["user"].encode(), json.dumps(record).encode(), T0 + arrives))

    def _tell_lead(self, ask: Happening) -> None:
        fields = ask.fields
        if fields["client"] in self.net.forgotten:
            return
        self.net.clients.setdefault(fields["user"], set()).add(fields["client"])
        clicks = self.clicks.get(f"c-{fields['user']}", ())
        visits = sorted((at, code) for code, at in clicks if at <= ask.at)
        user = "" if fields["anonymous"] else fields["user"]
        via = [(code, at) for at, code in visits]
        self.net.send((*asked(ask.at, fields["lead"], fields["client"], user=user, via=via)[:3], self.net.now))

    def _tell(self, sale_id: str) -> None:
        sale = self.sales.get(sale_id)
        if sale is None or sale.fields["client"] in self.net.forgotten:
            return
        fields = sale.fields
        user = "" if fields["anonymous"] else fields["user"]
        if self.known.get(sale_id):
            user = min(self.known[sale_id], key=lambda h: (h.at, h.id)).fields["user"]
        person = person_of(user, fields["client"])
        before, self.told[sale_id] = self.told.get(sale_id, person), person
        if before != person:
            self.net.send((CONVERSION, before.encode(), encode_body(Letter(f"c-{sale_id}", None)), self.net.now))
        left, lines = Decimal(fields["value"]), []
        for refund in sorted(self.refunds.get(sale_id, ()), key=lambda r: (r.at, r.id)):
            value = min(left, Decimal(refund.fields["value"]))
            left -= value
            if value:
                lines.append(RefundLine(refund.id, T0 + refund.at, value))
        visits = sorted(v for v in self.clicks.get(fields["client"], ()) if v[1] <= sale.at)
        purchase = Purchase(
            T0 + sale.at,
            sale.id,
            "purchase",
            value=Decimal(fields["value"]),
            currency=fields["currency"],
            paid=True,
            client=fields["client"],
            user=user,
            codes=fields["codes"],
            visits=tuple(Visit(code, T0 + at) for code, at in sorted(visits, key=lambda v: v[1])),
            contact=HASHER.contact(fields["email"], ip=fields["ip"]),
            refunds=tuple(lines),
        )
        body = None if sale_id in self.undone else purchase
        self.net.send(
            (
                CONVERSION,
                person.encode(),
                encode_body(Letter(f"c-{sale_id}", body)),
                self.net.now,
            )
        )


def live(
    made: list[Program],
    happenings: list[Happening],
    *,
    delays: random.Random | None = None,
    mix: int | None = None,
    **options: Any,
) -> Net:
    """The whole life; `delays` shuffles arrival within grace, `mix` how letters overtake each other."""
    net = Net(*made, rates={"USD": Decimal("0.9")}, mix=mix, **options)
    teller = Teller(net)
    arrivals = [
        (h.at + (delays.randrange(0, GRACE // MINUTE) * MINUTE if delays is not None else 0), number, h)
        for number, h in enumerate(happenings)
    ]
    if delays is not None:
        sold = {h.id: arrives for arrives, _, h in arrivals if h.what == "buy"}
        arrivals = [_at_once(arrival, sold, delays) if arrival[2].what == "known" else arrival for arrival in arrivals]
    for arrives, _, happening in sorted(arrivals, key=lambda a: a[:2]):
        teller.hear(happening, arrives)
    net.pass_time(net.now + 130 * DAY)
    return net


def _at_once(
    arrival: tuple[int, int, Happening], sold: dict[str, int], delays: random.Random
) -> tuple[int, int, Happening]:
    """Much of what says whose a purchase is is heard at once, in any order, as soon as the purchase is."""
    _, number, happening = arrival
    return sold[happening.fields["of"]] + delays.randrange(2) * MINUTE, number + delays.randrange(10), happening


def with_money(seed: int, made: list[Program], happenings: list[Happening]) -> list[Happening]:
    """The same life with payouts of what is due, payouts that do not fit, reviews, and refunds long after."""
    rng = random.Random(seed + 1)
    times = sorted(rng.randrange(DAY // MINUTE, 40 * DAY // MINUTE) * MINUTE for _ in range(10))
    result = list(happenings)
    teller = Teller(Net(*made, rates={"USD": Decimal("0.9")}))
    for number, at in enumerate(times):
        net = teller.net_at(at, result)
        records = list(net.last().values())
        if not records:
            continue
        record = rng.choice(records)
        user, name = record["user_id"], record["program"]
        choice = rng.choice(("payout", "payout", "payout", "refund", "refund", "approve", "reject", "mismatch"))
        if user.startswith("c-"):
            continue
        if choice == "refund":
            paid = sorted(r["conversion_id"] for r in records if r["status"] == "paid" and r["conversion_id"][1] == "-")
            sales = [name[2:] for name in paid] or [h.id for h in result if h.what == "buy" and h.at <= at]
            if sales:
                late = {"of": rng.choice(sales), "value": rng.choice(("5", "1000"))}
                result.append(Happening(at, f"late-refund-{number}", "refund", late))
            continue
        fields: dict[str, Any] = {"user": user, "program": name}
        if choice in {"payout", "mismatch"}:
            currency = record["currency"]
            due = [
                r
                for r in records
                if r["user_id"] == user
                and r["program"] == name
                and r["currency"] == currency
                and r["status"] == "approved"
                and r["kind"] in {"percent", "fixed"}
                and r["due_at"] <= _iso(T0 + at)
            ]
            amount = sum((Decimal(r["amount"]) for r in due), Decimal(0))
            if choice == "mismatch":
                amount += Decimal("0.01") if currency != "KWD" else Decimal("0.001")
            if amount <= 0:
                continue
            fields |= {"amount": str(amount), "currency": currency}
            if rng.random() < 0.4:
                fields["reward_ids"] = [r["id"] for r in due]
            choice = "payout"
        else:
            fields["reward_id"] = record["id"]
        result.append(Happening(at, f"{choice}-{number}", choice, fields))
    return sorted(result, key=lambda h: (h.at, h.id))


def _iso(ms: int) -> str:
    from stream_app.domain.times import rfc3339

    return rfc3339(ms)


__all__ = [
    "Happening",
    "life",
    "live",
    "msgspec",
    "on_shared_clients",
    "with_amendments",
    "with_leads",
    "with_money",
    "with_moves",
]
