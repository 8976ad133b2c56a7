"""What leaves for Alpaca, how often, and what a bad answer becomes."""

from __future__ import annotations

import logging
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from traceback import TracebackException

import pytest
import stamina
from stub_alpaca import HANGS, KEYS, OPEN_CLOCK, Said, StubAlpaca, Time, stubbed_broker, stubbed_reader

from brokers.alpaca import AlpacaReader, Endpoints
from brokers.alpaca.door import ForbiddenRequestError
from brokers.errors import BrokerError, BrokerUnavailable, NotAuthorized, OutcomeUnknown
from brokers.protocol import OrderDesk
from state.records import OrderRequest, Side

ORDER = OrderRequest("a-1", "KO", Side.BUY, Decimal(1))
HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    stamina.set_testing(True, attempts=3)
    yield
    stamina.set_testing(False)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


class TestHowOftenARequestLeaves:
    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_an_order_leaves_exactly_once_whatever_the_server_answers(self, stub: StubAlpaca, status: int) -> None:
        stub.says("/v2/orders", Said({"message": "later"}, status), method="POST")
        with stubbed_broker(stub) as broker, pytest.raises(OutcomeUnknown):
            broker.submit(ORDER)
        assert stub.count("/v2/orders", "POST") == 1

    def test_an_order_that_gets_no_answer_left_exactly_once(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", HANGS, method="POST")
        with stubbed_broker(stub, timeouts=(1.0, 0.1)) as broker, pytest.raises(OutcomeUnknown, match="in time"):
            broker.submit(ORDER)
        assert stub.count("/v2/orders", "POST") == 1

    @pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
    def test_a_read_is_tried_again_and_the_answer_counts(self, stub: StubAlpaca, status: int) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/clock", Said({"message": "later"}, status), Said(HTML, 502), OPEN_CLOCK)
            if status == 429:
                stub.says("/v2/clock", Said({"message": "later"}, status, {"Retry-After": "0"}), OPEN_CLOCK)
            assert reader.clock().is_open
        assert stub.count("/v2/clock") == (2 if status == 429 else 3)

    def test_a_read_is_given_up_after_three_tries(self, stub: StubAlpaca) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/clock", Said(HTML, 502))
            with pytest.raises(BrokerUnavailable, match="/clock: 502"):
                reader.clock()
        assert stub.count("/v2/clock") == 3

    @pytest.mark.parametrize("status", [400, 404, 422])
    def test_a_question_that_is_refused_is_not_repeated(self, stub: StubAlpaca, status: int) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/clock", Said({"message": "no"}, status))
            with pytest.raises(BrokerUnavailable):
                reader.clock()
        assert stub.count("/v2/clock") == 1

    def test_after_a_429_the_next_try_waits_as_long_as_the_server_says(self, stub: StubAlpaca) -> None:
        clock = Time()
        limited = Said({"code": 42910000, "message": "rate limit exceeded"}, 429, {"Retry-After": "7"})
        with stubbed_reader(stub, sleep=clock.sleep, monotonic=clock.monotonic) as reader:
            stub.says("/v2/clock", limited, OPEN_CLOCK)
            reader.clock()
        assert sum(clock.slept) >= 7

    def test_the_end_of_the_minute_is_read_on_the_servers_own_clock(self, stub: StubAlpaca) -> None:
        clock = Time()
        headers = {"X-Ratelimit-Reset": "1791472230", "Date": "Thu, 08 Oct 2026 15:10:20 GMT"}  # ten seconds apart
        with stubbed_reader(stub, sleep=clock.sleep, monotonic=clock.monotonic) as reader:
            stub.says("/v2/clock", Said({"message": "rate limit exceeded"}, 429, headers), OPEN_CLOCK)
            reader.clock()
        assert clock.slept[0] == pytest.approx(10, abs=1)


class TestTimeOutsAndRedirects:
    def test_a_server_that_hangs_is_given_up_within_the_time_out(self, stub: StubAlpaca) -> None:
        stamina.set_testing(True, attempts=1)
        with stubbed_reader(stub, timeouts=(1.0, 0.1)) as reader:
            stub.says("/v2/clock", HANGS)
            began = time.monotonic()
            with pytest.raises(BrokerUnavailable, match="no answer in time"):
                reader.clock()
            assert time.monotonic() - began < 2

    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    def test_a_redirect_is_an_error_and_is_not_followed(self, stub: StubAlpaca, status: int) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/clock", Said(OPEN_CLOCK, status, {"Location": f"{stub.url}/v2/elsewhere"}))
            with pytest.raises(BrokerUnavailable):
                reader.clock()
        assert stub.count("/v2/elsewhere") == 0

    def test_a_redirected_order_may_have_been_taken(self, stub: StubAlpaca) -> None:
        stub.says("/v2/orders", Said({}, 307, {"Location": f"{stub.url}/v2/elsewhere"}), method="POST")
        with stubbed_broker(stub) as broker, pytest.raises(OutcomeUnknown):
            broker.submit(ORDER)
        assert stub.count("/v2/elsewhere", "POST") == 0


class TestWhereKeysGo:
    def test_proxies_of_the_environment_are_not_asked(self, stub: StubAlpaca, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")  # nobody listens there
        for name in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
        with stubbed_reader(stub) as reader:
            assert reader.clock().is_open

    @pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
    def test_a_reader_lets_nothing_but_get_leave(self, stub: StubAlpaca, method: str) -> None:
        with stubbed_reader(stub) as reader:
            for wire in reader._wires:
                with pytest.raises(ForbiddenRequestError):
                    wire.client._session.request(method, f"{stub.url}/v2/orders", json={})
        assert stub.asked == []

    def test_a_reader_has_no_way_to_send(self, stub: StubAlpaca) -> None:
        with stubbed_reader(stub) as reader:
            assert not isinstance(reader, OrderDesk)

    def test_a_desk_reads_through_a_connection_that_lets_nothing_but_get_leave(self, stub: StubAlpaca) -> None:
        with stubbed_broker(stub) as broker:
            assert isinstance(broker, OrderDesk)
            with pytest.raises(ForbiddenRequestError):
                broker._trading.post("/orders", {})
        assert stub.asked == []

    def test_nothing_leaves_for_another_host(self, stub: StubAlpaca) -> None:
        with StubAlpaca() as other, stubbed_reader(stub) as reader:
            session = reader._trading.client._session
            for url in (f"{other.url}/v2/clock", f"{stub.url}.evil.test/v2/clock", f"{stub.url}@evil.test/v2/clock"):
                with pytest.raises(Exception, match=r"(?i)adapter|expected|label|host"):
                    session.get(url)
            assert other.asked == []

    def test_what_a_server_repeats_of_the_keys_is_masked(self, stub: StubAlpaca) -> None:
        told = {"code": 40010001, "message": f"bad header {KEYS.key_id} {KEYS.secret_key}"}
        stub.says("/v2/orders", Said(told, 422), method="POST")
        stub.says("/v2/positions", Said(told, 401))
        stub.says("/v2/account/configurations", Said(f"{KEYS.secret_key} is no JSON".encode()))
        with stubbed_broker(stub) as broker:
            for ask in (lambda: broker.submit(ORDER), broker.positions, broker.configurations):
                with pytest.raises(Exception, match=r"\*\*\*") as raised:
                    ask()
                assert KEYS.secret_key not in str(raised.value)
                assert KEYS.key_id not in str(raised.value)

    @pytest.mark.parametrize(
        "answer",
        [Said({"message": "x"}, 500), Said(HTML), Said({"message": "no"}, 401), HANGS],
        ids=["500", "page", "401", "hang"],
    )
    def test_a_traceback_with_every_variable_in_it_shows_no_key(self, stub: StubAlpaca, answer: Said) -> None:
        stamina.set_testing(True, attempts=1)
        stub.says("/v2/orders", answer, method="POST")
        stub.says("/v2/positions", answer)
        with stubbed_broker(stub, timeouts=(1.0, 0.05)) as broker:
            for ask in (lambda: broker.submit(ORDER), broker.positions):
                with pytest.raises(BrokerError) as raised:
                    ask()
                told = "".join(TracebackException.from_exception(raised.value, capture_locals=True).format())
                assert KEYS.secret_key not in told
                assert KEYS.key_id not in told

    def test_no_log_has_a_key_in_it_however_much_is_logged(
        self, stub: StubAlpaca, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.DEBUG)
        stub.says("/v2/positions", Said({"message": "x"}, 500))
        with stubbed_broker(stub) as broker, pytest.raises(BrokerUnavailable):
            broker.positions()
        assert "/v2/positions" in caplog.text
        assert KEYS.secret_key not in caplog.text
        assert KEYS.key_id not in caplog.text


class TestBadAnswers:
    READS = (
        ("/v2/clock", lambda reader: reader.clock()),
        ("/v2/account", lambda reader: reader.account()),
        ("/v2/positions", lambda reader: reader.positions()),
        ("/v2/account/activities", lambda reader: reader.activities()),
        ("/v2/account/activities", lambda reader: reader.activities_since(date(2026, 10, 8))),
        ("/v2/orders", lambda reader: reader.open_orders()),
        ("/v2/orders", lambda reader: reader.order_events()),
        ("/v2/orders", lambda reader: reader.orders(["a-1", "a-2", "a-3"])),
        ("/v2/orders:by_client_order_id", lambda reader: reader.order_by_client_id("a-1")),
        ("/v2/assets", lambda reader: reader.assets(list("ABCDEF"))),
        ("/v2/assets/KO", lambda reader: reader.assets(["KO"])),
        ("/v2/stocks/snapshots", lambda reader: reader.quotes(["KO"])),
        ("/v2/calendar", lambda reader: reader.daily_bars(["KO"], date(2026, 10, 7), date(2026, 10, 7))),
        (
            "/v1/corporate-actions",
            lambda reader: reader.corporate_actions(["KO"], date(2026, 10, 7), date(2026, 10, 7)),
        ),
    )
    BODIES = (
        HTML,
        b"",
        b"null",
        b'"text"',
        b"17",
        b'[{"id": "1", "cash":',
        b'{"cash": NaN}',
        b"[[]]",
        b"[17]",
        b"\xff\xfe",
        b'{"corporate_actions": [], "KO": [], "bars": []}',
    )

    @pytest.mark.parametrize(("path", "read"), READS, ids=[path for path, _ in READS])
    def test_a_body_that_is_not_what_it_should_be_is_never_a_guess(
        self, stub: StubAlpaca, path: str, read: object
    ) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/account/activities", [])
            stub.says("/v2/account", {"account_number": "A", "cash": "1", "status": "ACTIVE"})
            for body in self.BODIES:
                stub.says(path, Said(body))
                with pytest.raises(BrokerUnavailable):
                    read(reader)  # type: ignore[operator]

    def test_settings_that_are_not_told_are_absent(self, stub: StubAlpaca) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/account/configurations", {"no_shorting": True, "max_margin_multiplier": "1", "new": 1})
            assert reader.configurations() == {"no_shorting": True, "max_margin_multiplier": "1"}

    def test_an_answer_that_breaks_off_is_tried_again(self, stub: StubAlpaca) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/clock", Said(b'{"timestamp": "20', headers={"Content-Length": "500", "Connection": "close"}))
            with pytest.raises(BrokerUnavailable):
                reader.clock()

    def test_a_refused_key_stops_at_once(self, stub: StubAlpaca) -> None:
        with stubbed_reader(stub) as reader:
            for refusal in (Said({"message": "unauthorized."}, 401), Said({"message": "forbidden."}, 403)):
                stub.says("/v2/positions", refusal)
                with pytest.raises(NotAuthorized, match="key"):
                    reader.positions()
        assert stub.count("/v2/positions") == 2

    def test_a_gateway_that_forbids_is_not_alpaca_refusing_the_key(self, stub: StubAlpaca) -> None:
        with stubbed_reader(stub) as reader:
            stub.says("/v2/positions", Said(HTML, 403))
            with pytest.raises(BrokerUnavailable):
                reader.positions()

    def test_data_that_the_plan_does_not_include_is_no_reason_to_halt(self, stub: StubAlpaca) -> None:
        told = {"code": 42210000, "message": "subscription does not permit querying recent SIP data"}
        with stubbed_reader(stub, feed="sip") as reader:
            stub.says("/v2/stocks/snapshots", Said(told, 403))
            with pytest.raises(BrokerUnavailable, match="choose another feed"):
                reader.quotes(["KO"])

    def test_numbers_are_exact(self, stub: StubAlpaca) -> None:
        snapshot = b"""{"KO": {"latestQuote": {"t": "2026-10-08T15:10:15Z", "bp": 0.1, "ap": 86.878000000000001},
                                "latestTrade": {"p": 4.35}}}"""
        with stubbed_reader(stub) as reader:
            stub.says("/v2/stocks/snapshots", Said(snapshot))
            quote = reader.quotes(["KO"])["KO"]
        assert (quote.bid, quote.ask, quote.last) == (Decimal("0.1"), Decimal("86.878000000000001"), Decimal("4.35"))


class TestWhatIsLoaded:
    def loaded(self, statement: str) -> set[str]:
        names = "alpaca.common pandas requests brokers.alpaca.desk brokers.alpaca.refusals websockets"
        code = f"import sys; {statement}; print(*[each for each in '{names}'.split() if each in sys.modules])"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        return set(done.stdout.split())

    def test_importing_the_adapter_loads_neither_alpaca_py_nor_anything_that_sends(self) -> None:
        assert self.loaded("import brokers.alpaca") == set()

    def test_making_a_reader_asks_nothing_and_loads_nothing(self) -> None:
        make = "from brokers.alpaca import *; AlpacaReader(Keys('k', 's'), Endpoints.paper())"
        assert self.loaded(make) == set()


def test_a_live_account_can_be_looked_at_without_being_asked_for_anything() -> None:
    AlpacaReader(KEYS, Endpoints.live()).close()
