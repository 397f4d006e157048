"""One visit: where somebody comes from, which pages are looked at, and whether it ends in a conversion.

A visit is planned as a whole when it begins. Its steps are events without what is known only when they happen (event
id, time) and what all of them share (device, user). What comes after the landing page is mostly one of a few thousand
routes made once: the simulator must be faster than what it feeds.
"""

from __future__ import annotations

import math
import random
from bisect import bisect
from itertools import accumulate
from typing import NamedTuple

import msgspec

from stream_app.simulator import site
from stream_app.simulator.people import Device, Person
from stream_app.simulator.records import Topic
from stream_app.simulator.site import APP, ARRIVALS, HOST, LANDINGS, PAGES, SCREENS


class Step(msgspec.Struct, frozen=True, gc=False):
    """One event of a visit."""

    gap_ms: int
    """After the step before it."""
    topic: Topic
    body: bytes
    """The JSON between `occurred_at` and what the visit's events share: begins with a comma, ends inside a string."""


class Visit(msgspec.Struct, gc=False):
    """A visit under way: the steps still to come, the next one last."""

    device: Device
    head: bytes
    """The JSON between the event id and the time."""
    tail: bytes
    """The JSON at the end of every event, from the quote on that ends its body."""
    steps: list[Step]


def _visit(device: Device, tail: bytes, steps: list[Step]) -> Visit:
    return Visit(device, b'","client_id":"%b","occurred_at":' % device.client_id, tail, steps)


class Behaviour(NamedTuple):
    """How people move on the site. `tempo` scales the time between pages: 1 is human, 0.1 ten times as fast."""

    tempo: float = 1.0
    pages: float = 3.3
    """Mean number of pages of a visit by a human."""
    purchase: float = 0.022
    lead: float = 0.02
    signup: float = 0.008
    """Share of visits with that conversion, before the arrival's own odds."""
    bots: float = 0.02
    spam: float = 0.003


class Planner:
    """Plans visits, all from the given random numbers. `tag` makes order ids unique among runs."""

    def __init__(self, rng: random.Random, behaviour: Behaviour, tag: bytes) -> None:
        self._rng = rng
        self._behaviour = behaviour
        self._tag = tag
        self._orders = 0
        self._logged_in: set[int] = set()
        self._newcomers = list(accumulate(a.newcomers for a in ARRIVALS))
        self._returning = list(accumulate(a.returning for a in ARRIVALS))
        # Drawing from tables made once costs a tenth of drawing from the distributions.
        self._gaps = [self._gap() for _ in range(4096)]
        self._lengths = [self._length() for _ in range(4096)]
        self._routes = [self._route(i % len(LANDINGS)) for i in range(4096)]

    def _gap(self) -> int:
        """Time on a page: log-normal, half of them under 25 s; one in 150 returns to an open tab after the timeout."""
        rng = self._rng
        seconds = (
            rng.uniform(1850, 5400) if rng.random() < 1 / 150 else min(1500.0, rng.lognormvariate(math.log(25), 1.0))
        )
        return 40 + int(seconds * 1000 * self._behaviour.tempo)

    def _length(self) -> int:
        """Pages of a visit: two in five leave after the first, the others read on."""
        if self._behaviour.pages <= 1 or self._rng.random() < 0.4:
            return 1
        mean = (self._behaviour.pages - 0.4) / 0.6
        return min(40, 2 + int(self._rng.expovariate(1 / max(0.1, mean - 1.5))))

    def _route(self, landing: int) -> list[Step]:
        """The pages seen after a landing page, the last one first."""
        url = HOST + LANDINGS[landing]
        rng = self._rng
        steps = []
        for _ in range(self._lengths[rng.randrange(4096)] - 1):
            page = HOST + rng.choice(PAGES)
            steps.append(Step(rng.choice(self._gaps), "clicks", b',"url":"%b","referrer":"%b' % (page, url)))
            url = page
        if rng.random() < 0.03:
            steps.append(
                Step(rng.choice(self._gaps), "clicks", b',"kind":"link_click","url":"%b","referrer":"%b' % (url, url))
            )
        steps.reverse()
        return steps

    def visit(self, person: Person, returning: bool) -> Visit:
        """The next visit of a person."""
        rng = self._rng
        u = rng.random()
        if u < self._behaviour.bots:
            return self._bot(person)
        if u > 1 - self._behaviour.spam:
            return self._spam(person)
        device = person.device(rng.random() < 0.3)
        user = b""
        if person.registered:
            if person.index not in self._logged_in and returning and rng.random() < 0.3:
                self._logged_in.add(person.index)
            if person.index in self._logged_in:
                user = b',"user_id":"%b"' % person.user_id
        tail = b'","user_agent":"%b","ip":"%b"%b}' % (device.user_agent, device.ip, user)
        if device.app and returning:
            return _visit(device, tail, self._app())
        return _visit(device, tail, self._web(person, returning))

    def _web(self, person: Person, returning: bool) -> list[Step]:
        rng = self._rng
        rnd = rng.random
        weights = self._returning if returning else self._newcomers
        arrival = ARRIVALS[bisect(weights, rnd() * weights[-1])]
        number = int(rnd() * 4096)
        landing = HOST + LANDINGS[number % len(LANDINGS)]
        query = arrival.query
        if query:
            landing += b"?" + (query.replace(b"%id", b"%020x" % rng.getrandbits(80)) if b"%id" in query else query)
        first = Step(0, "clicks", b',"url":"%b","referrer":"%b' % (landing, arrival.referrer))
        route = self._routes[number]
        goals = self._goals(person, arrival.buys * (1.6 if returning else 1.0))
        return [*goals, *route, first] if goals else [*route, first]

    def _app(self) -> list[Step]:
        rng = self._rng
        body = b',"kind":"screen_view","url":"%b%b'
        count = self._lengths[rng.randrange(4096)]
        return [Step(rng.choice(self._gaps), "clicks", body % (APP, rng.choice(SCREENS))) for _ in range(count)]

    def _bot(self, person: Person) -> Visit:
        """A crawler: many pages, fast, no referrer."""
        rng = self._rng
        device = person.device(False)
        tail = b'","user_agent":"%b","ip":"%b"}' % (rng.choice(site.BOTS), device.ip)
        pages = 1 if self._behaviour.pages <= 1 else rng.randrange(3, 12)
        body = b',"url":"%b%b'
        return _visit(
            device,
            tail,
            [Step(rng.randrange(200, 2200), "clicks", body % (HOST, rng.choice(PAGES))) for _ in range(pages)],
        )

    def _spam(self, person: Person) -> Visit:
        """A visit that never was: only there to leave its referrer in the reports."""
        device = person.device(False)
        step = Step(0, "clicks", b',"url":"%b/","referrer":"%b' % (HOST, self._rng.choice(site.SPAMMERS)))
        return _visit(device, b'","user_agent":"%b","ip":"%b"}' % (device.user_agent, device.ip), [step])

    def _goals(self, person: Person, odds: float) -> list[Step]:
        """What the visit leads to, the last step first: an order over the payment service, a lead form, a sign-up."""
        behaviour = self._behaviour
        u = self._rng.random() / odds
        if u < behaviour.purchase:
            return self._purchase()
        if u < behaviour.purchase + behaviour.lead:
            body = b',"goal":"lead_form","name":"%b","email":"%b","phone":"%b' % person.contact
            return [Step(self._think(), "conversions", body)]
        if u < behaviour.purchase + behaviour.lead + behaviour.signup:
            return [Step(self._think(), "conversions", b',"goal":"signup","email":"%b' % person.contact[1])]
        return []

    def _think(self) -> int:
        return self._gaps[int(self._rng.random() * 4096)] % 90_000 + 500

    def _purchase(self) -> list[Step]:
        rng = self._rng
        click = b',"url":"%b%b","referrer":"%b'
        detour = rng.choice(site.LOGINS) if rng.random() < 0.2 else HOST + b"/cart"
        referrer = rng.choice(site.PAYMENTS) if rng.random() < 0.7 else HOST + b"/checkout"
        self._orders += 1
        order = b"%b-%d" % (self._tag, self._orders)
        cents = 990 + int(rng.paretovariate(1.6) * 1500) % 90_000
        currency = b"USD" if rng.random() < 0.08 else b"EUR"
        bought = b',"goal":"purchase","value":"%d.%02d","currency":"%b","order_id":"%b'
        steps = [
            Step(900, "conversions", bought % (cents // 100, cents % 100, currency, order)),
            Step(self._think(), "clicks", click % (HOST, b"/thank-you", referrer)),
            Step(self._think(), "clicks", click % (HOST, b"/checkout", detour)),
            Step(self._think(), "clicks", click % (HOST, b"/cart", HOST + b"/")),
        ]
        return [self._refund(order, cents, currency), *steps] if rng.random() < 0.06 else steps

    def _refund(self, order: bytes, cents: int, currency: bytes) -> Step:
        """Every third is a second thought within minutes, the others come back after days; some return only a part."""
        rng = self._rng
        seconds = rng.uniform(60, 1200) if rng.random() < 1 / 3 else rng.uniform(1, 12) * 86_400
        part = b""
        if rng.random() < 0.4:
            cents = max(1, cents * rng.randrange(10, 90) // 100)
            part = b',"value":"%d.%02d","currency":"%b"' % (cents // 100, cents % 100, currency)
        body = b',"goal":"purchase","kind":"refund"%b,"order_id":"%b' % (part, order)
        return Step(int(seconds * 1000), "conversions", body)
