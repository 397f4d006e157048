"""Files of a generated world with referral programmes, for replay and Kafka."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

DAY, HOUR, MINUTE = 86_400_000, 3_600_000, 60_000
T0 = int(datetime(2025, 3, 1, tzinfo=UTC).timestamp()) * 1000
CANARIES = {
    "email": "canary.bird@example.org",
    "phone": "+37129990001",
    "name": "Canarius Birdman",
    "ip": "203.0.113.213",
}
"""Personal data that must be found nowhere."""
TRACES = ("canary.bird", "canarybird", "29990001", "canarius", "birdman", "203.0.113.213")
"""What is looked for, without letter case."""

CONFIG = """
[site]
own_domains = ["shop.example.com"]
[sessions]
grace_minutes = 60
[privacy]
hash_key = "a secret of the tests, long enough"
[[goals]]
name = "purchase"
kind = "purchase"
[[programs]]
name = "friends"
levels = ["10%", "5%", "2%"]
goals = ["purchase"]
holding_days = 1
link_parameters = ["ref", "via"]
path_prefixes = ["/r/"]
first_purchases = 3
[[programs]]
name = "partners"
levels = ["15.00"]
goals = ["purchase"]
attribution = "last"
holding_days = 0
cap = "60"
cap_period = "day"
"""


def at(ms: int) -> int:
    return T0 + ms


def anna(petr_buys: int) -> dict[str, list[dict[str, Any]]]:
    """Anna refers Misha, Misha Olga, Olga Petr, who buys for 1,000 so long after his click."""
    clicks = [
        click(HOUR, "c-misha", "https://shop.example.com/?ref=anna"),
        click(3 * HOUR, "c-olga", "https://shop.example.com/?via=Misha", user_id="olga"),
        click(5 * HOUR, "c-petr", "https://shop.example.com/r/OLGA", ip=CANARIES["ip"]),
    ]
    events = [
        joined(0, "anna", "ANNA", **CANARIES),
        joined(2 * HOUR, "misha", "MISHA", client_id="c-misha"),
        joined(4 * HOUR, "olga", "OLGA"),
    ]
    sale = bought(5 * HOUR + petr_buys, "c-petr", "1000", order_id="o-petr", email="petr@example.org")
    return {"clicks": clicks, "conversions": [sale], "referral-events": events}


def click(when: int, client: str, url: str, **fields: Any) -> dict[str, Any]:
    return {"event_id": f"k-{client}-{when}", "client_id": client, "occurred_at": at(when), "url": url, **fields}


def joined(when: int, user: str, code: str, program: str = "friends", **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"e-{user}-{when}", "user_id": user, "occurred_at": at(when), "program": program,
        "type": "enrolled", "code": code, **fields,
    }  # fmt: skip


def bought(when: int, client: str, value: str, **fields: Any) -> dict[str, Any]:
    return {
        "event_id": f"b-{client}-{when}", "client_id": client, "occurred_at": at(when), "goal": "purchase",
        "value": value, "currency": "EUR", **fields,
    }  # fmt: skip


def world(seed: int, *, people: int = 8, days: int = 3, size: int = 120) -> dict[str, list[dict[str, Any]]]:
    """Some days among some people: enrolments, visits through links, purchases, refunds, departures."""
    rng = random.Random(seed)
    names = [f"p{n}" for n in range(people)]
    made: dict[str, list[dict[str, Any]]] = {"clicks": [], "conversions": [], "referral-events": []}
    orders: list[dict[str, Any]] = []
    for number, name in enumerate(names[:5]):
        program = rng.choice(("friends", "friends", "partners"))
        made["referral-events"].append(joined(number * MINUTE, name, name.upper(), program, client_id=f"c-{name}"))
    for number, when in enumerate(sorted(rng.randrange(10, days * 1_440) for _ in range(size))):
        when = when * MINUTE
        name = rng.choice(names)
        known = {"user_id": name} if rng.random() < 0.6 else {}
        match rng.choices(("click", "buy", "refund", "enrol", "left", "invited"), (50, 35, 10, 4, 1, 4))[0]:
            case "click":
                url = rng.choice(("?ref={}", "?via={}", "r/{}", "?utm_source=x&ref={}", "")).format(rng.choice(names))
                made["clicks"].append(click(when, f"c-{name}", f"https://shop.example.com/{url}", **known))
            case "buy":
                extra: dict[str, Any] = {"email": rng.choice((f"{name}@example.org", ""))}
                if rng.random() < 0.3:
                    extra["ip"] = "198.51.100.7"
                if rng.random() < 0.15:
                    extra["promo_code"] = rng.choice(names)
                sale = bought(
                    when, f"c-{name}", rng.choice(("9.99", "100", "333.35")), order_id=f"o{number}", **known, **extra
                )
                orders.append(sale)
                made["conversions"].append(sale)
            case "refund" if orders:
                sale = rng.choice(orders)
                made["conversions"].append(
                    {
                        **bought(when, sale["client_id"], rng.choice(("1", "50")), order_id=sale["order_id"]),
                        "event_id": f"r{number}",
                        "kind": "refund",
                    }
                )
            case "enrol":
                made["referral-events"].append(joined(when, name, rng.choice(names) + "2"))
            case "left":
                made["referral-events"].append({**joined(when, name, ""), "type": "left", "event_id": f"l{number}"})
            case "invited":
                event = {**joined(when, name, ""), "type": "invited", "event_id": f"i{number}", "count": 3}
                made["referral-events"].append(event)
            case _:
                pass
    return made


def write(directory: Path, made: dict[str, list[dict[str, Any]]], config: str = CONFIG) -> list[str]:
    """Writes the files; the options of `replay` that read them."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "app.toml").write_text(config)
    options = ["--config", str(directory / "app.toml")]
    for topic, records in made.items():
        path = directory / f"{topic}.jsonl"
        path.write_text("".join(json.dumps(record) + "\n" for record in records))
        options += [f"--{topic}", str(path)]
    return options


def read(path: Path) -> dict[str, dict[str, Any]]:
    """Records by id, without revisions and retracted ones."""
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return {r["id"]: {k: v for k, v in r.items() if k != "revision"} for r in records if not r["retracted"]}
