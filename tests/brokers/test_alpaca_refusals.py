"""What every answer of Alpaca becomes, and what the daemon does about it; the documentation says the same."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import nullcontext
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import stamina
from alpaca_answers import ABSENCES, BEFORE_LEAVING, CANCELS, ORDERS, READS, Known
from stub_alpaca import OPEN_CLOCK, OURS, TAKEN, Said, StubAlpaca, Time, stubbed_broker, stubbed_reader

from brokers.alpaca.desk import AlpacaBroker
from brokers.errors import (
    BrokerError,
    DuplicateClientOrderId,
    NotAuthorized,
    NotSent,
    OrderRefused,
    OutcomeUnknown,
    UnknownOrder,
)
from daemon import execution
from daemon.errors import MustHalt
from state.reasons import ReasonCode
from state.records import Intent, IntentState, OrderRequest, OrderType, Side

D = Decimal
BUY = OrderRequest("a-1", "KO", Side.BUY, D(10))
DOCUMENT = Path(__file__).parents[2] / "docs" / "BROKER-ANSWERS.md"
INTENT_STATES = {  # what daemon/execution.py makes of an intent
    OrderRefused: IntentState.REFUSED,
    DuplicateClientOrderId: IntentState.WORKING,
    OutcomeUnknown: IntentState.UNKNOWN,
    NotSent: IntentState.RECORDED,
}


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


def names(cases: tuple[Known, ...]) -> list[str]:
    return [case.words for case in cases]


def quick(time: Time) -> dict[str, Any]:
    """Time-outs that do not hold a test up, and a clock of its own for the budget."""
    return {"timeouts": (1.0, 0.1), "sleep": time.sleep, "monotonic": time.monotonic}


def executed(broker: AlpacaBroker) -> Intent:
    """What daemon/execution.py makes of an intent that is sent through this broker."""
    intent = Intent(
        client_order_id="a-1",
        plan_id="p",
        account_id="main",
        leg=0,
        slice_number=0,
        symbol="KO",
        side=Side.BUY,
        quantity=D(10),
        submitted_quantity=D(10),
        state=IntentState.SUBMITTING,
        session=date(2026, 10, 8),
        order_type=OrderType.MARKET,
        reference_price=D(86),
    )
    house: Any = SimpleNamespace(
        brokers={"main": broker},
        desk=lambda _account_id: broker,
        clock=SimpleNamespace(now=lambda: datetime(2026, 10, 8, 15, 10, 15, tzinfo=UTC)),
        store=SimpleNamespace(
            transaction=nullcontext,
            orders=SimpleNamespace(save=lambda _intent: None, claim_fills=lambda _intent: None),
        ),
    )
    return execution._submitted(house, intent)


class TestOrders:
    @pytest.mark.parametrize("case", ORDERS, ids=names(ORDERS))
    def test_what_the_answer_becomes(self, stub: StubAlpaca, case: Known) -> None:
        stub.says("/v2/orders", case.said, method="POST")
        assert case.becomes is not None
        with stubbed_broker(stub, **quick(Time())) as broker, pytest.raises(BrokerError) as raised:
            broker.submit(BUY)
        assert type(raised.value) is case.becomes
        assert getattr(raised.value, "reason", None) == case.reason
        assert "a-1" in str(raised.value)
        assert stub.count("/v2/orders", "POST") == 1

    @pytest.mark.parametrize("case", ORDERS, ids=names(ORDERS))
    def test_what_the_daemon_does(self, stub: StubAlpaca, case: Known) -> None:
        stub.says("/v2/orders", case.said, method="POST")
        stub.says("/v2/orders:by_client_order_id", TAKEN)
        with stubbed_broker(stub, **quick(Time())) as broker:
            if case.becomes is NotAuthorized:
                with pytest.raises(MustHalt):
                    executed(broker)
            else:
                passes = case.reason is not None and case.reason.value in execution.MAY_PASS
                expected = IntentState.RECORDED if passes else INTENT_STATES[case.becomes]  # type: ignore[index]
                assert executed(broker).state is expected

    def test_an_order_that_is_taken_works(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", TAKEN, method="POST")
        with stubbed_broker(stub) as broker:
            assert executed(broker).state is IntentState.WORKING

    @pytest.mark.parametrize(
        "changes",
        [
            {"symbol": "PEP"},
            {"side": "sell"},
            {"qty": "100"},
            {"client_order_id": "b-2"},
            {"limit_price": "80"},
        ],
    )
    def test_an_answer_about_another_order_is_looked_into_not_adopted(
        self, stub: StubAlpaca, changes: dict[str, str]
    ) -> None:
        stub.says("/v2/orders", {**TAKEN, **changes}, method="POST")
        with stubbed_broker(stub) as broker:
            with pytest.raises(OutcomeUnknown, match="a-1: expected Alpaca to take buy 10 KO as a-1, it says it took"):
                broker.submit(BUY)
            assert executed(broker).state is IntentState.UNKNOWN

    def test_figures_of_a_refusal_are_told(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", ORDERS[0].said, method="POST")
        with stubbed_broker(stub) as broker, pytest.raises(OrderRefused, match=r"existing_qty 0\.557436865"):
            broker.submit(BUY)


class TestBeforeLeaving:
    def refused(self, number: int, stub: StubAlpaca, broker: AlpacaBroker, order: OrderRequest = BUY) -> None:
        _, becomes, reason = BEFORE_LEAVING[number]
        with pytest.raises(becomes) as raised:
            broker.submit(order)
        assert getattr(raised.value, "reason", None) == reason
        assert stub.count("/v2/orders", "POST") == 0

    @pytest.mark.parametrize(
        "changes",
        [
            {"quantity": D(0)},
            {"quantity": D(-1)},
            {"quantity": D("1.0000000001")},
            {"quantity": D("NaN")},
            {"quantity": D("Infinity")},
            {"quantity": D(10) ** 9},
            {"client_order_id": ""},
            {"client_order_id": "x" * 129},
            {"limit_price": D(80)},
            {"order_type": OrderType.LIMIT},
            {"order_type": OrderType.LIMIT, "limit_price": D(0)},
            {"order_type": OrderType.LIMIT, "limit_price": D("NaN")},
            {"order_type": OrderType.LIMIT, "limit_price": D("86.875")},
            {"order_type": OrderType.LIMIT, "limit_price": D("0.98765")},
            {"order_type": OrderType.MARKET_ON_CLOSE, "quantity": D("0.5")},
            {"lots": ("a lot",)},
        ],
    )
    def test_an_order_alpaca_could_not_carry_out(self, stub: StubAlpaca, changes: dict[str, Any]) -> None:
        with stubbed_broker(stub) as broker:
            self.refused(0, stub, broker, OrderRequest(**{**_fields(BUY), **changes}))

    @pytest.mark.parametrize(
        "clock",
        [
            {"is_open": False, "timestamp": "2026-10-08T09:29:59-04:00", "next_open": "2026-10-08T09:30:00-04:00"},
            {"timestamp": "2026-10-08T16:00:00-04:00"},
            {"is_open": False, "timestamp": "2026-10-08T20:00:00-04:00", "next_close": "2026-10-09T16:00:00-04:00"},
        ],
    )
    def test_no_session_is_open(self, stub: StubAlpaca, clock: dict[str, object]) -> None:
        with stubbed_broker(stub) as broker:
            stub.says("/v2/clock", {**OPEN_CLOCK, **clock})
            self.refused(1, stub, broker)

    def test_no_call_is_left(self, stub: StubAlpaca) -> None:
        left = {"X-Ratelimit-Limit": "200", "X-Ratelimit-Remaining": "20"}
        with stubbed_broker(stub, **quick(Time())) as broker:
            stub.says("/v2/clock", Said(OPEN_CLOCK, headers=left))
            self.refused(2, stub, broker)
            assert executed(broker).state is IntentState.RECORDED

    def test_no_connection_can_be_made(self) -> None:
        with StubAlpaca() as stub, stubbed_broker(stub) as broker:
            broker.clock()
            stub.leave()
            self.refused(3, stub, broker)
            assert executed(broker).state is IntentState.RECORDED

    def test_whether_the_market_is_open_cannot_be_asked(self, stub: StubAlpaca) -> None:
        with stubbed_broker(stub) as broker:
            stub.says("/v2/clock", Said({"message": "later"}, 503))
            with pytest.raises(NotSent, match="if the market is open"):
                broker.submit(BUY)
        assert stub.count("/v2/orders", "POST") == 0


class TestReads:
    @pytest.mark.parametrize("case", READS, ids=names(READS))
    def test_what_the_answer_becomes(self, stub: StubAlpaca, case: Known) -> None:
        with stubbed_reader(stub, **quick(Time())) as reader:
            stub.says("/v2/positions", case.said)
            with pytest.raises(BrokerError) as raised:
                reader.positions()
        assert case.becomes is not None
        assert isinstance(raised.value, case.becomes)
        assert issubclass(case.becomes, NotAuthorized) == isinstance(raised.value, NotAuthorized)

    def test_what_there_is_none_of_is_absent(self, stub: StubAlpaca) -> None:
        order, asset, symbol = ABSENCES
        stub.says("/v2/orders:by_client_order_id", order.said)
        stub.says("/v2/assets/NOSUCH", asset.said)
        stub.says("/v2/stocks/snapshots", symbol.said)
        with stubbed_reader(stub) as reader:
            assert reader.order_by_client_id("a-1") is None
            assert reader.assets(["NOSUCH"]) == {}
            assert reader.quotes(["BRK-B"]) == {}


class TestCancels:
    @pytest.mark.parametrize("case", CANCELS, ids=names(CANCELS))
    def test_what_the_answer_becomes(self, stub: StubAlpaca, case: Known) -> None:
        stub.says(f"/v2/orders/{OURS}", case.said, method="DELETE")
        stub.says(f"/v2/orders/{OURS}", TAKEN)
        with stubbed_broker(stub, **quick(Time())) as broker:
            if case.becomes is None:
                broker.cancel(OURS)
                return
            with pytest.raises(case.becomes):
                broker.cancel(OURS)

    def test_a_cancel_that_is_refused_for_an_order_there_is_none_of(self, stub: StubAlpaca) -> None:
        stub.says(f"/v2/orders/{OURS}", CANCELS[2].said, method="DELETE")
        stub.says(f"/v2/orders/{OURS}", CANCELS[1].said)
        with stubbed_broker(stub) as broker, pytest.raises(UnknownOrder):
            broker.cancel(OURS)


class TestTheDocumentation:
    KEPT = "Kept, and sent again at a later step: three times in all, then it ends as refused."
    DOES = (
        ("UnknownOrder", "Looks the order up at the next step."),
        (f"OrderRefused {ReasonCode.ORDER_INSUFFICIENT_CASH.value}", KEPT),
        (f"OrderRefused {ReasonCode.ORDER_SELF_TRADE.value}", KEPT),
        ("OrderRefused", "The order ends as refused, with the reason; the rest of its plan goes on."),
        ("DuplicateClientOrderId", "Looks the order up and adopts it. Never a second order."),
        ("NotAuthorized", "Trading halts until a person resumes it; one alert. The order's fate is looked up."),
        ("OutcomeUnknown", "The order is unknown: its symbol and its cash stay locked until it is found, or looked up"),
        ("NotSent", "The order is sent at a later step, while there is time."),
        ("BrokerUnavailable", "Nothing is decided and nothing sent; tried again at the next step, one alert."),
    )

    def rows(self, section: str) -> dict[str, tuple[str, str]]:
        """A table of the documentation: what Alpaca says -> (what it becomes, what the daemon does)."""
        text = DOCUMENT.read_text(encoding="utf-8")
        part = re.search(rf"^## {section}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
        assert part is not None, f"docs/BROKER-ANSWERS.md has no section {section}"
        cells = [
            [cell.strip() for cell in line.strip("|").split(" | ")]
            for line in part.group(1).splitlines()
            if line.startswith("| ")
        ]
        return {says: (becomes, does) for says, becomes, does in cells[1:]}

    def compare(self, section: str, cases: dict[str, str]) -> None:
        told = self.rows(section)
        assert {says: becomes for says, (becomes, _) in told.items()} == cases
        for becomes, does in told.values():
            expected = [sentence for name, sentence in self.DOES if becomes.startswith(name)]
            assert not expected or does.startswith(expected[0]), (becomes, does)

    def test_every_answer_to_an_order_is_in_it(self) -> None:
        self.compare("An order", {case.words: case.meaning for case in ORDERS})

    def test_every_way_in_which_an_order_does_not_leave_is_in_it(self) -> None:
        cases = {
            says: f"{kind.__name__}{f' {reason.value}' if reason else ''}" for says, kind, reason in BEFORE_LEAVING
        }
        self.compare("An order that does not leave", cases)

    def test_every_answer_to_a_question_is_in_it(self) -> None:
        self.compare("A question", {case.words: case.meaning for case in (*READS, *ABSENCES)})

    def test_every_answer_to_a_cancel_is_in_it(self) -> None:
        self.compare("A cancel", {case.words: case.meaning for case in CANCELS})


def _fields(order: OrderRequest) -> dict[str, Any]:
    return {name: getattr(order, name) for name in order.__dataclass_fields__}
