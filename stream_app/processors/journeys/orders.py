"""What orders are told: who claims them, and which refunds ask for them. Their own processor rules on both."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from stream_app.domain.client import Client, Frozen
from stream_app.domain.hits import Hit
from stream_app.domain.ids import conversion_id, order_address, refund_id
from stream_app.domain.orders import Asked, Claim, Ruling
from stream_app.domain.refunds import Refund
from stream_app.engine.processor import Context
from stream_app.processors.facts import Fact, Letter, encode_body, tell
from stream_app.processors.links import ORDER_CLAIM, ORDER_REFUND


def is_lost(
    rulings: Mapping[int, Ruling], order: int, at: int, event_id: str, client_id: str, *, in_session: bool = False
) -> bool:
    """Whether another client holds the order of a conversion."""
    ruling = rulings.get(order) if rulings else None
    return ruling is not None and ruling.beats((at, event_id, client_id), in_session=in_session)


def claims(client_id: str, frozen: Frozen) -> list[Fact]:
    """A conversion with an order claims it, whether or not it holds it."""
    hit = frozen.hit
    sale = hit.sale
    assert sale is not None
    if not sale.order:
        return []
    claim = Claim(client_id, hit.id, hit.at, sale.value, sale.currency, sale.late)
    return [Fact(ORDER_CLAIM, order_address(sale.goal, sale.order_id), encode_body(claim))]


def tell_late_refund(client_id: str, refund: Hit, context: Context[Hit]) -> None:
    """A refund that is settled as it comes."""
    tell((), _asks(client_id, refund), refund_id(client_id, refund.id), context)


def tell_refunds(client_id: str, client: Client, context: Context[Hit]) -> bool:
    """Refunds within grace: their orders are told. True if one is gone: another event has taken its id."""
    before = client.stored.refunding
    if not before and not client.head.refunds:
        return False
    now = {}
    for refund in client.head.refunds:
        name = refund_id(client_id, refund.id)
        now[name] = tell(before.pop(name, ()), _asks(client_id, refund), name, context)
    for name, told in before.items():
        tell(told, (), name, context)
    client.stored.refunding = now
    return bool(before)


def settle_refunds(client_id: str, client: Client) -> None:
    """Refunds that have settled are not told again."""
    unsettled = {refund_id(client_id, refund.id) for refund in client.head.refunds}
    refunding = client.stored.refunding
    client.stored.refunding = {name: told for name, told in refunding.items() if name in unsettled}


def let_go(client_id: str, hit: Hit, context: Context[Hit]) -> None:
    """The order of a conversion keeps the claim of a client that is erased, without its name."""
    sale = hit.sale
    assert sale is not None
    if not sale.order:
        return
    address = order_address(sale.goal, sale.order_id)
    name, claim = conversion_id(client_id, hit.id), Claim("", hit.id, hit.at, sale.value, sale.currency, sale.late)
    context.forward(ORDER_CLAIM, address, encode_body(Letter(name, claim)))


def let_refunds_go(client_id: str, client: Client, context: Context[Hit]) -> None:
    """Orders keep the refunds of a client that is erased, without its name: its own orders, others', and those that
    nobody has claimed yet. What an earlier release kept does not know its order any more."""
    for refund in (*client.stored.refunds, *map(Refund.kept, client.head.refunds)):
        if not refund.address:
            continue
        asked = Asked("", msgspec.structs.replace(refund, address=b""))
        letter = Letter(refund_id(client_id, refund.id), asked)
        context.forward(ORDER_REFUND, refund.address, encode_body(letter))


def _asks(client_id: str, refund: Hit) -> list[Fact]:
    sale = refund.sale
    assert sale is not None
    asked = Asked(client_id, Refund.of(refund), sale.origin)
    return [Fact(ORDER_REFUND, order_address(sale.goal, sale.order_id), encode_body(asked))]
