"""What holds for every journal: conservation, order, and the law read literally.

The reference below matches share by share with the whole journal in view, as Reg. §1.1091-1 is written: sales in order
of disposition, candidates before and after in order of acquisition. The ledger goes through the journal once and never
looks ahead; both must agree on every journal.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal, localcontext
from fractions import Fraction
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from state.lots import Ledger, LedgerPolicy, what_if
from state.lots.money import CONTEXT
from state.records import Account, AccountType, RealizedRow, ReliefMethod, Transaction, TransactionKind

ACCOUNTS = (
    Account("A", AccountType.TAXABLE),
    Account("S", AccountType.SPOUSE_TAXABLE),
    Account("R", AccountType.ROTH_IRA),
)
IDENTICAL = LedgerPolicy(identical_groups=(frozenset({"SPY", "VOO"}),))
DAY_ONE = date(2024, 1, 2)
NEAR = Fraction(1, 10**9)  # dollars
PROFILE = settings(max_examples=120, deadline=None)

step = st.tuples(
    st.sampled_from([0, 0, 1, 2, 9, 14, 29, 30, 31]),  # days since the last trade
    st.sampled_from("AAASR"),
    st.sampled_from(["SPY", "SPY", "VOO"]),
    st.booleans(),  # prefer to sell
    st.integers(1, 7),
    st.sampled_from([7, 8, 9, 10, 11, 13]),
)
journals = st.lists(step, min_size=1, max_size=24).map(lambda steps: journal_of(steps))


def journal_of(steps: Sequence[tuple[int, str, str, bool, int, int]]) -> list[Transaction]:
    """Trades that can have happened: nothing is sold that is not held. Every trade has its own instant."""
    held: defaultdict[tuple[str, str], int] = defaultdict(int)
    day = DAY_ONE
    rows = []
    for number, (gap, account, symbol, sell, quantity, price) in enumerate(steps):
        day += timedelta(days=gap)
        key = (account, symbol)
        sells = sell and held[key] > 0
        quantity = min(quantity, held[key]) if sells else quantity
        held[key] += -quantity if sells else quantity
        rows.append(
            Transaction(
                transaction_id=f"t{number:02d}",
                account_id=account,
                kind=TransactionKind.SELL if sells else TransactionKind.BUY,
                trade_date=day,
                source="test",
                symbol=symbol,
                quantity=Decimal(quantity),
                price=Decimal(price),
                fees=Decimal("0.01"),
                executed_at=datetime.combine(day, time(15, 0), tzinfo=UTC) + timedelta(seconds=number),
            )
        )
    return rows


# ------------------------------------------------------------------ the law, read literally


@dataclass(eq=False)
class Share:
    lot: str
    account: str
    symbol: str
    acquired: date
    place: int
    basis: Fraction
    start: date
    replaces: bool = False
    sold: bool = False
    selling: bool = False
    turn: int = 0  # of several parts of a lot that look alike, the one that became replacement first


@dataclass
class Outcome:
    quantity: int = 0
    gain: Fraction = Fraction(0)
    disallowed: Fraction = Fraction(0)
    permanent: Fraction = Fraction(0)


def reference(
    rows: Sequence[Transaction], policy: LedgerPolicy, method: ReliefMethod = ReliefMethod.FIFO
) -> tuple[dict[tuple[str, str], Outcome], list[Share]]:
    """(sale, lot) -> outcome, and the open taxable shares, each share on its own and in exact fractions."""
    if not policy.identical_groups:  # nothing joins the symbols: each is a journal of its own
        parts = [one_group([row for row in rows if row.symbol == symbol], policy, method) for symbol in ("SPY", "VOO")]
        return parts[0][0] | parts[1][0], parts[0][1] + parts[1][1]
    return one_group(rows, policy, method)


def one_group(
    rows: Sequence[Transaction], policy: LedgerPolicy, method: ReliefMethod
) -> tuple[dict[tuple[str, str], Outcome], list[Share]]:
    shares = [
        Share(
            row.transaction_id, row.account_id, row.symbol or "", row.trade_date, place,
            Fraction(row.price) + Fraction(row.fees) / int(row.quantity), row.trade_date,
        )
        for place, row in enumerate(rows)
        if row.kind is TransactionKind.BUY
        for _ in range(int(row.quantity))
    ]  # fmt: skip
    outcomes: defaultdict[tuple[str, str], Outcome] = defaultdict(Outcome)
    place = 0
    while place < len(rows):
        trade = trade_at(rows, place)
        chosen: list[tuple[Share, Transaction]] = []
        for row in trade:
            held = [
                s
                for s in shares
                if s.place < place
                and not s.sold
                and not s.selling
                and (s.account, s.symbol) == (row.account_id, row.symbol)
            ]
            age = -1 if method is ReliefMethod.LIFO else 1
            held.sort(key=lambda s: (age * s.place, s.start, not s.replaces, s.turn))
            for share in held[: int(row.quantity)]:
                share.selling = True
                chosen.append((share, row))
        while left := [each for each in chosen if not each[0].sold]:
            share, row = min(left, key=lambda each: (each[0].place, each[0].start, not each[0].replaces, each[0].turn))
            if row.account_id == "R":  # held until its turn, and then gone: a retirement account realizes nothing
                share.sold, share.selling = True, False
            else:
                sell_one(share, shares, row, policy, outcomes[row.transaction_id, share.lot])
        place += max(len(trade), 1)
    return outcomes, [s for s in shares if not s.sold and s.account != "R"]


def trade_at(rows: Sequence[Transaction], place: int) -> list[Transaction]:
    """Consecutive sales of one day whose order nobody can tell; empty when a purchase is next."""
    first = rows[place]
    trade = []
    for row in rows[place:]:
        unknown = row is first or first.executed_at is None or row.executed_at is None
        if row.kind is not TransactionKind.SELL or row.trade_date != first.trade_date or not unknown:
            break
        trade.append(row)
    return trade


def sell_one(share: Share, shares: Sequence[Share], row: Transaction, policy: LedgerPolicy, outcome: Outcome) -> None:
    share.sold, share.selling = True, False
    price = Fraction(row.price) - Fraction(row.fees) / int(row.quantity)
    gain = price - share.basis
    outcome.quantity += 1
    outcome.gain += gain
    if gain >= 0:
        return
    candidates = [
        s
        for s in shares
        if abs((s.acquired - row.trade_date).days) <= 30
        and not s.sold
        and not s.replaces
        and s.lot != share.lot
        and (s.symbol == share.symbol or policy.identical_groups)
        and not (policy.simultaneous == "economic" and s.selling)
        and not (policy.older_lots == "exclude" and s.place < share.place)
    ]
    if not candidates:
        return
    kept_first = policy.within_lot == "kept_first"
    replacement = min(candidates, key=lambda s: (s.place, s.selling is kept_first))
    replacement.replaces = True
    replacement.turn = max(s.turn for s in shares) + 1
    outcome.disallowed -= gain
    if replacement.account == "R":
        outcome.permanent -= gain
        return
    replacement.basis -= gain
    held_days = (row.trade_date - share.start).days
    overlap = max((row.trade_date - max(replacement.acquired, share.start)).days, 0)
    if policy.tacking == "additive" or replacement.acquired >= row.trade_date:
        overlap = 0
    replacement.start = replacement.acquired - timedelta(days=held_days - overlap)


policies = st.builds(
    LedgerPolicy,
    identical_groups=st.sampled_from([(), IDENTICAL.identical_groups]),
    tacking=st.sampled_from(["union", "additive"]),
    simultaneous=st.sampled_from(["sequential", "economic"]),
    older_lots=st.sampled_from(["include", "exclude"]),
    within_lot=st.sampled_from(["kept_first", "sold_first"]),
)


@PROFILE
@given(rows=journals, policy=policies)
def test_one_pass_agrees_with_share_by_share_matching_that_sees_the_whole_year(
    rows: list[Transaction], policy: LedgerPolicy
) -> None:
    assert_agrees(rows, policy, ReliefMethod.FIFO)


def test_a_retirement_account_sells_first_the_shares_that_replaced() -> None:
    """Five shares in the IRA, one of which replaced a loss; four are sold. The one left has replaced nothing, so
    the next loss is lost for good to it: by the convention `sublot_order`, and the cautious reading."""
    spy = "SPY"
    bought = [(0, "A", spy, False, 1, 7)] * 4
    rows = journal_of(
        [*bought, (0, "A", spy, True, 2, 7), (0, "R", spy, False, 5, 7), (0, "A", spy, False, 1, 7),
         (0, "A", spy, True, 2, 7), (0, "R", spy, True, 4, 7), (0, "A", spy, True, 1, 7)]
    )  # fmt: skip
    assert_agrees(rows, LedgerPolicy(), ReliefMethod.FIFO)
    last = [row for row in Ledger.replay(ACCOUNTS, rows).realized() if row.sale_id == rows[-1].transaction_id]
    assert [(row.disallowed, row.permanently_disallowed) for row in last] == [(Decimal("0.02"), Decimal("0.02"))]


@pytest.mark.parametrize("seed", range(40))
def test_one_pass_agrees_on_long_journals_with_trades_of_unknown_order(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(20):
        steps = [
            (
                chance.choice([0, 0, 0, 1, 2, 9, 14, 29, 30, 31]),
                chance.choice("AAASSR"),
                chance.choice(["SPY", "SPY", "VOO"]),
                chance.random() < 0.5,
                chance.randint(1, 7),
                chance.choice([7, 8, 9, 10, 11, 13]),
            )
            for _ in range(24)
        ]
        rows = [without_instant(row) if chance.random() < 0.4 else row for row in journal_of(steps)]
        policy = LedgerPolicy(
            identical_groups=chance.choice([(), IDENTICAL.identical_groups]),
            tacking=chance.choice(["union", "additive"]),
            simultaneous=chance.choice(["sequential", "economic"]),
            older_lots=chance.choice(["include", "exclude"]),
            within_lot=chance.choice(["kept_first", "sold_first"]),
        )
        assert_agrees(rows, policy, chance.choice([ReliefMethod.FIFO, ReliefMethod.LIFO]))


def assert_agrees(rows: Sequence[Transaction], policy: LedgerPolicy, method: ReliefMethod) -> None:
    """The ledger and the reference: the same rows to a billionth of a dollar, the same open shares."""
    accounts = [Account(each.account_id, each.account_type, method) for each in ACCOUNTS]
    ledger = Ledger.replay(accounts, rows, policy)
    outcomes, shares = reference(rows, policy, method)
    ours: defaultdict[tuple[str, str], Outcome] = defaultdict(Outcome)
    for row in ledger.realized():
        outcome = ours[row.sale_id, row.lot_id]
        outcome.quantity += int(row.quantity)
        outcome.gain += Fraction(row.gain_loss)
        outcome.disallowed += Fraction(row.disallowed)
        outcome.permanent += Fraction(row.permanently_disallowed)
    assert set(ours) == set(outcomes)
    for key, outcome in outcomes.items():
        assert ours[key].quantity == outcome.quantity
        for name in ("gain", "disallowed", "permanent"):
            assert abs(getattr(ours[key], name) - getattr(outcome, name)) < NEAR, (key, name)
    theirs: defaultdict[tuple[str, str, str, date], list[Fraction]] = defaultdict(list)
    for share in shares:
        theirs[share.lot, share.account, share.symbol, share.start].append(share.basis)
    lots: defaultdict[tuple[str, str, str, date], list[Fraction]] = defaultdict(list)
    for each in ledger.open_lots():
        if each.account_id != "R":
            part = (each.lot_id, each.account_id, each.symbol, each.adjusted_acquired)
            lots[part] += [Fraction(each.basis) / Fraction(each.quantity)] * int(each.quantity)
    assert {part: len(value) for part, value in lots.items()} == {part: len(value) for part, value in theirs.items()}
    for part, value in theirs.items():
        assert all(abs(one - other) < NEAR for one, other in zip(sorted(lots[part]), sorted(value), strict=True))


# ------------------------------------------------------------------ splits


@PROFILE
@given(
    rows=journals, cuts=st.lists(st.tuples(st.integers(1, 23), st.sampled_from([2, 5])), max_size=3), policy=policies
)
def test_a_split_changes_the_count_of_shares_and_nothing_else(
    rows: list[Transaction], cuts: list[tuple[int, int]], policy: LedgerPolicy
) -> None:
    """The same trades in shares of today and in shares of their time, the splits reported by one account or by two:
    the same gains, losses, matches and dates. Both symbols split at once, for a group is counted share for share."""
    plain = Ledger.replay(ACCOUNTS, rows, policy)
    split_rows, ratio = with_splits(rows, cuts)
    ledger = Ledger.replay(ACCOUNTS, split_rows, policy)
    amounts = ("proceeds", "basis", "gain_loss", "disallowed", "permanently_disallowed")
    ours, theirs = (
        {(row.sale_id, row.lot_id, row.adjusted_acquired, row.term): row for row in joined(each.realized(), amounts)}
        for each in (ledger, plain)
    )
    assert ours.keys() == theirs.keys()
    for key, row in ours.items():
        for name in amounts:
            assert abs(Fraction(getattr(row, name)) - Fraction(getattr(theirs[key], name))) < NEAR, (key, name)
    for account in ACCOUNTS:
        held = plain.positions(account.account_id)
        assert ledger.positions(account.account_id) == {symbol: held[symbol] * ratio for symbol in held}


def with_splits(rows: Sequence[Transaction], cuts: Sequence[tuple[int, int]]) -> tuple[list[Transaction], int]:
    """The rows with splits of both symbols before some of them, later quantities and prices in the new shares; and the
    product of the ratios. A split falls on a day on which nothing was traded before it, two more than a week apart."""
    found: list[Transaction] = []
    ratio, last = 1, DAY_ONE - timedelta(days=30)
    wanted = dict(cuts)
    for place, row in enumerate(rows):
        new_day = place > 0 and rows[place - 1].trade_date < row.trade_date
        if place in wanted and new_day and (row.trade_date - last).days > 7:
            last = row.trade_date
            ratio *= wanted[place]
            for symbol in ("SPY", "VOO"):
                for account in ("A", "S")[: 1 + place % 2]:
                    found.append(
                        Transaction(
                            f"split{place}{symbol}{account}",
                            account,
                            TransactionKind.SPLIT,
                            last,
                            "test",
                            symbol,
                            ratio_new=Decimal(wanted[place]),
                            ratio_old=Decimal(1),
                        )
                    )
        found.append(replace(row, quantity=row.quantity * ratio, price=row.price / ratio))
    return found, ratio


def joined(rows: Sequence[RealizedRow], amounts: Sequence[str]) -> list[RealizedRow]:
    """Rows of one sale, lot and start as one: parts may be cut differently in other shares."""
    found: dict[tuple[object, ...], RealizedRow] = {}
    for row in rows:
        key = row.sale_id, row.lot_id, row.adjusted_acquired
        before = found.get(key)
        found[key] = row if before is None else replace(
            before, **{name: getattr(before, name) + getattr(row, name) for name in amounts}
        )  # fmt: skip
    return list(found.values())


# ------------------------------------------------------------------ money and shares


@PROFILE
@given(rows=journals, policy=policies)
def test_not_a_trillionth_of_a_dollar_appears_or_vanishes(rows: list[Transaction], policy: LedgerPolicy) -> None:
    """Taxable proceeds + open basis - purchases = recognized - permanently disallowed, exactly."""
    ledger = Ledger.replay(ACCOUNTS, rows, policy)
    with localcontext(CONTEXT):
        taxable = [row for row in rows if row.account_id != "R"]
        bought = sum(r.quantity * r.price + r.fees for r in taxable if r.kind is TransactionKind.BUY)
        sold = sum(r.quantity * r.price - r.fees for r in taxable if r.kind is TransactionKind.SELL)
        basis = sum(lot.basis for lot in ledger.open_lots() if lot.account_id != "R")
        recognized = sum(row.recognized for row in ledger.realized())
        lost = sum(row.permanently_disallowed for row in ledger.realized())
        assert sold + basis - bought == recognized - lost
        assert sold == sum(row.proceeds for row in ledger.realized())


@PROFILE
@given(rows=journals, policy=policies)
def test_every_disallowed_dollar_is_explained_and_inside_the_window(
    rows: list[Transaction], policy: LedgerPolicy
) -> None:
    ledger = Ledger.replay(ACCOUNTS, rows, policy)
    bought = {row.transaction_id: row for row in rows if row.kind is TransactionKind.BUY}
    used: defaultdict[str, Decimal] = defaultdict(Decimal)
    with localcontext(CONTEXT):
        for row in ledger.realized():
            assert row.disallowed == sum((match.disallowed for match in row.matches), Decimal(0))
            assert row.permanently_disallowed == sum((m.disallowed for m in row.matches if m.permanent), Decimal(0))
            assert sum((match.quantity for match in row.matches), Decimal(0)) <= row.quantity
            assert Decimal(0) <= row.disallowed <= max(-row.gain_loss, Decimal(0))
            assert (row.provisional_until is None) == (row.gain_loss >= 0 or row.disallowed == -row.gain_loss)
            for match in row.matches:
                assert abs((match.replacement_date - row.disposed).days) <= 30
                assert match.replacement_id != row.lot_id
                assert match.replacement_account_id == bought[match.replacement_id].account_id
                used[match.replacement_id] += match.quantity
    for transaction_id, quantity in used.items():
        assert quantity <= bought[transaction_id].quantity, "a share replaced twice"


@PROFILE
@given(rows=journals)
def test_positions_are_what_was_bought_less_what_was_sold(rows: list[Transaction]) -> None:
    ledger = Ledger.replay(ACCOUNTS, rows)
    for account in ACCOUNTS:
        held: defaultdict[str, Decimal] = defaultdict(Decimal)
        for row in rows:
            if row.account_id == account.account_id and row.symbol is not None:
                held[row.symbol] += -row.quantity if row.kind is TransactionKind.SELL else row.quantity
        assert ledger.positions(account.account_id) == {symbol: held[symbol] for symbol in sorted(held) if held[symbol]}
        for symbol in held:
            assert ledger.position(account.account_id, symbol) == held[symbol]
            queue = ledger.disposal_queue(account.account_id, symbol)
            assert sum((lot.quantity for lot in queue), Decimal(0)) == held[symbol]


# ------------------------------------------------------------------ order


@PROFILE
@given(rows=journals, seed=st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(rows: list[Transaction], seed: random.Random) -> None:
    shuffled = list(rows)
    seed.shuffle(shuffled)
    twice = shuffled + shuffled[: len(shuffled) // 2]
    assert Ledger.replay(ACCOUNTS, twice, IDENTICAL).digest() == Ledger.replay(ACCOUNTS, rows, IDENTICAL).digest()


@PROFILE
@given(rows=journals, cuts=st.lists(st.integers(0, 24), max_size=4), policy=policies, timed=st.booleans())
def test_extending_gives_what_replaying_everything_gives(
    rows: list[Transaction], cuts: list[int], policy: LedgerPolicy, timed: bool
) -> None:
    if not timed:
        rows = [without_instant(row) if number % 3 else row for number, row in enumerate(rows)]
    ledger = Ledger.replay(ACCOUNTS, [], policy)
    edges = [0, *sorted(min(cut, len(rows)) for cut in cuts), len(rows)]
    for start, stop in pairwise(edges):
        before = ledger.digest()
        later = ledger.extended(rows[start:stop])
        assert ledger.digest() == before, "a ledger is a value"
        ledger = later
    assert ledger.digest() == Ledger.replay(ACCOUNTS, rows, policy).digest()
    assert ledger.transactions == tuple(rows)


@PROFILE
@given(rows=journals, policy=policies)
def test_a_row_that_arrives_late_changes_the_past_as_a_full_replay_does(
    rows: list[Transaction], policy: LedgerPolicy
) -> None:
    late = next(row for row in rows if row.kind is TransactionKind.BUY)
    early = Transaction(
        "late", late.account_id, TransactionKind.BUY, DAY_ONE, "test", late.symbol, Decimal(3), Decimal(12)
    )
    ledger = Ledger.replay(ACCOUNTS, rows, policy).extended([early])
    assert ledger.digest() == Ledger.replay(ACCOUNTS, [*rows, early], policy).digest()


@PROFILE
@given(rows=journals, cut=st.integers(0, 24), policy=policies)
def test_a_what_if_is_what_happens_after_doing_it(rows: list[Transaction], cut: int, policy: LedgerPolicy) -> None:
    done, proposed = rows[:cut], rows[cut:]
    before = Ledger.replay(ACCOUNTS, done, policy)
    digest = before.digest()
    answer = what_if(before, proposed)
    after = Ledger.replay(ACCOUNTS, rows, policy)
    assert before.digest() == digest
    assert answer.ledger.digest() == after.digest()
    own = {row.transaction_id for row in proposed}
    assert sorted(map(repr, answer.realized)) == sorted(repr(row) for row in after.realized() if row.sale_id in own)
    with localcontext(CONTEXT):
        total = sum((row.disallowed for row in after.realized()), Decimal(0))
        already = sum((row.disallowed for row in before.realized()), Decimal(0))
        assert answer.disallowed == total - already
    for change in answer.changed:
        assert change.before.sale_id == change.after.sale_id not in own
        assert change.after.disallowed > change.before.disallowed


# ------------------------------------------------------------------ every relief method


@PROFILE
@given(rows=journals, method=st.sampled_from(list(ReliefMethod)))
def test_a_sale_takes_the_front_of_the_disposal_queue(rows: list[Transaction], method: ReliefMethod) -> None:
    accounts = [Account(each.account_id, each.account_type, method) for each in ACCOUNTS]
    ledger = Ledger.replay(accounts, rows, IDENTICAL)
    queue = ledger.disposal_queue("A", "SPY")
    if not queue:
        return
    first = queue[0]
    sale = Transaction(
        "last", "A", TransactionKind.SELL, rows[-1].trade_date + timedelta(days=40), "test", "SPY", first.quantity,
        Decimal(1),
    )  # fmt: skip
    (row,) = what_if(ledger, [sale]).realized
    assert (row.lot_id, row.adjusted_acquired, row.basis) == (first.lot_id, first.adjusted_acquired, first.basis)


def without_instant(row: Transaction) -> Transaction:
    return Transaction(
        row.transaction_id, row.account_id, row.kind, row.trade_date, row.source, row.symbol, row.quantity, row.price,
        row.fees,
    )  # fmt: skip
