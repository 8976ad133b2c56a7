"""A server that takes its time: whatever it does, the caller has an answer, or knows that there is none, in time."""

from __future__ import annotations

import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from hashlib import sha256
from itertools import chain, repeat

import pytest
import stamina
from stub_alpaca import HANGS, KEYS, OPEN_CLOCK, TAKEN, Said, StubAlpaca, Time, stubbed_broker, stubbed_reader

from brokers.alpaca import AlpacaReader, Endpoints
from brokers.alpaca.deadline import _TimedResponse
from brokers.alpaca.desk import AlpacaBroker
from brokers.alpaca.reader import WITHIN_S
from brokers.errors import BrokerUnavailable, NotSent, OutcomeUnknown
from state.records import OrderRequest, Side

ORDER = OrderRequest("a-1", "KO", Side.BUY, Decimal(10))
EXCHANGE_S = 0.15
QUICK = {"timeouts": (1.0, EXCHANGE_S)}
SLACK_S = 0.5  # of a machine that is busy

Pieces = Iterator[bytes]


@pytest.fixture(autouse=True)
def one_try() -> Iterator[None]:
    stamina.set_testing(True, attempts=1)
    yield
    stamina.set_testing(False)


@pytest.fixture
def stub() -> Iterator[StubAlpaca]:
    with StubAlpaca() as made:
        yield made


# ------------------------------------------------------------------ answers that do not end

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def dripping_headers() -> Pieces:
    """A header line that gets longer and longer."""
    return chain([b"HTTP/1.1 200 OK\r\nX-Long: "], repeat(b"x"))


def dripping_body() -> Pieces:
    """A body of an announced length, a byte now and then."""
    return chain([HEAD + b"Content-Length: 5000\r\n\r\n["], repeat(b" "))


def dripping_chunks() -> Pieces:
    """A body in chunks of a byte each."""
    return chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], repeat(b"1\r\n \r\n"))


def dripping_chunk_size() -> Pieces:
    """A body whose chunks never begin."""
    return chain([HEAD + b"Transfer-Encoding: chunked\r\n\r\n"], repeat(b"0"))


def dripping_until_closed() -> Pieces:
    """A body that lasts as long as the connection."""
    return chain([HEAD + b"Connection: close\r\n\r\n["], repeat(b" "))


def nothing() -> Pieces:
    """No answer."""
    return iter(())


SLOW: Sequence[Callable[[], Pieces]] = (
    dripping_headers,
    dripping_body,
    dripping_chunks,
    dripping_chunk_size,
    dripping_until_closed,
    nothing,
)


@contextmanager
def slow_server(pieces: Callable[[], Pieces], *, accepts: bool = True) -> Iterator[str]:
    """Answers the clock at once and everything else piece by piece, twenty milliseconds apart."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def connection(peer: socket.socket) -> None:
        with peer:
            try:
                while True:
                    asked = peer.recv(65536)
                    if not asked:
                        return
                    if asked.startswith(b"GET /v2/clock"):
                        body = json.dumps(OPEN_CLOCK).encode()
                        peer.sendall(HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
                        continue
                    for piece in pieces():
                        peer.sendall(piece)
                        if over.wait(0.02):
                            return
                    over.wait(10)
                    return
            except OSError:
                return

    def serve() -> None:
        while True:
            try:
                peer, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=connection, args=(peer,), daemon=True).start()

    if accepts:
        threading.Thread(target=serve, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    over.set()
    listening.shutdown(socket.SHUT_RDWR)
    listening.close()


@contextmanager
def in_time(seconds: float = EXCHANGE_S) -> Iterator[None]:
    """Over before the time is long past."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + SLACK_S


@pytest.mark.fault("F08")
@pytest.mark.parametrize("pieces", SLOW)
def test_a_read_is_over_in_time_whatever_the_server_does(pieces: Callable[[], Pieces]) -> None:
    with slow_server(pieces) as url:
        reader = AlpacaReader(KEYS, Endpoints.loopback(url), **QUICK)  # type: ignore[arg-type]
        with in_time(), pytest.raises(BrokerUnavailable, match="in time"):
            reader.positions()
        reader.close()


@pytest.mark.fault("F08")
@pytest.mark.parametrize("pieces", SLOW)
def test_an_order_is_over_in_time_and_its_fate_unknown(pieces: Callable[[], Pieces]) -> None:
    with slow_server(pieces) as url:
        broker = AlpacaBroker(KEYS, Endpoints.loopback(url), **QUICK)  # type: ignore[arg-type]
        broker.clock()
        with in_time(), pytest.raises(OutcomeUnknown, match="in time"):
            broker.submit(ORDER)
        broker.close()


@pytest.mark.fault("F08")
def test_a_server_that_takes_the_connection_and_never_reads_is_given_up() -> None:
    with slow_server(nothing, accepts=False) as url:
        broker = AlpacaBroker(KEYS, Endpoints.loopback(url), **QUICK)  # type: ignore[arg-type]
        with in_time(), pytest.raises(NotSent, match="could not be asked if the market is open"):
            broker.submit(ORDER)
        broker.close()


@pytest.mark.fault("F08")
def test_over_tls_an_answer_is_over_in_time_too() -> None:
    """A dripping answer through a real TLS connection; without certificates, which are not the question here."""
    here, there = socket.socketpair()
    over = threading.Event()

    def anonymous(side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AECDH:@SECLEVEL=0")
        return context

    def serve() -> None:
        with anonymous(ssl.PROTOCOL_TLS_SERVER).wrap_socket(there, server_side=True) as secure:
            for piece in dripping_headers():
                secure.sendall(piece)
                if over.wait(0.02):
                    return

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    with anonymous(ssl.PROTOCOL_TLS_CLIENT).wrap_socket(here) as secure:
        secure.settimeout(EXCHANGE_S)
        with in_time(), pytest.raises(TimeoutError):
            _TimedResponse(secure).begin()
        over.set()
        server.join(5)


def test_each_exchange_over_one_connection_has_its_own_time(stub: StubAlpaca) -> None:
    with stubbed_reader(stub, **QUICK) as reader:
        reader.clock()
        time.sleep(EXCHANGE_S * 1.2)
        assert reader.clock().is_open


def test_an_answer_in_chunks_or_compressed_is_read_whole(stub: StubAlpaca) -> None:
    position = {"symbol": "KO", "qty": "10", "side": "long", "cost_basis": "1"}
    body = json.dumps([position] * 500).encode()
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    with slow_server(lambda: iter([HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + chunked])) as url:
        reader = AlpacaReader(KEYS, Endpoints.loopback(url))
        assert len(reader.positions()) == 500
        reader.close()
    with stubbed_reader(stub) as reader:
        stub.says("/v2/positions", Said(gzip.compress(body), headers={"Content-Encoding": "gzip"}))
        assert len(reader.positions()) == 500


# ------------------------------------------------------------------ a question with all its tries


@pytest.mark.fault("F08")
def test_a_question_whose_tries_take_long_is_given_up_within_half_a_minute(stub: StubAlpaca) -> None:
    """Each try costs as much as one may: the second leaves no time for a third."""
    stamina.set_testing(True, attempts=3)
    clock = Time()

    def slowly(_asked: object) -> dict[str, str]:
        clock.seconds += 20
        return {"message": "later"}

    with stubbed_reader(stub, sleep=clock.sleep, monotonic=clock.monotonic) as reader:
        stub.says("/v2/positions", Said(slowly, 500))
        began = clock.seconds
        with pytest.raises(BrokerUnavailable):
            reader.positions()
    assert stub.count("/v2/positions") == 2
    assert clock.seconds - began <= 20 + 20  # the venue's time; on the wire the second try had 8 s


def test_a_wait_for_the_next_minute_counts_as_part_of_the_question(stub: StubAlpaca) -> None:
    stamina.set_testing(True, attempts=3)
    clock = Time()
    limited = Said({"message": "rate limit exceeded"}, 429, {"Retry-After": "20"})
    with stubbed_reader(stub, sleep=clock.sleep, monotonic=clock.monotonic) as reader:
        stub.says("/v2/positions", limited)
        with pytest.raises(BrokerUnavailable, match="Asked again later"):
            reader.positions()
    assert stub.count("/v2/positions") == 2
    assert sum(clock.slept) <= WITHIN_S


# ------------------------------------------------------------------ what is told of an answer that cannot be read

HTML = b"<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>"
PART = b'{"id": "ad78'


def mark(body: bytes) -> str:
    return f"{len(body)} bytes, sha256 {sha256(body).hexdigest()[:16]}"


@pytest.mark.fault("F07")
@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (Said(HTML, 502), HTML),
        (Said(HTML), HTML),
        (Said(PART), PART),
        (Said(PART, headers={"Connection": "close"}), PART),
        (Said(b""), b""),
        (Said({"message": "ok"}), b'{"message": "ok"}'),
    ],
    ids=["502 page", "200 page", "half an object", "connection closed", "nothing", "no order"],
)
def test_of_an_order_whose_answer_cannot_be_read_length_and_hash_are_told(
    stub: StubAlpaca, answer: Said, body: bytes
) -> None:
    stub.says("/v2/orders", answer, method="POST")
    with stubbed_broker(stub) as broker, pytest.raises(OutcomeUnknown) as raised:
        broker.submit(ORDER)
    assert mark(body) in str(raised.value)
    assert "html" not in str(raised.value).lower()


@pytest.mark.fault("F07")
def test_of_an_answer_that_breaks_off_what_came_is_told() -> None:
    def cut() -> Pieces:
        return iter([HEAD + b"Content-Length: 900\r\nConnection: close\r\n\r\n" + PART])

    listening = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        peer, _ = listening.accept()
        with peer:
            peer.recv(65536)
            peer.sendall(next(cut()))

    threading.Thread(target=serve, daemon=True).start()
    reader = AlpacaReader(KEYS, Endpoints.loopback(f"http://127.0.0.1:{listening.getsockname()[1]}"))
    with pytest.raises(BrokerUnavailable, match="broke off") as raised:
        reader.positions()
    assert mark(PART) in str(raised.value)
    reader.close()
    listening.close()


def test_of_a_read_that_cannot_be_read_length_and_hash_are_told_and_the_mark_is_not_kept(stub: StubAlpaca) -> None:
    with stubbed_reader(stub, **QUICK) as reader:
        stub.says("/v2/positions", Said(HTML, 502), Said(HTML), HANGS)
        for _ in range(2):
            with pytest.raises(BrokerUnavailable) as raised:
                reader.positions()
            assert mark(HTML) in str(raised.value)
        with pytest.raises(BrokerUnavailable) as raised:
            reader.positions()
        assert "sha256" not in str(raised.value)


def test_an_order_that_is_refused_in_words_has_no_hash(stub: StubAlpaca) -> None:
    stub.says("/v2/orders", Said({"message": "internal server error occurred"}, 500), TAKEN, method="POST")
    with stubbed_broker(stub) as broker:
        with pytest.raises(OutcomeUnknown) as raised:
            broker.submit(ORDER)
        assert "sha256" not in str(raised.value)
        assert broker.submit(ORDER).client_order_id == "a-1"
