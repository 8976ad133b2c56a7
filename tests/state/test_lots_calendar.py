"""The wash-sale calendar: what not to buy, what not to sell at a loss, until when, and why."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lots_household import replay, row, short

from state.lots import CalendarEntry, Ledger, LedgerPolicy, wash_calendar, what_if
from state.records import Account, AccountType, ReliefMethod, Transaction

OLD = row("old", "buy", "2024-01-08", "100", "50")
LOSS = row("loss", "sell", "2025-06-02", "60", "40")
LATER = date(2025, 6, 16)


def no_buy(*rows: Transaction, on: date = LATER, **options: str) -> tuple[CalendarEntry, ...]:
    return wash_calendar(replay(*rows), on, **options).do_not_buy  # type: ignore[arg-type]


def no_loss_sale(*rows: Transaction, on: date = LATER) -> tuple[CalendarEntry, ...]:
    return wash_calendar(replay(*rows), on).do_not_sell_at_a_loss


def test_after_a_loss_the_symbol_is_not_bought_through_day_thirty() -> None:
    (entry,) = no_buy(OLD, LOSS)
    assert (entry.symbols, entry.until, short(entry.quantity)) == ({"X"}, date(2025, 7, 2), "60")
    assert (entry.account_id, entry.cause_id, entry.cause_date) == ("mine", "loss", date(2025, 6, 2))
    assert entry.reason == (
        "60 X sold on 2025-06-02 in account mine at a loss (a loss of $600.00 still open); buying X in any account of "
        "the household until 2025-07-02 would disallow it."
    )


@pytest.mark.parametrize(("day", "listed"), [("2025-07-02", 1), ("2025-07-03", 0)])
def test_the_last_day_is_inclusive(day: str, listed: int) -> None:
    assert len(no_buy(OLD, LOSS, on=date.fromisoformat(day))) == listed


def test_shares_already_replaced_block_nothing_more() -> None:
    assert short(no_buy(OLD, LOSS, row("b", "buy", "2025-06-05", "20", "41"))[0].quantity) == "40"
    assert no_buy(OLD, LOSS, row("b", "buy", "2025-06-05", "70", "41")) == ()


def test_gains_block_nothing_unless_the_user_wants_it() -> None:
    gain = row("gain", "sell", "2025-06-02", "60", "70")
    assert no_buy(OLD, gain) == ()
    (entry,) = no_buy(OLD, gain, block_rebuy_after="any_sale")
    assert (entry.until, short(entry.quantity)) == (date(2025, 7, 2), "60")
    assert len(no_buy(OLD, LOSS, block_rebuy_after="any_sale")) == 1, "a loss is listed once"


def test_a_sale_of_unknown_basis_counts_as_a_loss() -> None:
    unknown = row("o", "opening_lot", "2025-01-06", "60", "0", acquired=date(2020, 1, 6))
    (entry,) = no_buy(unknown, row("s", "sell", "2025-06-02", "60", "40"))
    assert entry.cause_id == "s"
    assert "unless its basis is found" in entry.reason


def test_sales_inside_an_ira_block_nothing() -> None:
    bought = row("i", "buy", "2024-01-08", "60", "50", account="ira")
    assert no_buy(bought, row("s", "sell", "2025-06-02", "60", "40", account="ira")) == ()


def test_everything_identical_is_listed_with_the_symbol() -> None:
    policy = LedgerPolicy(identical_groups=(frozenset({"X", "Y"}),))
    (entry,) = wash_calendar(replay(OLD, LOSS, policy=policy), LATER).do_not_buy
    assert entry.symbols == {"X", "Y"}
    assert "buying X or Y" in entry.reason


@pytest.mark.parametrize("account", ["mine", "spouse", "ira"])
def test_a_recent_purchase_anywhere_forbids_selling_older_lots_at_a_loss(account: str) -> None:
    (entry,) = no_loss_sale(OLD, row("b", "buy", "2025-06-10", "20", "45", account=account))
    assert (entry.symbols, entry.until, short(entry.quantity)) == ({"X"}, date(2025, 7, 10), "20")
    assert (entry.account_id, entry.cause_id) == (account, "b")
    assert "20 X bought on 2025-06-10 in account" in entry.reason


def test_a_lot_alone_may_be_sold_at_a_loss() -> None:
    """Rev. Rul. 56-602. The list agrees with the what-if: nothing would be disallowed."""
    alone = row("b", "buy", "2025-06-10", "20", "45")
    assert no_loss_sale(alone) == ()
    assert what_if(replay(alone), [row("s", "sell", "2025-06-16", "10", "30")]).disallowed == 0


def test_two_recent_lots_forbid_each_other() -> None:
    entries = no_loss_sale(row("b1", "buy", "2025-06-09", "20", "45"), row("b2", "buy", "2025-06-10", "20", "45"))
    assert [entry.cause_id for entry in entries] == ["b1", "b2"]


def test_shares_sold_again_or_used_as_replacement_forbid_nothing() -> None:
    bought = row("b", "buy", "2025-06-10", "20", "45")
    assert no_loss_sale(OLD, bought, row("s", "sell", "2025-06-12", "20", "50", lots=[("b", "20")])) == ()
    assert no_loss_sale(OLD, LOSS, bought) == ()


def test_inherited_shares_forbid_nothing() -> None:
    assert no_loss_sale(OLD, row("h", "inherit", "2025-06-10", "20", "45")) == ()


def test_a_planned_loss_sale_of_the_next_thirty_days_forbids_buying_before_it() -> None:
    """An approved plan is part of the ledger: what is bought today would wash the sale of 30 June."""
    (entry,) = no_buy(OLD, row("plan", "sell", "2025-06-30", "60", "40"))
    assert entry.until == date(2025, 7, 30)


def test_every_entry_is_what_the_what_if_says() -> None:
    rows = (
        OLD,
        LOSS,
        row("y", "buy", "2025-06-10", "10", "9", symbol="Y"),
        row("z", "buy", "2024-01-08", "5", "9", symbol="Y"),
    )
    ledger = replay(*rows)
    calendar = wash_calendar(ledger, LATER)
    forbidden = {symbol for entry in calendar.do_not_buy for symbol in entry.symbols}
    for symbol in ("X", "Y"):
        bought = what_if(ledger, [row("p", "buy", "2025-06-16", "5", "9", symbol=symbol)])
        assert (bought.disallowed > 0) is (symbol in forbidden)
    blocked = {symbol for entry in calendar.do_not_sell_at_a_loss for symbol in entry.symbols}
    for symbol in ("X", "Y"):
        sold = what_if(ledger, [row("p", "sell", "2025-06-16", "5", "1", symbol=symbol)])
        assert (sold.disallowed > 0) is (symbol in blocked)


# ------------------------------------------------------------------ the calendar against the ledger, day by day

HOLDERS = (
    Account("A", AccountType.TAXABLE, ReliefMethod.SPECIFIC),
    Account("S", AccountType.SPOUSE_TAXABLE, ReliefMethod.SPECIFIC),
    Account("R", AccountType.ROTH_IRA, ReliefMethod.SPECIFIC),
)
SYMBOLS = ("SPY", "VOO", "T")
EVENING = "23:00"  # a trade without an instant would be one trade with every sale of its day
AHEAD = [timedelta(days=number) for number in range(32)]  # from the last trade to one day after every window
PROFILE = settings(max_examples=150, deadline=None)

step = st.tuples(
    st.sampled_from([0, 0, 1, 2, 5, 14, 29, 30, 31]),  # days since the last trade
    st.sampled_from("AAASR"),
    st.sampled_from(["SPY", "SPY", "SPY", "VOO", "T"]),
    st.booleans(),  # prefer to sell
    st.integers(1, 5),
    st.sampled_from(["7", "8", "9", "10", "11", "13"]),
)
histories = st.lists(step, min_size=1, max_size=16).map(lambda steps: history_of(steps))
policies = st.builds(
    LedgerPolicy,
    identical_groups=st.sampled_from([(), (frozenset({"SPY", "VOO"}),)]),
    tacking=st.sampled_from(["union", "additive", "holding_date"]),
    simultaneous=st.sampled_from(["sequential", "economic"]),
    older_lots=st.sampled_from(["include", "exclude"]),
    within_lot=st.sampled_from(["kept_first", "sold_first"]),
    sublot_order=st.sampled_from(["adjusted_first", "unadjusted_first"]),
)


def history_of(steps: Sequence[tuple[int, str, str, bool, int, str]]) -> list[Transaction]:
    """Trades that can have happened, one a minute: nothing is sold that is not held."""
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    day, rows = date(2024, 1, 2), []
    for number, (gap, account, symbol, sell, quantity, price) in enumerate(steps):
        day += timedelta(days=gap)
        sells = sell and held[account, symbol] > 0
        quantity = min(quantity, held[account, symbol]) if sells else quantity
        held[account, symbol] += -quantity if sells else quantity
        rows.append(
            row(
                f"t{number:02d}", "sell" if sells else "buy", str(day), str(quantity), price,
                account=account, symbol=symbol, at=f"15:{number:02d}",
            )
        )  # fmt: skip
    return rows


@PROFILE
@given(rows=histories, policy=policies)
def test_buying_disallows_a_loss_exactly_on_the_days_that_are_listed(
    rows: list[Transaction], policy: LedgerPolicy
) -> None:
    """One share of each symbol, in each account, on each of the next days: the what-if and the list agree."""
    ledger = Ledger.replay(HOLDERS, rows, policy)
    today = rows[-1].trade_date
    listed = wash_calendar(ledger, today).do_not_buy
    for day in (today + later for later in AHEAD):
        on_that_day = {symbol for each in listed if each.until >= day for symbol in each.symbols}
        then = wash_calendar(ledger, day).do_not_buy
        assert on_that_day == {symbol for each in then for symbol in each.symbols}, "an entry holds until its last day"
        for symbol, holder in product(SYMBOLS, HOLDERS):
            one = row("p", "buy", str(day), "1", "9", account=holder.account_id, symbol=symbol, at=EVENING)
            bought = what_if(ledger, [one])
            assert (bought.disallowed > 0) is (symbol in on_that_day), (day, symbol, holder.account_id)
            causes = {each.cause_id for each in listed if symbol in each.symbols and each.until >= day}
            assert {change.after.sale_id for change in bought.changed} <= causes


@PROFILE
@given(rows=histories, policy=policies)
def test_buying_the_listed_quantity_leaves_nothing_more_to_disallow(
    rows: list[Transaction], policy: LedgerPolicy
) -> None:
    ledger = Ledger.replay(HOLDERS, rows, policy)
    today = rows[-1].trade_date
    for symbol in SYMBOLS:
        listed = [each for each in wash_calendar(ledger, today).do_not_buy if symbol in each.symbols]
        if not listed:
            continue
        shares = sum(each.quantity for each in listed)
        one_less = row("p", "buy", str(today), str(shares - 1), "9", account="S", symbol=symbol, at="16:00")
        last = row("q", "buy", str(today), "1", "9", account="R", symbol=symbol, at="16:01")
        almost = what_if(ledger, [one_less]).ledger if shares > 1 else ledger
        assert [each for each in wash_calendar(almost, today).do_not_buy if symbol in each.symbols]
        after = what_if(almost, [last]).ledger
        assert not [each for each in wash_calendar(after, today).do_not_buy if symbol in each.symbols]


@PROFILE
@given(rows=histories, policy=policies)
def test_selling_a_lot_at_a_loss_is_disallowed_exactly_on_the_days_that_are_listed(
    rows: list[Transaction], policy: LedgerPolicy
) -> None:
    """One share of each taxable lot, on each of the next days, at next to nothing.

    With older_lots: exclude the list is on the safe side: it may name a purchase that is too old to replace the lot.
    """
    ledger = Ledger.replay(HOLDERS, rows, policy)
    today = rows[-1].trade_date
    listed = wash_calendar(ledger, today).do_not_sell_at_a_loss
    lots = {(lot.account_id, lot.symbol, lot.lot_id) for lot in ledger.open_lots() if lot.account_id != "R"}
    for each in listed:
        others = [lot_id for _, symbol, lot_id in lots if symbol in each.symbols and lot_id != each.cause_id]
        assert others, "an entry is about at least one lot that somebody could sell"
    for day in (today + later for later in AHEAD):
        on_that_day = [each for each in listed if each.until >= day]
        assert {each.cause_id for each in on_that_day} == {
            each.cause_id for each in wash_calendar(ledger, day).do_not_sell_at_a_loss
        }
        for account, symbol, lot_id in sorted(lots):
            causes = {each.cause_id for each in on_that_day if symbol in each.symbols} - {lot_id}
            one = [(lot_id, "1")]
            sale = row("p", "sell", str(day), "1", "0.01", account=account, symbol=symbol, lots=one, at=EVENING)
            (sold,) = what_if(ledger, [sale]).realized
            assert sold.gain_loss < 0
            assert {match.replacement_id for match in sold.matches} <= causes, (day, lot_id)
            if policy.older_lots == "include":
                assert (sold.disallowed > 0) is bool(causes), (day, lot_id)


@PROFILE
@given(rows=histories, policy=policies)
def test_what_is_on_no_list_disallows_nothing(rows: list[Transaction], policy: LedgerPolicy) -> None:
    """The promise a user reads into the calendar: on a day and in a group without an entry, trade as you like."""
    ledger = Ledger.replay(HOLDERS, rows, policy)
    today = rows[-1].trade_date
    for day in (today + later for later in AHEAD[::6]):
        calendar = wash_calendar(ledger, day)
        closed = {symbol for each in (*calendar.do_not_buy, *calendar.do_not_sell_at_a_loss) for symbol in each.symbols}
        free = [symbol for symbol in SYMBOLS if symbol not in closed]
        for account, symbol in product("AS", free):
            held = ledger.position(account, symbol)
            sale = row("p", "sell", str(day), str(held), "0.01", account=account, symbol=symbol, at=EVENING)
            assert not held or what_if(ledger, [sale]).disallowed == 0
        bought = [row(f"b{symbol}", "buy", str(day), "3", "9", account="S", symbol=symbol) for symbol in free]
        assert what_if(ledger, bought).disallowed == 0
