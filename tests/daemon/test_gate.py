"""The last door before the broker: each way to be refused, by its reason code, and the one way through."""

from __future__ import annotations

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
from state.records import BrokerClock, Intent, IntentState, OrderType, PlannedTrade, Quote, Side, TradeReason

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


@pytest.mark.parametrize(("skew", "expected"), [(5, "OPEN"), (-5, "OPEN"), (6, "STALE MARKET_CLOCKS_DISAGREE")])
def test_clocks_more_than_five_seconds_apart(skew: int, expected: str) -> None:
    assert market(is_open=True, skew_s=skew) == expected
    assert market(is_open=True, skew_s=-3600) == "STALE MARKET_CLOCKS_DISAGREE"
