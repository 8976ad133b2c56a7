"""Orders as Alpaca words them: states, lists, look-ups, changes, and the order inside a message of the stream."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from stub_alpaca import Said, StubAlpaca, stubbed_reader

from brokers.alpaca import AlpacaReader, order_of_event
from brokers.alpaca.orders import PAGE
from brokers.errors import BrokerUnavailable
from state.records import BrokerOrder, BrokerOrderStatus, OrderType, Side

D = Decimal
S = BrokerOrderStatus
RECORDED = {  # a resting limit order as recorded in October 2026
    "id": "ad78ddf9-eadd-49e7-b451-eebfcf25ff04",
    "client_order_id": "a-1",
    "created_at": "2026-10-08T15:10:21.371060727Z",
    "updated_at": "2026-10-08T15:10:22.180077272Z",
    "submitted_at": "2026-10-08T15:10:21.375005748Z",
    "filled_at": None,
    "expired_at": None,
    "canceled_at": None,
    "asset_class": "us_equity",
    "symbol": "KO",
    "notional": None,
    "qty": "10",
    "filled_qty": "0",
    "filled_avg_price": None,
    "order_class": "",
    "order_type": "limit",
    "type": "limit",
    "side": "buy",
    "time_in_force": "day",
    "limit_price": "78.19",
    "status": "new",
    "legs": None,
}
FILLED = {"filled_qty": "10", "filled_avg_price": "78.1"}
PART = {"filled_qty": "4", "filled_avg_price": "78.1"}


def told(**changes: object) -> dict[str, object]:
    """A message of the stream about the recorded order, changed."""
    return {"stream": "trade_updates", "data": {"event": "new", "order": {**RECORDED, **changes}}}


def read(**changes: object) -> BrokerOrder:
    order = order_of_event(json.dumps(told(**changes)))
    assert order is not None
    return order


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


@pytest.fixture
def reader(stub: StubAlpaca) -> Iterator[AlpacaReader]:
    with stubbed_reader(stub) as made:
        yield made


class TestOneOrder:
    def test_everything_the_daemon_needs_is_read(self) -> None:
        assert read(**PART, status="partially_filled") == BrokerOrder(
            broker_order_id="ad78ddf9-eadd-49e7-b451-eebfcf25ff04",
            client_order_id="a-1",
            symbol="KO",
            side=Side.BUY,
            quantity=D(10),
            filled_quantity=D(4),
            status=S.PARTLY_FILLED,
            order_type=OrderType.LIMIT,
            submitted_at=datetime(2026, 10, 8, 15, 10, 21, 371060, tzinfo=UTC),
            limit_price=D("78.19"),
            average_price=D("78.1"),
        )

    @pytest.mark.parametrize(
        "word",
        [
            "new",
            "accepted",
            "pending_new",
            "accepted_for_bidding",
            "held",
            "stopped",
            "suspended",
            "calculated",
            "done_for_day",
            "pending_cancel",
            "pending_replace",
            "pending_review",
            "partially_filled",
        ],
    )
    def test_states_in_which_it_may_still_fill(self, word: str) -> None:
        assert (read(status=word).status, read(status=word).reason) == (S.WORKING, "")
        assert read(status=word, **PART).status is S.PARTLY_FILLED
        assert read(status=word, **FILLED).status is S.FILLED

    @pytest.mark.parametrize(
        ("word", "status"),
        [("canceled", S.CANCELLED), ("replaced", S.CANCELLED), ("expired", S.EXPIRED), ("rejected", S.REJECTED)],
    )
    def test_states_that_end_it_keep_what_was_filled(self, word: str, status: BrokerOrderStatus) -> None:
        ended = read(status=word, **PART)
        assert (ended.status, ended.filled_quantity) == (status, 4)
        assert read(status=word, **FILLED).status is S.FILLED

    @pytest.mark.fault("F25")
    def test_a_cancel_that_was_asked_for_is_not_heeded_yet_and_ends_later(self) -> None:
        """However long it takes, the order may still fill; what it filled until the end counts."""
        asked = [read(status="pending_cancel"), read(status="pending_cancel", **PART)]
        assert [each.status for each in asked] == [S.WORKING, S.PARTLY_FILLED]
        assert not any(each.status.is_final for each in asked)
        assert read(status="canceled", **PART).status is S.CANCELLED
        assert read(status="filled", **FILLED).status is S.FILLED

    def test_a_state_of_tomorrow_is_taken_as_one_that_may_still_fill(self) -> None:
        order = read(status="enchanted")
        assert (order.status, order.reason) == (S.WORKING, "Alpaca says 'enchanted'")
        assert read(status="enchanted", **PART).status is S.PARTLY_FILLED

    @pytest.mark.parametrize(
        ("changes", "order_type"),
        [
            ({"limit_price": None, "type": "market"}, OrderType.MARKET),
            ({"limit_price": None, "type": "market", "time_in_force": "cls"}, OrderType.MARKET_ON_CLOSE),
            ({"type": "stop_limit", "stop_price": "77"}, OrderType.LIMIT),
            ({"limit_price": None, "type": "a type of tomorrow"}, OrderType.MARKET),
        ],
    )
    def test_types(self, changes: dict[str, object], order_type: OrderType) -> None:
        assert read(**changes).order_type is order_type

    def test_an_order_by_amount_has_the_quantity_it_filled(self) -> None:
        assert read(qty=None, notional="5", status="filled", filled_qty="0.057436865").quantity == D("0.057436865")
        assert read(qty=None, notional="5").quantity == 0

    def test_fields_nobody_knows_are_not_looked_at(self) -> None:
        assert read(a_field_of_tomorrow={"x": [1]}) == read()


class TestTheOrderOfAMessage:
    @pytest.mark.parametrize(
        "event",
        ["new", "fill", "canceled", "order_cancel_rejected", "trade_bust", "restated", "an event of tomorrow"],
    )
    def test_whatever_the_event_the_order_counts(self, event: str) -> None:
        message = told()
        message["data"]["event"] = event  # type: ignore[index]
        assert order_of_event(json.dumps(message)) == read()

    @pytest.mark.fault("F16")
    def test_messages_in_any_order_tell_the_order_as_each_of_them_has_it(self) -> None:
        """Nothing is added up: an event's own quantity is not looked at, so none can be counted twice or taken back."""

        def message(event: str, **order: object) -> str:
            changed = told(**order)
            changed["data"] |= {"event": event, "qty": "6", "price": "78.1", "execution_id": "e-1"}  # type: ignore[operator]
            return json.dumps(changed)

        told_in_turn = [
            (message("fill", status="filled", **FILLED), S.FILLED, 10),
            (message("new", status="new"), S.WORKING, 0),  # after its fill
            (message("canceled", status="canceled", **PART), S.CANCELLED, 4),
            (message("partial_fill", status="canceled", **PART), S.CANCELLED, 4),  # after the cancel
            (message("fill", status="canceled", **FILLED), S.FILLED, 10),
            (
                message("partial_fill", status="partially_filled", filled_qty="2", filled_avg_price="78"),
                S.PARTLY_FILLED,
                2,
            ),
        ]
        for body, status, filled in told_in_turn:
            order = order_of_event(body)
            assert order is not None
            assert (order.status, order.filled_quantity) == (status, filled)

    @pytest.mark.parametrize(
        "message",
        [
            {"stream": "trade_updates", "data": {"event": "new"}},
            {"stream": "trade_updates", "data": {"event": "new", "order": None}},
            told(order_class="mleg", symbol=None, side=None),
        ],
    )
    def test_a_message_without_an_order_in_one_security_has_none(self, message: object) -> None:
        assert order_of_event(json.dumps(message)) is None

    @pytest.mark.parametrize(
        "body",
        [
            "",
            "no JSON",
            "[]",
            "17",
            '{"stream": "trade_updates"',
            '{"stream": "trade_updates"}',
            '{"stream": "listening", "data": {"streams": ["trade_updates"]}}',
            '{"stream": "trade_updates", "data": 5}',
            json.dumps(told(symbol=None)),
            json.dumps(told(side="sideways")),
            json.dumps(told(qty="ten")),
            json.dumps(told(created_at="yesterday")),
        ],
    )
    def test_garbage_raises(self, body: str) -> None:
        with pytest.raises(ValueError, match=r"."):
            order_of_event(body)


def listed(number: int, **changes: object) -> dict[str, object]:
    """Order number so-and-so of a day, each a second after the one before."""
    at = f"{datetime(2026, 10, 8, 14, 0, tzinfo=UTC) + timedelta(seconds=number):%Y-%m-%dT%H:%M:%S}.000000001Z"
    stamps = {"created_at": at, "submitted_at": at, "updated_at": at}
    return {**RECORDED, "id": f"id-{number}", "client_order_id": f"a-{number}", **stamps, **changes}


class TestLists:
    def test_an_order_is_looked_up_by_our_id(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders:by_client_order_id", RECORDED)
        assert reader.order_by_client_id("a-1") == read()
        assert stub.queries("/v2/orders:by_client_order_id") == [{"client_order_id": "a-1"}]

    def test_only_alpaca_saying_so_means_there_is_none(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders:by_client_order_id", Said({"code": 40410000, "message": "order not found for a-1"}, 404))
        assert reader.order_by_client_id("a-1") is None
        stub.says("/v2/orders:by_client_order_id", Said(b"<html>404</html>", 404))
        with pytest.raises(BrokerUnavailable):
            reader.order_by_client_id("a-1")

    def test_an_answer_about_another_order_is_no_answer(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders:by_client_order_id", {**RECORDED, "client_order_id": "b-9"})
        with pytest.raises(BrokerUnavailable, match="expected that id, was 'b-9'"):
            reader.order_by_client_id("a-1")

    def test_many_orders_cost_one_call_and_one_for_each_that_is_not_listed(
        self, stub: StubAlpaca, reader: AlpacaReader
    ) -> None:
        stub.says("/v2/orders", [listed(number) for number in reversed(range(10))])
        stub.says("/v2/orders:by_client_order_id", Said({"code": 40410000, "message": "order not found"}, 404))
        found = reader.orders(["a-3", "a-4", "a-5", "never-sent", "a-3"])
        assert sorted(found) == ["a-3", "a-4", "a-5"]
        assert (stub.count("/v2/orders"), stub.count("/v2/orders:by_client_order_id")) == (1, 1)

    def test_a_list_of_more_than_a_page_is_read_to_its_end(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        everything = [listed(number) for number in range(PAGE + 2)]
        stub.says("/v2/orders", everything[:PAGE], everything[PAGE - 1 :])
        assert [each.client_order_id for each in reader.open_orders()] == [f"a-{n}" for n in range(PAGE + 2)]
        first, second = stub.queries("/v2/orders")
        assert (first["status"], first["limit"], first["direction"]) == ("open", "500", "asc")
        assert second["after"] == "2026-10-08T14:08:18.000000Z"  # a second before the last of the first page

    def test_the_same_page_again_and_again_is_an_error(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders", [listed(number) for number in range(PAGE)])
        with pytest.raises(BrokerUnavailable, match="expected a new page"):
            reader.open_orders()

    def test_of_old_orders_no_more_pages_are_read_than_four_days(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        old = {"created_at": "2026-09-30T14:00:00Z", "submitted_at": "2026-09-30T14:00:00Z"}
        page = [listed(PAGE), *(listed(number, **old) for number in range(PAGE - 1))]
        stub.says("/v2/orders", page, page)
        stub.says("/v2/orders:by_client_order_id", Said({"code": 40410000, "message": "order not found"}, 404))
        assert reader.orders(["x-1", "x-2", "x-3"]) == {}
        assert stub.count("/v2/orders") == 1

    def test_orders_over_several_legs_are_passed_over(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders", [listed(1), listed(2, order_class="mleg", symbol=None, side=None)])
        assert [each.client_order_id for each in reader.open_orders()] == ["a-1"]

    def test_a_list_may_contain_words_of_tomorrow(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders", [listed(1, status="enchanted", asset_class="moon_rock"), listed(2)])
        assert [each.client_order_id for each in reader.open_orders()] == ["a-1", "a-2"]


class TestChanges:
    def test_after_a_restart_each_order_is_told_as_it_is_now(self, stub: StubAlpaca) -> None:
        """Seen working, then the daemon was away while it filled in parts and one was cancelled."""
        stub.says("/v2/orders", [listed(1), listed(2)])
        with stubbed_reader(stub) as reader:
            first = reader.order_events()
        assert [each.status for each in first.orders] == [S.WORKING, S.WORKING]
        later = {"updated_at": "2026-10-08T15:00:00Z"}
        stub.says("/v2/orders", [listed(1, **PART, **later, status="canceled"), listed(2), listed(3)])
        with stubbed_reader(stub) as reader:
            second = reader.order_events(first.cursor)
            assert [(each.client_order_id, each.status) for each in second.orders] == [
                ("a-3", S.WORKING),
                ("a-1", S.CANCELLED),
            ]
            assert reader.order_events(second.cursor).orders == ()

    def test_only_the_last_days_are_listed_again(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders", [listed(1)])
        cursor = reader.order_events().cursor
        reader.order_events(cursor)
        first, second = stub.queries("/v2/orders")
        assert "after" not in first
        assert second["after"].startswith("2026-10-04T14:00:01")

    def test_an_account_without_orders_has_no_changes(self, stub: StubAlpaca, reader: AlpacaReader) -> None:
        stub.says("/v2/orders", [])
        assert reader.order_events().orders == ()
        assert reader.order_events().cursor is None

    @pytest.mark.parametrize("cursor", ["", "event-7", "[]", '{"at": "never", "told": []}', '{"told": []}'])
    def test_a_cursor_from_elsewhere_is_refused(self, reader: AlpacaReader, cursor: str) -> None:
        with pytest.raises(ValueError, match="cursor of Alpaca's order changes"):
            reader.order_events(cursor)
