"""Lists that come with 200 and are not what they should be: empty, short, of another kind, or without an end.

What the adapter can know, it says: it never makes an empty list of something that is no list, and no list goes on for
ever. A well-formed list that leaves something out is no different from a true one; what follows from it is decided
where the account's last snapshot is known (daemon/sync.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import stamina
from loopback import Fault, LoopbackAlpaca
from stub_alpaca import OURS, TAKEN, Said, StubAlpaca, stubbed_reader
from worlds import venue

from brokers.alpaca import AlpacaReader, Endpoints, Keys
from brokers.alpaca.desk import AlpacaBroker
from brokers.errors import BrokerUnavailable
from state.records import OrderRequest, Side

pytestmark = pytest.mark.fault("F24")

DAY = date(2026, 10, 7)
LISTS: dict[str, tuple[str, Callable[[AlpacaReader], Any]]] = {
    "positions": ("/v2/positions", lambda reader: reader.positions()),
    "open orders": ("/v2/orders", lambda reader: reader.open_orders()),
    "orders": ("/v2/orders", lambda reader: reader.orders(["a-1", "a-2", "a-3"])),
    "order events": ("/v2/orders", lambda reader: reader.order_events()),
    "activities": ("/v2/account/activities", lambda reader: reader.activities()),
    "activities since": ("/v2/account/activities", lambda reader: reader.activities_since(DAY)),
}
NO_LISTS = {
    "null": b"null",
    "nothing": b"",
    "an object": b"{}",
    "a message": b'{"message": "ok"}',
    "a list in an object": b'{"positions": [], "orders": [], "next_page_token": null}',
    "text": b'""',
    "false": b"false",
    "half a list": b'[{"symbol": "KO", "qty": "10"',
    "a list with nothing in it": b"[null]",
    "a list of lists": b"[[]]",
    "an empty row": b"[{}]",
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


@pytest.mark.parametrize("name", LISTS)
def test_what_is_no_list_is_not_an_empty_one(stub: StubAlpaca, name: str) -> None:
    path, read = LISTS[name]
    with stubbed_reader(stub) as reader:
        for words, body in NO_LISTS.items():
            if words == "an empty row" and "activities" in name:
                continue  # set aside, and told: one bad row never keeps the rest of a history out
            stub.says(path, Said(body))
            with pytest.raises(BrokerUnavailable):
                read(reader)


def test_one_row_that_cannot_be_read_costs_the_whole_list_of_positions(stub: StubAlpaca) -> None:
    """A list without that row would say that the shares are gone."""
    held = {"symbol": "KO", "qty": "10", "side": "long", "cost_basis": "861"}
    with stubbed_reader(stub) as reader:
        for broken in ({"symbol": "PEP"}, {"symbol": "PEP", "qty": "many"}, {"symbol": None, "qty": "1"}):
            stub.says("/v2/positions", [held, broken])
            with pytest.raises(BrokerUnavailable, match="positions row 2"):
                reader.positions()


@pytest.mark.parametrize("size", [0, 1, 3])
def test_orders_that_a_short_list_leaves_out_are_looked_up_by_their_ids(stub: StubAlpaca, size: int) -> None:
    """An order is absent only when Alpaca says of its very id that there is none."""
    names = ["a-1", "a-2", "a-3", "a-4"]
    known = {name: {**TAKEN, "id": OURS[:-1] + name[-1], "client_order_id": name} for name in names}
    with stubbed_reader(stub) as reader:
        stub.says("/v2/orders", [dict(known[name], submitted_at=TAKEN["created_at"]) for name in names[:size]])
        stub.says("/v2/orders:by_client_order_id", Said(lambda asked: known[asked.query["client_order_id"]]))
        assert sorted(reader.orders(names)) == names


# ------------------------------------------------------------------ lists without an end


def test_pages_that_lead_back_to_one_another_end(stub: StubAlpaca) -> None:
    with stubbed_reader(stub) as reader:
        stub.says("/v2/calendar", [{"date": "2026-10-07", "open": "09:30", "close": "16:00"}])
        bars = [{"bars": {}, "next_page_token": token} for token in ("one", "two", "three")]
        stub.says("/v2/stocks/bars", *(bars * 50))
        with pytest.raises(BrokerUnavailable, match="expected a new page"):
            reader.daily_bars(["KO"], DAY, DAY)
        assert stub.count("/v2/stocks/bars") == 4
        actions = [{"corporate_actions": {}, "next_page_token": token} for token in ("one", "two")]
        stub.says("/v1/corporate-actions", *(actions * 50))
        with pytest.raises(BrokerUnavailable, match="expected a new page"):
            reader.corporate_actions(["KO"], DAY, DAY)
        assert stub.count("/v1/corporate-actions") == 3


@pytest.mark.parametrize("name", ["open orders", "order events", "activities", "activities since"])
def test_a_full_page_that_comes_again_and_again_ends(stub: StubAlpaca, name: str) -> None:
    path, read = LISTS[name]
    page: list[dict[str, object]]
    if path == "/v2/orders":
        page = [
            {**TAKEN, "id": f"{number:08d}{OURS[8:]}", "submitted_at": TAKEN["created_at"]} for number in range(500)
        ]
    else:
        fill = {
            "activity_type": "FILL",
            "transaction_time": "2026-10-07T15:00:00Z",
            "created_at": "2026-10-07T15:00:00Z",
        }
        page = [{**fill, "id": f"2026::{number}"} for number in range(100)]
    with stubbed_reader(stub) as reader:
        stub.says(path, page)
        with pytest.raises(BrokerUnavailable, match="expected a new page"):
            read(reader)
    assert stub.count(path) <= 3


# ------------------------------------------------------------------ what is missing now is told later


def test_fills_that_a_short_page_left_out_are_told_the_next_time(tmp_path: Path) -> None:
    world = venue(tmp_path)
    keys = Keys("PKPAGES", "pages-secret")
    with LoopbackAlpaca(world, key_id=keys.key_id, secret_key=keys.secret_key) as server:
        broker = AlpacaBroker(
            keys,
            Endpoints.loopback(server.url),
            monotonic=lambda: world.now.timestamp(),
            sleep=lambda seconds: server.advance(seconds),
        )
        cursor = broker.activities().cursor
        for number, symbol in enumerate(("AAA", "BBB")):
            broker.submit(OrderRequest(f"a-{number}", symbol, Side.BUY, Decimal(10)))
            server.advance(60)
        whole = [row for row in server.activities() if row["activity_type"] == "FILL"]
        server.script(Fault("wrong_type", path="/v2/account/activities", body=whole[:1]))
        first = broker.activities(cursor)
        second = broker.activities(first.cursor)
        told = [each.activity_id for page in (first, second) for each in page.activities]
        assert told == [row["id"] for row in whole]
        assert len(first.activities) == 1
        broker.close()
    world.close()
