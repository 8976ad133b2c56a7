"""The last look at a plan before anyone may act on it: does it keep every rule, given the facts of this instant?

Each rule is a function of the planned trades and the facts, and answers with the reasons for which it refuses; none
is clean. The rules know nothing of how the plan was made: limits are recomputed here in Decimal, from whole orders.
`RULES` lists them. A plan that is not well formed is refused without asking the others (NaN compares with nothing).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from decimal import Decimal

from state.reasons import Reason, ReasonCode, because
from state.records import CENT, QUANTUM, ZERO, Lot, PlannedLot, PlannedTrade, ReliefMethod, Side, TradeReason
from strategy.types import WashMasks

Trades = Sequence[PlannedTrade]


@dataclass(frozen=True)
class ComplianceFacts:
    """What is true of one account when its plan is checked. Money in USD, quantities in shares, by symbol.

    `queues` are the account's open lots in the order in which the broker would dispose of them. `disallowed_by_leg`
    and `newly_disallowed` come from the what-if on the household's ledger (working orders of every account included):
    the disallowed loss of each sell leg of this plan, and what the plan would add to the disallowed loss of rows that
    are realized already, by sale id; both positive amounts. `identical_group` maps a symbol to the key of its
    substantially identical group; a symbol that is absent is alone. `masks` name every member of a group.

    Raises ValueError for a limit that is negative or not finite: such a limit would refuse nothing.
    """

    relief_method: ReliefMethod
    positions: Mapping[str, Decimal]  # shares held
    queues: Mapping[str, Sequence[Lot]]
    previous_closes: Mapping[str, Decimal]  # USD a share
    masks: WashMasks
    disallowed_by_leg: Mapping[int, Decimal]
    newly_disallowed: Mapping[str, Decimal]
    cash_usd: Decimal  # to spend now, less what working orders hold; may be negative
    cash_reserve_usd: Decimal  # never spent by a plan
    order_max_usd: Decimal
    daily_max_usd: Decimal  # buys and sells of one day together
    price_collar: Decimal  # fraction of the previous close, either way
    turnover_max_usd: Decimal | None = None  # buys and sells of the plan together; None: no such limit
    submitted_today_usd: Decimal = ZERO  # buys and sells sent earlier today
    minimum_buy_usd: Decimal = ZERO  # the broker's least buy; Alpaca refuses fractional buys below 1
    restricted: frozenset[str] = frozenset()
    locked: frozenset[str] = frozenset()
    untradable: frozenset[str] = frozenset()
    fractionable: frozenset[str] = frozenset()
    identical_group: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, Decimal) and not (value.is_finite() and (value >= 0 or each.name == "cash_usd")):
                raise ValueError(f"Expected {each.name} to be finite and not negative, was {value}")

    def group(self, symbol: str) -> str:
        """Key of the symbol's substantially identical group."""
        return self.identical_group.get(symbol, symbol)


Rule = Callable[[Trades, ComplianceFacts], tuple[Reason, ...]]


def check(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """Every reason for which the plan must not be executed as it stands; empty when it may."""
    malformed = well_formed(trades)
    return malformed or tuple(reason for rule in RULES for reason in rule(trades, facts))


# ------------------------------------------------------------------ the plan itself


def well_formed(trades: Trades, _facts: ComplianceFacts | None = None) -> tuple[Reason, ...]:
    """ORDER_INVALID: quantities and prices are finite and positive, amounts finite, legs numbered once."""
    found = []
    legs = [trade.leg for trade in trades]
    for trade in trades:
        amounts = [each for lot in trade.lots for each in (lot.quantity, lot.gain_loss, lot.disallowed)]
        if not all(each.is_finite() and each > 0 for each in (trade.quantity, trade.price)):
            found.append(_invalid(trade, f"quantity {trade.quantity} at price {trade.price}"))
        elif not all(each.is_finite() for each in amounts):
            found.append(_invalid(trade, "an amount of its lots is not finite"))
        elif legs.count(trade.leg) > 1:
            found.append(_invalid(trade, "leg numbered twice"))
    return tuple(found)


def _invalid(trade: PlannedTrade, seen: str) -> Reason:
    return because(ReasonCode.ORDER_INVALID, leg=trade.leg, symbol=trade.symbol, seen=seen)


def symbols_allowed(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_RESTRICTED, SYMBOL_LOCKED, SYMBOL_NOT_TRADABLE: neither bought nor sold."""
    lists = (
        (ReasonCode.LIMIT_RESTRICTED, facts.restricted),
        (ReasonCode.SYMBOL_LOCKED, facts.locked),
        (ReasonCode.SYMBOL_NOT_TRADABLE, facts.untradable),
    )
    return tuple(
        because(code, leg=trade.leg, symbol=trade.symbol)
        for trade in trades
        for code, symbols in lists
        if trade.symbol in symbols
    )


def fractions_allowed(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """SYMBOL_NOT_FRACTIONABLE, ORDER_INVALID: whole shares unless the broker takes fractions; nine decimals at most.

    Buys are worth at least the broker's minimum; sells may be smaller (docs/METHODS.md).
    """
    found = []
    for trade in trades:
        closes = trade.side is Side.SELL and trade.quantity == facts.positions.get(trade.symbol)
        if trade.quantity % 1 and not closes and trade.symbol not in facts.fractionable:
            details = {"leg": trade.leg, "symbol": trade.symbol, "quantity": trade.quantity}
            found.append(because(ReasonCode.SYMBOL_NOT_FRACTIONABLE, **details))
        elif trade.quantity % QUANTUM:
            found.append(_invalid(trade, f"quantity {trade.quantity} is finer than {QUANTUM}"))
        elif trade.side is Side.BUY and trade.notional < facts.minimum_buy_usd:
            found.append(_invalid(trade, f"buy of {trade.notional} USD is below {facts.minimum_buy_usd}"))
    return tuple(found)


# ------------------------------------------------------------------ shares and lots


def long_only(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_LONG_ONLY: the sells of a symbol together stay within the shares held before the plan."""
    return tuple(
        because(ReasonCode.LIMIT_LONG_ONLY, symbol=symbol, sells=sold, held=facts.positions.get(symbol, ZERO))
        for symbol, sold in _sold(trades).items()
        if sold > facts.positions.get(symbol, ZERO)
    )


def relief_order(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_RELIEF_ORDER: the lots of each sell are exactly those that the broker would dispose of (Reg. §1.1012-1(c)).

    Sells of one symbol take from its queue one after the other, in leg order. Under specific identification the sell
    names its lots: they must be open, for enough shares, and add up to the order.
    """
    left: dict[str, Pieces] = {}
    found = []
    for trade in sorted(trades, key=lambda each: each.leg):
        if trade.side is not Side.SELL:
            continue
        planned = [(lot.lot_id, lot.quantity) for lot in trade.lots]
        queue = left.get(trade.symbol)
        if queue is None:
            queue = [(lot.lot_id, lot.quantity) for lot in facts.queues.get(trade.symbol, ())]
        if facts.relief_method is ReliefMethod.SPECIFIC:
            expected, rest = _named(queue, planned)
        else:
            expected, rest = _from_head(queue, trade.quantity)
        left[trade.symbol] = rest
        if planned != expected or sum((quantity for _, quantity in planned), ZERO) != trade.quantity:
            details = {"planned": _listed(planned), "broker_sells": _listed(expected)}
            found.append(because(ReasonCode.LIMIT_RELIEF_ORDER, leg=trade.leg, symbol=trade.symbol, **details))
    return tuple(found)


Pieces = list[tuple[str, Decimal]]


def _from_head(queue: Pieces, quantity: Decimal) -> tuple[Pieces, Pieces]:
    """The pieces that selling `quantity` takes from the head of the queue, and what is left of it."""
    taken: Pieces = []
    rest: Pieces = []
    for lot_id, held in queue:
        piece = min(held, quantity)
        quantity -= piece
        if piece > 0:
            taken.append((lot_id, piece))
        if held > piece:
            rest.append((lot_id, held - piece))
    return taken, rest


def _named(queue: Pieces, planned: Pieces) -> tuple[Pieces, Pieces]:
    """The planned pieces as far as the queue holds them, and what is left of it."""
    held = dict(queue)
    taken: Pieces = []
    for lot_id, quantity in planned:
        piece = min(held.get(lot_id, ZERO), quantity)
        taken.append((lot_id, piece))
        held[lot_id] = held.get(lot_id, ZERO) - piece
    return taken, [(lot_id, quantity) for lot_id, quantity in held.items() if quantity > 0]


def _listed(pieces: Pieces) -> str:
    return ",".join(f"{lot_id}:{quantity}" for lot_id, quantity in pieces) or "none"


# ------------------------------------------------------------------ wash sales


def buys_outside_windows(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """WASH_LOSS_SALE_IN_WINDOW: no purchase of a name that the calendar says not to buy (IRC §1091(a))."""
    found = []
    for trade in trades:
        if trade.side is Side.BUY and trade.symbol in facts.masks.no_buy:
            until, why = facts.masks.no_buy[trade.symbol]
            details = {"leg": trade.leg, "symbol": trade.symbol, "until": until, "why": why}
            found.append(because(ReasonCode.WASH_LOSS_SALE_IN_WINDOW, **details))
    return tuple(found)


def loss_sales_outside_windows(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """WASH_PURCHASE_IN_WINDOW: no sale with a loss row of a name that the calendar says not to sell at a loss.

    Row by row: a net gain does not hide a loss row (Rev. Rul. 70-231). Cash that a person has asked for may be raised
    through it, if the plan declares what is disallowed; `disallowance_declared` then checks how much.
    """
    found = []
    for trade in trades:
        excused = trade.reason is TradeReason.RAISE_CASH and trade.disallowed > 0
        if _has_loss(trade, facts) and trade.symbol in facts.masks.no_loss_sale and not excused:
            until, why = facts.masks.no_loss_sale[trade.symbol]
            details = {"leg": trade.leg, "symbol": trade.symbol, "until": until, "why": why}
            found.append(because(ReasonCode.WASH_PURCHASE_IN_WINDOW, **details))
    return tuple(found)


def no_swap_into_itself(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """WASH_LOSS_SALE_IN_WINDOW: no purchase in the substantially identical group of a loss sale of the same plan."""
    sold = {facts.group(trade.symbol): trade.symbol for trade in trades if _has_loss(trade, facts)}
    return tuple(
        because(
            ReasonCode.WASH_LOSS_SALE_IN_WINDOW,
            leg=trade.leg,
            symbol=trade.symbol,
            sold_in_this_plan=sold[facts.group(trade.symbol)],
        )
        for trade in trades
        if trade.side is Side.BUY and facts.group(trade.symbol) in sold
    )


def disallowance_declared(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """WASH_WHAT_IF_DISALLOWS: the what-if disallows no more, to the cent, than each leg declares, and nothing earlier.

    A sell that the what-if does not answer for is refused too: unknown is not an all-clear.
    """
    found = []
    for trade in trades:
        if trade.side is not Side.SELL:
            continue
        actual = facts.disallowed_by_leg.get(trade.leg)
        if actual is None or not actual.is_finite() or actual - trade.disallowed >= CENT:
            details = {"leg": trade.leg, "symbol": trade.symbol, "declared": trade.disallowed}
            what_if = "unknown" if actual is None else actual
            found.append(because(ReasonCode.WASH_WHAT_IF_DISALLOWS, **details, what_if=what_if))
    for sale_id, added in sorted(facts.newly_disallowed.items()):
        if not added.is_finite() or added >= CENT:
            found.append(because(ReasonCode.WASH_WHAT_IF_DISALLOWS, earlier_sale=sale_id, what_if=added))
    return tuple(found)


def _has_loss(trade: PlannedTrade, facts: ComplianceFacts) -> bool:
    """True for a sale with a row at a loss by the plan's figures or by our own lots at the plan's price.

    A row of unknown basis counts as a loss, and so does a sale that shows no rows or rows of no lot of ours.
    """
    if trade.side is not Side.SELL:
        return False
    lots = {lot.lot_id: lot for lot in facts.queues.get(trade.symbol, ())}

    def at_a_loss(row: PlannedLot) -> bool:
        lot = lots.get(row.lot_id)
        if row.gain_loss < 0 or lot is None or not lot.basis_known:
            return True
        return lot.quantity * trade.price < lot.basis_at(trade.price)

    return not trade.lots or any(at_a_loss(row) for row in trade.lots)


# ------------------------------------------------------------------ money


def cash_covers(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_CASH: buys <= cash + sells - reserve. A plan without buys never fails it."""
    buys, sells = _value(trades, Side.BUY), _value(trades, Side.SELL)
    available = facts.cash_usd + sells - facts.cash_reserve_usd
    if buys > 0 and buys > available:
        return (because(ReasonCode.LIMIT_CASH, buys=f"{buys:.2f}", available=f"{available:.2f}"),)
    return ()


def order_size(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_ORDER_SIZE: no leg is worth more than the largest order (SEC Rule 15c3-5(c)(1))."""
    return tuple(
        because(
            ReasonCode.LIMIT_ORDER_SIZE,
            leg=trade.leg,
            symbol=trade.symbol,
            value=f"{trade.notional:.2f}",
            limit=facts.order_max_usd,
        )
        for trade in trades
        if trade.notional > facts.order_max_usd
    )


def daily_notional(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_DAILY_NOTIONAL: buys and sells of the plan and of the day before it together (SEC Rule 15c3-5(c)(1))."""
    total = facts.submitted_today_usd + sum((trade.notional for trade in trades), ZERO)
    if trades and total > facts.daily_max_usd:
        return (because(ReasonCode.LIMIT_DAILY_NOTIONAL, value=f"{total:.2f}", limit=facts.daily_max_usd),)
    return ()


def price_collar(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_PRICE_COLLAR: the price is near the previous close; QUOTE_MISSING where there is none (F27)."""
    found = []
    for trade in trades:
        close = facts.previous_closes.get(trade.symbol)
        if close is None or not (close.is_finite() and close > 0):
            found.append(because(ReasonCode.QUOTE_MISSING, leg=trade.leg, symbol=trade.symbol, seen="previous close"))
        elif abs(trade.price - close) > facts.price_collar * close:
            details = {"leg": trade.leg, "symbol": trade.symbol, "price": trade.price, "previous_close": close}
            found.append(because(ReasonCode.LIMIT_PRICE_COLLAR, **details, limit=facts.price_collar))
    return tuple(found)


def _value(trades: Iterable[PlannedTrade], side: Side) -> Decimal:
    return sum((trade.notional for trade in trades if trade.side is side), ZERO)


def _sold(trades: Trades) -> Mapping[str, Decimal]:
    sold: dict[str, Decimal] = defaultdict(lambda: ZERO)
    for trade in trades:
        if trade.side is Side.SELL:
            sold[trade.symbol] += trade.quantity
    return sold


def turnover(trades: Trades, facts: ComplianceFacts) -> tuple[Reason, ...]:
    """LIMIT_TURNOVER: the plan's buys and sells together, but for the share that rounding may add to each order."""
    if facts.turnover_max_usd is None:
        return ()
    gross = sum((trade.notional for trade in trades), ZERO)
    room = sum((trade.price for trade in trades), ZERO)
    if gross <= facts.turnover_max_usd + room:
        return ()
    limit = facts.turnover_max_usd
    return (because(ReasonCode.LIMIT_TURNOVER, gross_usd=round(gross, 2), most_usd=round(limit, 2)),)


RULES: tuple[Rule, ...] = (
    well_formed,
    symbols_allowed,
    fractions_allowed,
    long_only,
    relief_order,
    buys_outside_windows,
    loss_sales_outside_windows,
    no_swap_into_itself,
    disallowance_declared,
    cash_covers,
    order_size,
    daily_notional,
    turnover,
    price_collar,
)
