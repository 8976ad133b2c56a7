"""`harvestd positions` and `harvestd lots`: what is held, and which shares a sale would take first."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated

import typer

from daemon.cli.common import ConfigOption, DbOption, JsonOption, emit, reading, shares, usd
from daemon.cli.views.facts import add, as_of, chosen, described, grid, next_weekday, say, show
from daemon.coverage import names
from daemon.errors import NotFound
from state.records import ZERO, Account, Lot, ReliefMethod, Term

if TYPE_CHECKING:
    from state.store import PositionRow, Store

AccountOption = Annotated[str | None, typer.Option("--account", help="One account only.")]
SymbolOption = Annotated[str | None, typer.Option("--symbol", help="One symbol only.")]
UNKNOWN = "unknown"

# ------------------------------------------------------------------ positions


@dataclass(frozen=True, slots=True)
class Position:
    """One symbol of one account at the last close. Gain or loss is unrealized, before tax."""

    symbol: str
    quantity: Decimal
    close_usd: Decimal | None  # None: no price is stored for it
    value_usd: Decimal | None
    weight_pct: float | None  # of the account's value, cash included where it is known
    benchmark_weight_pct: float | None  # at the benchmark's last rebalancing; None: not in it, or not a managed account
    unrealized_usd: Decimal | None  # None: price or basis unknown
    lock_reason: str | None


@dataclass(frozen=True, slots=True)
class AccountPositions:
    """What one account holds. Cash is known for managed accounts only."""

    account_id: str
    description: str
    quantities_from: str  # "broker" or "lots"
    cash_usd: Decimal | None
    value_usd: Decimal
    unrealized_usd: Decimal
    positions: tuple[Position, ...]


def positions(
    account: AccountOption = None, db: DbOption = None, config: ConfigOption = None, as_json: JsonOption = False
) -> None:
    """What each account holds: value, weight beside the benchmark's, unrealized gain, locks."""
    with reading(db, config) as store:
        day, priced_on = as_of(store), store.market.last_session()
        found = tuple(positions_of(store, one) for one in chosen(store, account))
    if as_json:
        emit({"as_of": day, "prices_of": priced_on, "accounts": found})
        return
    say(
        f"Positions as of {day}, at the closes of {priced_on or 'no session yet'}. "
        "Unrealized: before tax, over open lots."
    )
    for one in found:
        _print_positions(one)


def positions_of(store: Store, account: Account) -> AccountPositions:
    """Positions as the broker last said; for an imported account, the sum of its lots."""
    prices, benchmark = store.market.last_closes(), store.market.constituent_weights()
    queues = _queues(store.lots.lots(account.account_id))
    said: dict[str, PositionRow] = {row.symbol: row for row in store.positions.list(account.account_id)}
    held = {symbol: sum((lot.quantity for lot in lots), ZERO) for symbol, lots in queues.items()}
    if account.is_managed:
        held = {symbol: row.quantity for symbol, row in said.items()}
    cash = store.journal.cash(account.account_id) if account.is_managed else None
    value = sum((quantity * prices[symbol] for symbol, quantity in held.items() if symbol in prices), cash or ZERO)
    rows = []
    for symbol, quantity in sorted(held.items()):
        price = prices.get(symbol)
        worth = quantity * price if price is not None else None
        weight = benchmark.get(symbol) if account.is_managed else None
        lock = said[symbol].lock_reason if symbol in said else None
        rows.append(
            Position(
                symbol=symbol,
                quantity=quantity,
                close_usd=price,
                value_usd=worth,
                weight_pct=_pct(worth / value) if worth is not None and value else None,
                benchmark_weight_pct=_pct(weight) if weight is not None else None,
                unrealized_usd=unrealized(queues.get(symbol, ()), price),
                lock_reason=lock,
            )
        )
    gains = (row.unrealized_usd for row in rows if row.unrealized_usd is not None)
    source = "broker" if account.is_managed else "lots"
    return AccountPositions(account.account_id, described(account), source, cash, value, sum(gains, ZERO), tuple(rows))


def unrealized(lots: Sequence[Lot], price: Decimal | None) -> Decimal | None:
    """Value at `price` less basis, in USD; None where a price or a basis is not known."""
    if price is None or not all(lot.basis_known for lot in lots):
        return None
    return sum((lot.quantity * price - lot.basis_at(price) for lot in lots), ZERO)


def _queues(lots: Sequence[Lot]) -> dict[str, list[Lot]]:
    """Lots of one account by symbol, each in order of disposal."""
    queues: dict[str, list[Lot]] = defaultdict(list)
    for lot in lots:
        queues[lot.symbol].append(lot)
    return dict(queues)


def _pct(fraction: Decimal) -> float:
    return round(float(fraction) * 100, 2)


def _print_positions(found: AccountPositions) -> None:
    locks = ("locked",) if any(one.lock_reason for one in found.positions) else ()
    rows = grid("symbol", ">shares", ">close", ">value USD", ">weight %", ">benchmark %", ">unrealized USD", *locks)
    for one in found.positions:
        cells = (
            one.symbol,
            shares(one.quantity),
            usd(one.close_usd) if one.close_usd is not None else "no price",
            usd(one.value_usd) if one.value_usd is not None else UNKNOWN,
            f"{one.weight_pct:.2f}" if one.weight_pct is not None else "",
            f"{one.benchmark_weight_pct:.2f}" if one.benchmark_weight_pct is not None else "",
            usd(one.unrealized_usd) if one.unrealized_usd is not None else UNKNOWN,
        )
        reason = (one.lock_reason or "",) if locks else ()
        add(rows, *cells, *reason, style="yellow" if one.lock_reason else None)
    rows.add_section()
    if found.cash_usd is not None:
        weight = f"{_pct(found.cash_usd / found.value_usd):.2f}" if found.value_usd else ""
        add(rows, "cash", "", "", usd(found.cash_usd), weight, "", "")
    add(rows, "all", "", "", usd(found.value_usd), "", "", usd(found.unrealized_usd), style="bold")
    show(rows, f"{found.description}: {'net asset value' if found.cash_usd is not None else 'the shares known'}")


# ------------------------------------------------------------------ lots


@dataclass(frozen=True, slots=True)
class OpenLot:
    """One open lot in its place of the disposal order. `basis_usd` is adjusted: it contains `wash_adjustment_usd`."""

    place: int  # 1 is sold first
    lot_id: str
    acquired: date
    adjusted_acquired: date
    days_held: int
    term_if_sold_next: Term | None  # None: the account is not taxed on sales
    quantity: Decimal
    basis_usd: Decimal | None
    basis_per_share_usd: Decimal | None
    unrealized_usd: Decimal | None
    wash_adjustment_usd: Decimal
    behind_gain: bool  # a loss that the relief method reaches only by selling gain lots first
    source: str


@dataclass(frozen=True, slots=True)
class LotQueue:
    """The open lots of one symbol in one account, in the order in which a sale disposes of them."""

    account_id: str
    symbol: str
    relief_method: ReliefMethod
    close_usd: Decimal | None
    lots: tuple[OpenLot, ...]


@dataclass(frozen=True, slots=True)
class LotTotals:
    """Sums over the lots shown, in USD, before tax. Unrealized sums leave out lots without a price or a basis."""

    lots: int
    basis_usd: Decimal
    unrealized_gains_usd: Decimal
    unrealized_losses_usd: Decimal  # positive
    losses_behind_gains_usd: Decimal  # positive: the part of the losses that is out of reach
    wash_adjustment_usd: Decimal

    @property
    def net_usd(self) -> Decimal:
        """Unrealized gains less losses."""
        return self.unrealized_gains_usd - self.unrealized_losses_usd


def lots(
    symbol: SymbolOption = None,
    account: AccountOption = None,
    db: DbOption = None,
    config: ConfigOption = None,
    as_json: JsonOption = False,
) -> None:
    """Open lots in the order the broker sells them: age, term, basis, gain or loss, and losses stuck behind gains."""
    with reading(db, config) as store:
        day = as_of(store)
        accounts = chosen(store, account)
        prices = store.market.last_closes()
        wanted = symbol.upper() if symbol else None
        found = [
            queue_of(one, name, held, prices, day)
            for one in accounts
            for name, held in _queues(store.lots.lots(one.account_id, wanted)).items()
        ]
        if wanted and not found:
            held_names = sorted({lot.symbol for one in accounts for lot in store.lots.lots(one.account_id)})
            raise NotFound(f"No open lot of {wanted} in {names(accounts)}. Held: {', '.join(held_names) or 'nothing'}.")
    if as_json:
        emit({"as_of": day, "sold_next": next_weekday(day), "queues": found, "totals": totals(found)})
    else:
        _print_lots(found, accounts, day)


def queue_of(account: Account, symbol: str, held: Sequence[Lot], prices: Mapping[str, Decimal], day: date) -> LotQueue:
    """One disposal queue with what each lot is worth on `day`; terms are those of a sale on the weekday after."""
    price = prices.get(symbol)
    ordered = account.relief_method is not ReliefMethod.SPECIFIC
    gain_in_front, rows = False, []
    for place, lot in enumerate(held, start=1):
        gain = unrealized((lot,), price)
        rows.append(_open_lot(account, lot, place, gain, day, behind=ordered and gain_in_front))
        gain_in_front = gain_in_front or (gain is not None and gain > 0)
    return LotQueue(account.account_id, symbol, account.relief_method, price, tuple(rows))


def _open_lot(account: Account, lot: Lot, place: int, gain: Decimal | None, day: date, *, behind: bool) -> OpenLot:
    from state.lots import lot_term

    taxable = account.account_type.is_taxable
    return OpenLot(
        place=place,
        lot_id=lot.lot_id,
        acquired=lot.acquired,
        adjusted_acquired=lot.adjusted_acquired,
        days_held=max(0, (day - lot.adjusted_acquired).days),
        term_if_sold_next=lot_term(lot, next_weekday(day)) if taxable else None,
        quantity=lot.quantity,
        basis_usd=lot.basis if lot.basis_known else None,
        basis_per_share_usd=lot.basis_per_share if lot.basis_known else None,
        unrealized_usd=gain,
        wash_adjustment_usd=lot.wash_adjustment,
        behind_gain=taxable and behind and gain is not None and gain < 0,
        source=lot.source,
    )


def totals(queues: Sequence[LotQueue]) -> LotTotals:
    """Sums over every lot of the queues."""
    rows = [lot for queue in queues for lot in queue.lots]
    known = [(lot, lot.unrealized_usd) for lot in rows if lot.unrealized_usd is not None]
    return LotTotals(
        lots=len(rows),
        basis_usd=sum((lot.basis_usd for lot in rows if lot.basis_usd is not None), ZERO),
        unrealized_gains_usd=sum((gain for _, gain in known if gain > 0), ZERO),
        unrealized_losses_usd=-sum((gain for _, gain in known if gain < 0), ZERO),
        losses_behind_gains_usd=-sum((gain for lot, gain in known if lot.behind_gain), ZERO),
        wash_adjustment_usd=sum((lot.wash_adjustment_usd for lot in rows), ZERO),
    )


def _print_lots(found: Sequence[LotQueue], accounts: Sequence[Account], day: date) -> None:
    say(f"Open lots as of {day}, in the order the broker sells them; term as if sold on {next_weekday(day)}.")
    for account in accounts:
        queues = [queue for queue in found if queue.account_id == account.account_id]
        if queues:
            _print_account_lots(account, queues)
    if not found:
        say("No open lots.")
    if any(lot.behind_gain for queue in found for lot in queue.lots):
        say("* a loss behind a gain: a sale reaches it only by selling the gain lots above it first.")
    if any(lot.wash_adjustment_usd for queue in found for lot in queue.lots):
        say("wash adj: disallowed losses carried into the basis; days held count from the adjusted date.")


def _print_account_lots(account: Account, queues: Sequence[LotQueue]) -> None:
    columns = ("symbol", ">#", "acquired", "adjusted", ">days", "term", ">shares", ">per share", ">basis USD")
    rows = grid(*columns, ">close", ">gain/loss USD", ">wash adj", "")
    for queue in queues:
        for lot in queue.lots:
            add(
                rows,
                queue.symbol if lot.place == 1 else "",
                str(lot.place),
                lot.acquired.isoformat(),
                lot.adjusted_acquired.isoformat() if lot.adjusted_acquired != lot.acquired else "",
                str(lot.days_held),
                lot.term_if_sold_next.value if lot.term_if_sold_next else "",
                shares(lot.quantity),
                usd(lot.basis_per_share_usd) if lot.basis_per_share_usd is not None else UNKNOWN,
                usd(lot.basis_usd) if lot.basis_usd is not None else UNKNOWN,
                usd(queue.close_usd) if queue.close_usd is not None else "no price",
                usd(lot.unrealized_usd) if lot.unrealized_usd is not None else UNKNOWN,
                usd(lot.wash_adjustment_usd) if lot.wash_adjustment_usd else "",
                "*" if lot.behind_gain else "",
            )
    total = totals(queues)
    rows.add_section()
    sums = ("all", "", "", "", "", "", "", "", usd(total.basis_usd), "", usd(total.net_usd))
    add(rows, *sums, usd(total.wash_adjustment_usd) if total.wash_adjustment_usd else "", "", style="bold")
    show(rows, described(account))
    if not account.account_type.is_taxable:
        say(f"{total.lots} lots. Sales in this account are not taxed: its gains and losses do not count.")
        return
    say(
        f"{total.lots} lots; unrealized gains {usd(total.unrealized_gains_usd)}, losses "
        f"{usd(total.unrealized_losses_usd)} USD, "
        f"of them out of reach behind gains {usd(total.losses_behind_gains_usd)}."
    )
