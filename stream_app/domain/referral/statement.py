"""The statement of one partner: every reward with its grounds, and what is due, as CSV and as a page to read."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from decimal import Decimal
from html import escape
from typing import Any

import msgspec

from stream_app.domain.money import shown
from stream_app.domain.referral.ledger import MONEY_KINDS, STATUSES

COLUMNS = (
    "occurred_at",
    "program",
    "level",
    "role",
    "referred_user",
    "code",
    "conversion_id",
    "kind",
    "basis",
    "rate",
    "amount",
    "currency",
    "status",
    "due_at",
    "paid_at",
    "payout",
    "reasons",
    "id",
)
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


Account = tuple[str, str]
"""(programme, currency): what a payout is about."""


class Statement(msgspec.Struct, frozen=True):
    """Rewards of one person in a period, oldest first, with their sums by status; and what is due, of whatever time."""

    user: str
    rewards: tuple[dict[str, Any], ...]
    sums: dict[Account, dict[str, Decimal]]
    due: dict[Account, Decimal]
    """Approved and not paid: what could be paid out now; negative: carried forward."""


def statement(user: str, rewards: Iterable[dict[str, Any]], since: str = "", until: str = "") -> Statement:
    """From records of `referral-rewards`, the last of each id; conversions from `since` to before `until` (RFC 3339
    in UTC, or the beginning of one)."""
    theirs = sorted(
        (r for r in rewards if r.get("user_id") == user and not r.get("retracted")),
        key=lambda r: (r["occurred_at"], r["id"]),
    )
    kept = []
    sums: dict[Account, dict[str, Decimal]] = {}
    due: dict[Account, Decimal] = {}
    for reward in theirs:
        account, amount = (reward["program"], reward["currency"]), Decimal(reward["amount"])
        due.setdefault(account, Decimal(0))
        if reward["status"] == "approved" and reward["kind"] in MONEY_KINDS:
            due[account] += amount
        if (not since or reward["occurred_at"] >= since) and (not until or reward["occurred_at"] < until):
            kept.append(reward)
            of_account = sums.setdefault(account, dict.fromkeys(STATUSES, Decimal(0)))
            of_account[reward["status"]] += amount
    return Statement(user, tuple(kept), sums, due)


def as_document(made: Statement) -> dict[str, Any]:
    """For programs: due and sums by currency, and of each programme, as payouts are made."""
    none = dict.fromkeys(STATUSES, Decimal(0))
    programs: dict[str, dict[str, dict[str, str]]] = {}
    due: dict[str, Decimal] = {}
    sums: dict[str, dict[str, Decimal]] = {}
    for (program, currency), owed in sorted(made.due.items()):
        amounts = made.sums.get((program, currency), none)
        of_currency = sums.setdefault(currency, dict(none))
        for status, amount in amounts.items():
            of_currency[status] += amount
        due[currency] = due.get(currency, Decimal(0)) + owed
        programs.setdefault(program, {})[currency] = _shown({"due": owed, **amounts}, currency)
    return {
        "user_id": made.user,
        "due": {currency: shown(owed, currency) for currency, owed in due.items()},
        "sums": {currency: _shown(amounts, currency) for currency, amounts in sums.items()},
        "programs": programs,
        "rewards": made.rewards,
    }


def _shown(amounts: dict[str, Decimal], currency: str) -> dict[str, str]:
    return {name: shown(amount, currency) for name, amount in amounts.items()}


def as_csv(made: Statement) -> str:
    """RFC 4180 with a header. Texts that a spreadsheet would take for a formula get an apostrophe."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(COLUMNS)
    for reward in made.rewards:
        writer.writerow([_cell(name, reward.get(name)) for name in COLUMNS])
    return out.getvalue()


def _cell(name: str, value: object) -> str:
    if value is None:
        return ""
    text = " ".join(value) if isinstance(value, list | tuple) else str(value)
    return f"'{text}" if name not in {"amount", "basis"} and text.startswith(_FORMULA) else text


def as_page(made: Statement) -> str:
    """One HTML page that needs nothing else: sums, then every reward. For the partner, on paper or on a screen."""
    rows = "".join(f"<tr>{_cells(reward)}</tr>\n" for reward in made.rewards)
    none = dict.fromkeys(STATUSES, Decimal(0))
    sums = "".join(
        f"<tr><th>{escape(program)}</th><th>{escape(currency)}</th>"
        + "".join(f"<td>{shown(amount, currency)}</td>" for amount in made.sums.get((program, currency), none).values())
        + f"<td><b>{shown(due, currency)}</b></td></tr>\n"
        for (program, currency), due in sorted(made.due.items())
    )
    return _PAGE.format(
        user=escape(made.user),
        count=len(made.rewards),
        statuses="".join(f"<th>{status.replace('_', ' ')}</th>" for status in STATUSES),
        sums=sums,
        rows=rows,
    )


def _cells(reward: dict[str, Any]) -> str:
    what = f"level {reward['level']}" if reward.get("level") else "welcome reward"
    grounds = f"{reward['rate']} of {reward['basis']}" if reward.get("basis") else str(reward["rate"])
    cells: Sequence[str] = (
        str(reward["occurred_at"])[:10],
        f"{reward['program']}, {what}",
        str(reward["referred_user"]),
        grounds,
        f"{reward['amount']} {reward['currency']}",
        str(reward["status"]).replace("_", " "),
        str(reward["paid_at"] or reward["due_at"] or "")[:10],
        ", ".join(reward.get("reasons") or ()).replace("_", " "),
    )
    return "".join(f"<td>{escape(cell)}</td>" for cell in cells)


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Statement for {user}</title>
<style>body{{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;color:#222}}
table{{border-collapse:collapse;width:100%;margin:1rem 0}}th,td{{padding:.3rem .6rem;text-align:left;
border-bottom:1px solid #ddd}}td{{font-variant-numeric:tabular-nums}}@media print{{body{{margin:0}}}}</style></head>
<body><h1>Statement for {user}</h1>
<table><thead><tr><th>programme</th><th>currency</th>{statuses}<th>due now</th></tr></thead><tbody>
{sums}</tbody></table>
<h2>{count} rewards</h2>
<table><thead><tr><th>date</th><th>for</th><th>referred</th><th>grounds</th><th>amount</th><th>status</th>
<th>due or paid</th><th>notes</th></tr></thead><tbody>
{rows}</tbody></table></body></html>
"""
