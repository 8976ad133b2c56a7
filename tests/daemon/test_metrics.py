"""The page of figures and the health answer: true, for this machine alone, and of no effect whoever asks."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from conftest import Staged
from prometheus_client.parser import text_string_to_metric_families

from daemon import health_page
from daemon.backup import LAST
from daemon.gate import DaemonState
from daemon.health_page import MOST_AT_ONCE, HealthPage
from daemon.metrics import FRESH_S, Board
from daemon.supervision import LONGEST_LOOK_S
from daemon.vitals import AccountVitals, Vitals, prove, take_vitals
from state.records import Side

NOW = datetime(2026, 11, 20, 15, 40, tzinfo=UTC)
MAIN = AccountVitals("main", DaemonState.OPEN, 3, 1, 2, 5, Decimal("12345.67"), True)
WELL = Vitals(NOW, NOW, (MAIN,), True, 4, NOW, 1000)


class Seconds:
    def __init__(self) -> None:
        self.at = 50.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def seconds() -> Seconds:
    return Seconds()


@pytest.fixture
def board(seconds: Seconds) -> Board:
    """After a look that found everything well."""
    made = Board(seconds)
    made.take(WELL)
    made.beaten()
    return made


@pytest.fixture
def page(board: Board) -> Iterator[HealthPage]:
    made = HealthPage(0, board)
    made.start()
    yield made
    made.stop()


def ask(page: HealthPage, text: str) -> tuple[int, str]:
    """Status and body of what a raw request is answered."""
    with socket.create_connection(("127.0.0.1", page.port), timeout=5) as client:
        client.sendall(text.replace("\n", "\r\n").encode())
        client.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: client.recv(65_536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), body


def get(page: HealthPage, path: str, *headers: str, host: str = "127.0.0.1:{}") -> tuple[int, str]:
    lines = [f"GET {path} HTTP/1.1", f"Host: {host.format(page.port)}", *headers]
    return ask(page, "\n".join(lines) + "\n\n")


def figures(text: str) -> dict[str, float]:
    """Every sample by its name and labels' values."""
    return {
        " ".join((sample.name.removeprefix("harvestd_"), *sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


# ------------------------------------------------------------------ figures


def test_the_page_has_every_figure_of_the_last_look(page: HealthPage, seconds: Seconds) -> None:
    seconds.at += 7
    status, body = get(page, "/metrics")
    assert status == 200
    states = {f"state main {state.value}": float(state is DaemonState.OPEN) for state in DaemonState}
    assert figures(body) == states | {
        "seconds_since_beat": 7,
        "seconds_since_look": 7,
        "looks_succeed": 1,
        "alerts_open": 4,
        "database_bytes": 1000,
        "last_backup_timestamp_seconds": NOW.timestamp(),
        "intents_open main": 3,
        "intents_unknown main": 1,
        "symbols_locked main": 2,
        "orders_today main": 5,
        "notional_today_usd main": 12345.67,
        "stream_connected main": 1,
    }


def test_what_is_not_known_is_not_on_the_page(board: Board) -> None:
    """No backup so far, no stream (observe mode): no figure rather than a zero."""
    board.take(replace(WELL, backed_up_at=None, accounts=(replace(MAIN, is_stream_connected=None),)))
    shown = figures(board.page().decode())
    assert "stream_connected main" not in shown
    assert "last_backup_timestamp_seconds" not in shown
    assert figures(Board().page().decode()) == {}


def test_the_figures_are_those_of_the_store(staged: Staged) -> None:
    stage = staged()
    stage.tick(stage.evening(0))
    stage.house.store.meta.put(LAST, NOW.isoformat())
    stage.tick(stage.before_open(1))
    stage.venue.advance_to(stage.session(1).opens_at)
    stage.execute((Side.BUY, stage.house.names[0], 3), (Side.BUY, stage.house.names[1], 2))
    vitals = take_vitals(stage.house, NOW)
    [main] = vitals.accounts
    assert (main.open_intents, main.unknown_intents, main.orders_today, main.notional_usd) == (2, 0, 0, 0)
    assert vitals.backed_up_at == NOW
    assert vitals.database_bytes > 10_000
    assert main.is_stream_connected is None
    stage.look()
    stage.tick(stage.session(1).opens_at)
    [main] = take_vitals(stage.house, NOW).accounts
    sent = [one for one in stage.intents() if one.submitted_at]
    assert main.orders_today == len(sent) > 0
    assert main.notional_usd == sum(one.submitted_quantity * one.reference_price for one in sent)


def test_the_proof_is_a_write_that_can_be_read(staged: Staged, monkeypatch: pytest.MonkeyPatch) -> None:
    store = staged().house.store
    prove(store, NOW)
    assert store.meta.get("heartbeat") == NOW.isoformat()
    monkeypatch.setattr(store.meta, "put", lambda *_: None)
    with pytest.raises(OSError, match="does not read what was written"):
        prove(store, NOW.replace(minute=41))


# ------------------------------------------------------------------ health


def test_a_daemon_that_is_well_says_so(page: HealthPage) -> None:
    status, body = get(page, "/health")
    assert status == 200
    assert json.loads(body) == {
        "well": True,
        "seconds_since_beat": 0.0,
        "seconds_since_look": 0.0,
        "looks_succeed": True,
        "states": {"main": "OPEN"},
    }


@pytest.mark.parametrize("state", ["OPEN", "CLOSED", "RECONCILING"])
def test_a_weekend_is_no_illness(board: Board, seconds: Seconds, state: str) -> None:
    """The last look was on Friday evening; the beats go on."""
    monday = NOW + timedelta(hours=60)
    board.take(replace(WELL, next_at=monday, accounts=(replace(MAIN, state=DaemonState(state)),)))
    seconds.at += 60 * 3600
    board.beaten()
    assert board.health()[0]


@pytest.mark.fault("F34")
def test_a_look_that_should_long_have_been_is_an_illness_whatever_the_beats_say(board: Board, seconds: Seconds) -> None:
    board.take(replace(WELL, next_at=NOW + timedelta(minutes=15)))
    seconds.at += 15 * 60 + LONGEST_LOOK_S
    board.beaten()
    assert board.health()[0]
    seconds.at += 1
    board.beaten()
    assert not board.health()[0]


@pytest.mark.parametrize("state", ["STARTING", "STALE", "HALTED"])
def test_an_account_that_waits_for_a_person_is_not_well(page: HealthPage, board: Board, state: str) -> None:
    board.take(replace(WELL, accounts=(MAIN, replace(MAIN, account_id="b", state=DaemonState(state)))))
    status, body = get(page, "/health")
    assert status == 503
    assert json.loads(body)["states"]["b"] == state


def test_neither_is_one_whose_looks_fail_or_whose_thread_stands_still(board: Board, seconds: Seconds) -> None:
    board.take(replace(WELL, looks_succeed=False))
    assert not board.health()[0]
    board.take(WELL)
    seconds.at += FRESH_S
    assert board.health()[0]
    seconds.at += 1
    assert not board.health()[0]
    assert not Board().health()[0], "nothing has been told yet"


# ------------------------------------------------------------------ who may ask


@pytest.mark.fault("F44")
@pytest.mark.parametrize("host", ["127.0.0.1:{}", "localhost:{}", "LOCALHOST:{}", "[::1]:{}"])
def test_this_machine_may_ask_by_any_of_its_names(page: HealthPage, host: str) -> None:
    assert get(page, "/health", host=host)[0] == 200


@pytest.mark.fault("F44")
@pytest.mark.parametrize(
    "host", ["evil.example:{}", "127.0.0.1", "127.0.0.1:1", "localhost.evil.example:{}", "", "127.0.0.1:{}.evil"]
)
def test_a_page_that_gave_this_machine_another_name_learns_nothing(page: HealthPage, host: str) -> None:
    for path in ("/health", "/metrics"):
        status, body = get(page, path, host=host)
        assert status == 421
        assert "main" not in body


@pytest.mark.fault("F44")
def test_two_hosts_or_none_are_no_host(page: HealthPage) -> None:
    assert get(page, "/health", "Host: evil.example")[0] == 421
    assert ask(page, "GET /health HTTP/1.1\n\n")[0] == 421


@pytest.mark.fault("F44")
@pytest.mark.parametrize(
    "header",
    ["Origin: https://evil.example", "Origin: null", "Sec-Fetch-Site: cross-site", "Sec-Fetch-Site: same-site"],
)
def test_a_browser_that_says_it_comes_from_elsewhere_is_sent_away(page: HealthPage, header: str) -> None:
    status, body = get(page, "/health", header)
    assert status == 403
    assert "main" not in body


@pytest.mark.fault("F44")
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "HEAD", "TRACE", "BREW"])
def test_nothing_but_asking_is_possible(page: HealthPage, board: Board, method: str) -> None:
    before = board.health()
    status, _ = ask(page, f"{method} /health HTTP/1.1\nHost: 127.0.0.1:{page.port}\nContent-Length: 2\n\n{{}}")
    assert status == 405
    assert board.health() == before


@pytest.mark.parametrize("path", ["/", "/metrics/", "/health?x=1", "/../etc/passwd", "/halt"])
def test_there_are_two_pages_and_no_others(page: HealthPage, path: str) -> None:
    assert get(page, path)[0] == 404


@pytest.mark.fault("F44")
def test_who_asks_slowly_nonsense_or_goes_away_harms_nobody(page: HealthPage) -> None:
    """Half a request that is never finished, bytes that are no request, a client that hangs up."""
    with socket.create_connection(("127.0.0.1", page.port)) as slow:
        slow.sendall(b"GET /health HT")
        for raw in (b"\x00\xff\x00\n\n", b"GET\n\n", b"G" * 100_000):
            with socket.create_connection(("127.0.0.1", page.port)) as client:
                client.sendall(raw)
        assert get(page, "/health")[0] == 200


@pytest.mark.fault("F44")
def test_a_client_that_drips_is_hung_up_on_however_steadily_it_drips(
    page: HealthPage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(health_page, "SLOWEST_REQUEST_S", 0.3)
    with socket.create_connection(("127.0.0.1", page.port), timeout=0.02) as slow:
        began = time.monotonic()
        while time.monotonic() - began < 3:
            try:
                slow.sendall(b"x")
                if slow.recv(10) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        assert time.monotonic() - began < 2


@pytest.mark.fault("F44")
def test_many_at_once_get_few_threads_and_later_everybody_is_served_again(page: HealthPage) -> None:
    before = threading.active_count()
    clients = [socket.create_connection(("127.0.0.1", page.port), timeout=5) for _ in range(3 * MOST_AT_ONCE)]
    for client in clients[MOST_AT_ONCE:]:
        assert client.recv(10) == b"", "hung up on"
    assert threading.active_count() - before <= MOST_AT_ONCE
    for client in clients:
        client.close()
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert get(page, "/health")[0] == 200


def test_it_listens_on_this_machine_alone(page: HealthPage) -> None:
    assert page._server.server_address[0] == "127.0.0.1"
