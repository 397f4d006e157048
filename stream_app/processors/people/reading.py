"""A person's part in referral programmes as people read it: what `/rewards/{user_id}` shows. No contacts, not even
their hashes."""

from __future__ import annotations

from itertools import islice
from typing import Any

import msgspec

from stream_app.domain.money import shown
from stream_app.domain.referral.buyer import shown_person
from stream_app.domain.referral.ledger import Entry, Sums, clawed_back
from stream_app.domain.referral.records import clawback_of, reward_of
from stream_app.domain.times import rfc3339
from stream_app.engine.ports import Store
from stream_app.engine.rows import part_key
from stream_app.processors.people.books.entries import is_shown
from stream_app.processors.people.state import ENTRY_ROWS, ROWS_OF_A_KIND, Person

MOST = 10_000
_decode = msgspec.msgpack.Decoder(list[Entry]).decode


def referrer_document(key: bytes, person: Person, entries: list[Entry]) -> dict[str, object]:
    """What a person is owed, by whom they were referred, what they are enrolled in."""
    name = key.decode("utf-8", "replace")
    rewards = []
    for entry in sorted((e for e in entries if is_shown(e)), key=lambda e: (e.walk.purchase.at, e.id)):
        rewards.append(reward_of(entry, name, ""))
        rewards.extend(clawback_of(entry, c, name, "") for c in clawed_back(entry))
    hidden = {"revision", "retracted", "truncated", "rules_version"}
    return {
        "user_id": shown_person(name),
        "memberships": [
            {
                "program": m.program,
                "joined" if m.joined else "left": rfc3339(m.at),
                "codes": [code for _, code in m.codes],
                "advocate_kind": m.advocate_kind,
            }
            for m in person.memberships
        ],
        "referred_by": [
            {"program": b.program, "user_id": b.referrer, "code": b.code, "since": rfc3339(b.at)}
            for b in person.settled.bindings
        ],
        "referred": person.bound,
        "invites": person.invites,
        "balances": {
            currency: {name: shown(getattr(sums, name), currency) for name in Sums.__struct_fields__}
            for currency, sums in sorted(person.books.sums.items())
        },
        "payouts_waiting": [turn.event_id for turn in person.books.turns],
        "rewards_in_all": person.books.entries,
        "rewards": [
            {field: value for field, value in msgspec.to_builtins(r).items() if field not in hidden} for r in rewards
        ],
    }


def entries_of(store: Store, tag: bytes, key: bytes) -> list[Entry]:
    """Committed entries of a person, in no particular order; not more than the first 10,000 found."""
    start, stop = part_key(tag, key, ENTRY_ROWS), part_key(tag, key, ENTRY_ROWS + ROWS_OF_A_KIND)
    rows: Any = (store.get(row) for row in store.scan(start, stop, MOST))
    return list(islice((entry for row in rows if row is not None for entry in _decode(row)), MOST))
