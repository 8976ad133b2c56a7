"""The last door before the broker: each way to be refused, by its reason code, and the one way through."""

from __future__ import annotations

import errno
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from small_house import stage_settings

from daemon.gate import DaemonState, GateFacts, market_state, refuse
from daemon.halt import halt, halt_file, halt_reason, is_halted
from daemon.market_calendar import SessionTimes
from state.reasons import Reason
from state.records import (
    BrokerAccount,
    BrokerClock,
    Intent,
    IntentState,
    OrderType,
    PlannedTrade,
    Quote,
    Side,
    TradeReason,
)

D = Decimal
DAY = date(2024, 3, 4)
OPENS, CLOSES = datetime(2024, 3, 4, 14, 30, tzinfo=UTC), datetime(2024, 3, 4, 21, 0, tzinfo=UTC)
NOW = datetime(2024, 3, 4, 20, 41, tzinfo=UTC)
SESSION = SessionTimes(DAY, OPENS, CLOSES)
NAN, INFINITY = D("NaN"), D("Infinity")

INTENT = Intent(
    client_order_id="hv-main-20240304-1-1-0",
    plan_id="main-20240304-1",
    account_id="main",
    leg=1,
    slice_number=0,
    symbol="AAA",
    side=Side.BUY,
    quantity=D(100),
    state=IntentState.RECORDED,
    session=DAY,
    order_type=OrderType.MARKET,
    reference_price=D(50),
    tie=1,
)
LEG = PlannedTrade(1, "AAA", Side.BUY, D(150), D(50), TradeReason.REPLACEMENT, "")


def quote(bid: object = "49.99", ask: object = "50.01", *, at: datetime = NOW) -> Quote:
    return Quote("AAA", D(str(bid)), D(str(ask)), D(50), at)


def facts(folder: Path, **changed: Any) -> GateFacts:
    """Facts under which the order may leave, but for what is changed."""
    known: dict[str, Any] = {
        "database_path": folder / "house.db",
        "stopped": "",
        "clock_drift_s": 0.0,
        "account": BrokerAccount("SIM-1", D(100_000), D(100_000), multiplier=D(4)),
        "account_number": "SIM-1",
        "untradable": frozenset(),
        "known": frozenset({"AAA", "BBB"}),
        "cash": D(100_000),
        "shares": D(1_000),
        "bought_today": D(0),
        "slice_max": None,
        "state": DaemonState.OPEN,
        "session": SESSION,
        "now": NOW,
        "quote": quote(),
        "previous_close": D(50),
        "locked": frozenset(),
        "sent_today": [],
        "leg": LEG,
    }
    return GateFacts(**{**known, **changed})


def code(reason: Reason | None) -> str:
    return reason.code.value if reason else "may leave"


def asked(folder: Path, quantity: object = 100, intent: Intent = INTENT, **changed: Any) -> str:
    limits = changed.pop("execution", {})
    settings = stage_settings(folder / "house.db", execution=limits)
    return code(refuse(intent, D(str(quantity)), facts(folder, **changed), settings))


def test_an_order_with_nothing_against_it_may_leave(tmp_path: Path) -> None:
    assert asked(tmp_path) == "may leave"


# ------------------------------------------------------------------ halt


def test_halted(tmp_path: Path) -> None:
    halt(tmp_path / "house.db", "by hand", NOW)
    assert asked(tmp_path) == "STATE_HALTED"


def test_a_second_halt_keeps_the_first_reason(tmp_path: Path) -> None:
    halt(tmp_path / "house.db", "something is wrong", NOW)
    halt(tmp_path / "house.db", "again", NOW + timedelta(hours=1))
    assert halt_reason(tmp_path / "house.db") == f"{NOW.isoformat()} something is wrong"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe not text \x80"])
def test_a_halt_without_a_readable_reason_is_a_halt(tmp_path: Path, content: bytes) -> None:
    halt_file(tmp_path / "house.db").write_bytes(content)
    assert asked(tmp_path) == "STATE_HALTED"


@pytest.mark.fault("F38")
def test_a_halt_whose_words_the_full_disk_does_not_take_is_one_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("os.write", full)
        patched.setattr("os.fsync", full)
        halt(tmp_path / "house.db", "by hand", NOW)
    assert asked(tmp_path) == "STATE_HALTED"
    assert halt_reason(tmp_path / "house.db") == "no reason readable"


def test_a_folder_of_that_name_is_a_halt(tmp_path: Path) -> None:
    halt_file(tmp_path / "house.db").mkdir()
    assert asked(tmp_path) == "STATE_HALTED"


def test_a_link_to_nowhere_of_that_name_is_a_halt(tmp_path: Path) -> None:
    halt_file(tmp_path / "house.db").symlink_to(tmp_path / "gone")
    assert asked(tmp_path) == "STATE_HALTED"


def test_a_halt_that_cannot_be_looked_for_counts_as_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder has become unreadable: whether trading is halted cannot be found out, so it is."""

    def denied(*_: object, **__: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", denied)
    monkeypatch.setattr("os.lstat", denied)
    assert is_halted(tmp_path / "house.db")
    assert asked(tmp_path) == "STATE_HALTED"


# ------------------------------------------------------------------ state and symbol


@pytest.mark.parametrize("state", [one for one in DaemonState if one is not DaemonState.OPEN])
def test_nothing_leaves_in_any_state_but_open(tmp_path: Path, state: DaemonState) -> None:
    assert asked(tmp_path, state=state) == "STATE_NOT_OPEN"


@pytest.mark.parametrize(
    ("now", "expected"),
    [
        (OPENS - timedelta(microseconds=1), "MARKET_CLOSED"),
        (OPENS, "may leave"),
        (CLOSES - timedelta(microseconds=1), "may leave"),
        (CLOSES, "MARKET_CLOSED"),
    ],
)
def test_the_market_is_looked_at_when_the_order_leaves_not_when_the_work_began(
    tmp_path: Path, now: datetime, expected: str
) -> None:
    """F31: the pass of work began a minute before the close; this order's turn comes after it."""
    assert asked(tmp_path, now=now, quote=quote(at=now)) == expected


def test_without_a_session_nothing_leaves(tmp_path: Path) -> None:
    assert asked(tmp_path, session=None) == "MARKET_CLOSED"


def test_a_locked_symbol(tmp_path: Path) -> None:
    assert asked(tmp_path, locked=frozenset({"AAA"})) == "SYMBOL_LOCKED"
    assert asked(tmp_path, locked=frozenset({"BBB"})) == "may leave"


def test_a_restricted_symbol(tmp_path: Path) -> None:
    assert asked(tmp_path, execution={"restricted_symbols": ["AAA"]}) == "LIMIT_RESTRICTED"


# ------------------------------------------------------------------ conservation (I7)


def sent(quantity: object, slice_number: int, *, leg: int = 1, plan: str = INTENT.plan_id, **more: Any) -> Intent:
    name = f"hv-{plan}-{leg}-{slice_number}"
    values = {"client_order_id": name, "plan_id": plan, "leg": leg, "slice_number": slice_number, **more}
    return replace(INTENT, state=IntentState.FILLED, submitted_quantity=D(str(quantity)), **values)


@pytest.mark.parametrize("quantity", ["0", "-1", "100.000000001"])
def test_a_slice_sends_something_and_never_more_than_itself(tmp_path: Path, quantity: str) -> None:
    assert asked(tmp_path, quantity) == "LIMIT_CONSERVATION"


@pytest.mark.parametrize(("before", "expected"), [(50, "may leave"), (51, "LIMIT_CONSERVATION")])
def test_the_slices_of_a_leg_together_never_exceed_the_leg(tmp_path: Path, before: int, expected: str) -> None:
    """The leg is 150 shares; what earlier slices sent and this one's 100 must fit."""
    assert asked(tmp_path, sent_today=[sent(before, 1)]) == expected


def test_other_legs_other_plans_and_itself_do_not_count(tmp_path: Path) -> None:
    others = [sent(100, 0), sent(100, 1, leg=2), sent(100, 1, plan="main-20240304-2")]
    assert asked(tmp_path, sent_today=others) == "may leave"


def test_a_quantity_that_is_no_number_or_a_leg_of_another_symbol(tmp_path: Path) -> None:
    assert asked(tmp_path, NAN) == "LIMIT_CONSERVATION"
    assert asked(tmp_path, INFINITY) == "LIMIT_CONSERVATION"
    assert asked(tmp_path, leg=replace(LEG, symbol="BBB")) == "LIMIT_CONSERVATION"
    assert asked(tmp_path, leg=replace(LEG, side=Side.SELL)) == "LIMIT_CONSERVATION"


# ------------------------------------------------------------------ the account: whose, blocked, nothing borrowed

SALE = replace(INTENT, side=Side.SELL)
SELL_LEG = replace(LEG, side=Side.SELL)


def sale(folder: Path, **changed: Any) -> str:
    return asked(folder, 100, SALE, leg=SELL_LEG, **changed)


def test_another_account_than_expected(tmp_path: Path) -> None:
    assert asked(tmp_path, account_number="SIM-2") == "ACCOUNT_MISMATCH"
    assert asked(tmp_path, account_number="") == "may leave", "none is known before the first look of all"


def test_an_account_that_the_broker_has_blocked(tmp_path: Path) -> None:
    blocked = BrokerAccount("SIM-1", D(100_000), D(100_000), trading_blocked=True, restrictions=("by request",))
    assert asked(tmp_path, account=blocked) == "ACCOUNT_RESTRICTED"


@pytest.mark.parametrize(("cash", "expected"), [("5001", "may leave"), ("5000.99", "LIMIT_CASH"), ("-1", "LIMIT_CASH")])
def test_a_purchase_takes_cash_and_borrows_none(tmp_path: Path, cash: str, expected: str) -> None:
    """100 at the ask of 50.01, whatever buying power the account has."""
    assert asked(tmp_path, cash=D(cash)) == expected


def test_a_purchase_costs_its_limit(tmp_path: Path) -> None:
    at_limit = replace(INTENT, order_type=OrderType.LIMIT, limit_price=D("50.26"))
    assert asked(tmp_path, intent=at_limit, cash=D("5025.99")) == "LIMIT_CASH"
    assert asked(tmp_path, intent=at_limit, cash=D("5026")) == "may leave"


@pytest.mark.parametrize(("shares", "expected"), [(100, "may leave"), ("99.999999999", "LIMIT_LONG_ONLY")])
def test_a_sale_takes_what_is_held_and_is_never_short(tmp_path: Path, shares: object, expected: str) -> None:
    assert sale(tmp_path, shares=D(str(shares))) == expected


@pytest.mark.parametrize(
    ("multiplier", "bought", "expected"), [(1, 900, "may leave"), (1, 901, "LIMIT_GOOD_FAITH"), (2, 901, "may leave")]
)
def test_a_cash_account_does_not_sell_what_it_bought_today(
    tmp_path: Path, multiplier: int, bought: int, expected: str
) -> None:
    """Of 1,000 shares, 100 are sold. What was bought today may have been paid with a sale that settles tomorrow."""
    account = BrokerAccount("SIM-1", D(100_000), D(100_000), multiplier=D(multiplier))
    assert sale(tmp_path, account=account, bought_today=D(bought)) == expected


# ------------------------------------------------------------------ symbols that may be traded at all


def test_a_symbol_that_is_neither_in_the_benchmark_nor_held(tmp_path: Path) -> None:
    assert asked(tmp_path, known=frozenset({"BBB"})) == "LIMIT_NOT_ALLOWED"


def test_with_a_list_of_symbols_only_those(tmp_path: Path) -> None:
    assert asked(tmp_path, execution={"allowed_symbols": ["BBB"]}) == "LIMIT_NOT_ALLOWED"
    assert asked(tmp_path, execution={"allowed_symbols": ["AAA"]}) == "may leave"


def test_a_symbol_that_the_broker_does_not_trade(tmp_path: Path) -> None:
    assert asked(tmp_path, untradable=frozenset({"AAA"})) == "SYMBOL_NOT_TRADABLE"


# ------------------------------------------------------------------ clocks, and memory


@pytest.mark.parametrize(("drift", "expected"), [(5.0, "may leave"), (5.1, "CLOCK_JUMPED"), (-3600.0, "CLOCK_JUMPED")])
def test_a_wall_clock_that_jumped_since_the_look(tmp_path: Path, drift: float, expected: str) -> None:
    assert asked(tmp_path, clock_drift_s=drift) == expected
    assert asked(tmp_path, clock_drift_s=float("nan")) == "CLOCK_JUMPED"


def test_a_halt_that_could_not_be_written_is_one(tmp_path: Path) -> None:
    assert asked(tmp_path, stopped="the disk is full") == "STATE_HALTED"


def test_a_check_that_cannot_be_made_is_no_check_passed(tmp_path: Path) -> None:
    assert asked(tmp_path, cash=None) == "LIMIT_CHECK_FAILED"
    assert asked(tmp_path, cash=NAN) == "LIMIT_CHECK_FAILED"
    assert asked(tmp_path, account=None) == "LIMIT_CHECK_FAILED"


# ------------------------------------------------------------------ how many, how often


def left(number: int, seconds_ago: float, **more: Any) -> Intent:
    return sent(1, number, leg=number, submitted_at=NOW - timedelta(seconds=seconds_ago), **more)


def test_orders_within_a_minute(tmp_path: Path) -> None:
    limit = {"orders_max_per_minute": 3}
    others = [left(number, 59, symbol=f"S{number}") for number in range(2, 5)]
    assert asked(tmp_path, sent_today=others, execution=limit) == "LIMIT_ORDER_RATE"
    assert asked(tmp_path, sent_today=others[:2], execution=limit) == "may leave"
    old = [left(number, 60, symbol=f"S{number}") for number in range(2, 5)]
    assert asked(tmp_path, sent_today=old, execution=limit) == "may leave"


def test_repeats_of_a_symbol_and_side(tmp_path: Path) -> None:
    """A planner that loops sells the same name again and again; a session has room for so many of them."""
    limit = {"repeats_max": 2}
    alike = [left(2, 600), left(3, 300)]
    assert asked(tmp_path, sent_today=alike, execution=limit) == "LIMIT_REPEATS"
    assert asked(tmp_path, sent_today=[left(2, 600), left(3, 300, side=Side.SELL)], execution=limit) == "may leave"
    assert asked(tmp_path, sent_today=[left(2, 600), left(3, 300, symbol="BBB")], execution=limit) == "may leave"


def test_slices_of_an_order_that_is_large_for_the_volume_leave_one_by_one(tmp_path: Path) -> None:
    before = [left(2, 119)]
    assert asked(tmp_path, sent_today=before, slice_max=D(100)) == "LIMIT_PACE"
    assert asked(tmp_path, sent_today=[left(2, 120)], slice_max=D(100)) == "may leave"
    assert asked(tmp_path, sent_today=before, slice_max=D(150)) == "may leave", "the leg is not large"
    assert asked(tmp_path, sent_today=before, slice_max=None) == "may leave"


# ------------------------------------------------------------------ quotes


@pytest.mark.parametrize(
    ("bid", "ask"),
    [
        (0, "50.01"),
        ("49.99", 0),
        (0, 0),
        (-1, "50.01"),
        (NAN, "50.01"),
        ("49.99", NAN),
        (NAN, NAN),
        (INFINITY, INFINITY),
        ("49.99", INFINITY),
    ],
)
def test_a_quote_that_is_not_two_positive_numbers_is_none(tmp_path: Path, bid: object, ask: object) -> None:
    assert asked(tmp_path, quote=quote(bid, ask)) == "QUOTE_MISSING"


def test_no_quote(tmp_path: Path) -> None:
    assert asked(tmp_path, quote=None) == "QUOTE_MISSING"


@pytest.mark.parametrize(
    ("age", "expected"),
    [(0, "may leave"), (900, "may leave"), (901, "QUOTE_STALE"), (-5, "may leave"), (-6, "QUOTE_STALE")],
)
def test_a_quote_too_old_or_from_the_future(tmp_path: Path, age: int, expected: str) -> None:
    assert asked(tmp_path, quote=quote(at=NOW - timedelta(seconds=age))) == expected


@pytest.mark.parametrize(
    ("bid", "ask", "expected"),
    [("49.75", "50.25", "may leave"), ("49.74", "50.26", "QUOTE_WIDE"), ("50.01", "49.99", "QUOTE_WIDE")],
)
def test_a_wide_or_crossed_quote(tmp_path: Path, bid: str, ask: str, expected: str) -> None:
    """One per cent is the most by default."""
    assert asked(tmp_path, quote=quote(bid, ask)) == expected


@pytest.mark.parametrize(
    ("close", "expected"),
    [
        ("40.00", "may leave"),  # 25 % up, which is the most
        ("39.99", "LIMIT_PRICE_COLLAR"),
        ("66.66", "may leave"),
        ("66.67", "LIMIT_PRICE_COLLAR"),
        ("5", "LIMIT_PRICE_COLLAR"),  # tenfold
        ("500", "LIMIT_PRICE_COLLAR"),
        ("0", "LIMIT_PRICE_COLLAR"),
        ("NaN", "LIMIT_PRICE_COLLAR"),
    ],
)
def test_a_price_too_far_from_the_previous_close(tmp_path: Path, close: str, expected: str) -> None:
    assert asked(tmp_path, previous_close=D(close)) == expected


def test_a_price_whose_previous_close_is_not_known(tmp_path: Path) -> None:
    assert asked(tmp_path, previous_close=None) == "LIMIT_PRICE_COLLAR"


# ------------------------------------------------------------------ size


@pytest.mark.parametrize(("most", "expected"), [("5000", "may leave"), ("4999.99", "LIMIT_ORDER_SIZE")])
def test_an_order_larger_than_allowed(tmp_path: Path, most: str, expected: str) -> None:
    assert asked(tmp_path, execution={"order_max_usd": most}) == expected


@pytest.mark.parametrize(("most", "expected"), [("12500", "may leave"), ("12499.99", "LIMIT_DAILY_NOTIONAL")])
def test_a_day_larger_than_allowed(tmp_path: Path, most: str, expected: str) -> None:
    """7,500 were sent today, sales and purchases of any plan; this order is worth 5,000."""
    before = [sent(100, 0, leg=7), sent(50, 0, plan="main-20240304-0", side=Side.SELL)]
    assert (
        asked(tmp_path, sent_today=before, execution={"order_max_usd": "5000", "daily_notional_max_usd": most})
        == expected
    )


# ------------------------------------------------------------------ is the market open?


def market(*, is_open: bool, skew_s: float = 0, now: datetime = NOW, session: SessionTimes | None = SESSION) -> str:
    clock = BrokerClock(now + timedelta(seconds=skew_s), is_open, OPENS, CLOSES)
    state, reason = market_state(session, clock, now)
    return f"{state.value} {reason.code.value if reason else ''}".strip()


def test_open_when_calendar_and_broker_both_say_so() -> None:
    assert market(is_open=True) == "OPEN"
    assert market(is_open=True, now=OPENS) == "OPEN"


def test_closed_when_both_say_so() -> None:
    assert market(is_open=False, now=CLOSES) == "CLOSED MARKET_CLOSED"
    assert market(is_open=False, session=None) == "CLOSED MARKET_CLOSED"


@pytest.mark.parametrize(
    ("is_open", "now", "session"),
    [(False, NOW, SESSION), (True, CLOSES, SESSION), (True, OPENS - timedelta(seconds=1), SESSION), (True, NOW, None)],
)
def test_when_they_disagree_nothing_is_traded(is_open: bool, now: datetime, session: SessionTimes | None) -> None:
    """F30: an unscheduled closure, or a holiday that our calendar does not know."""
    assert market(is_open=is_open, now=now, session=session) == "STALE MARKET_CLOCKS_DISAGREE"


def test_a_close_that_our_calendar_does_not_know() -> None:
    """F30: the exchange closes early today, and the broker knows it."""
    clock = BrokerClock(NOW, True, OPENS, CLOSES - timedelta(hours=3))
    state, reason = market_state(SESSION, clock, NOW)
    assert (state.value, reason and reason.code.value) == ("STALE", "MARKET_CLOCKS_DISAGREE")


@pytest.mark.parametrize(("skew", "expected"), [(5, "OPEN"), (-5, "OPEN"), (6, "STALE MARKET_CLOCKS_DISAGREE")])
def test_clocks_more_than_five_seconds_apart(skew: int, expected: str) -> None:
    assert market(is_open=True, skew_s=skew) == expected
    assert market(is_open=True, skew_s=-3600) == "STALE MARKET_CLOCKS_DISAGREE"
