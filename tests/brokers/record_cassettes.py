"""Records the conversations of `alpaca_scenarios.py` into tests/brokers/cassettes.

    python tests/brokers/record_cassettes.py             against harvestd's own stand-in for Alpaca
    python tests/brokers/record_cassettes.py --paper     against a real paper account

With `--paper`, the keys are read from the environment, APCA_API_KEY_ID and APCA_API_SECRET_KEY. Use a paper account
made for it, without positions, while the market is open: single shares of KO and BAC are bought and sold, and what the
account did that day ends up in the files. Keys, account number and account id do not. Each file says in its first
lines what it was recorded against; a recording of a paper account is worth more, so commit it.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent), str(HERE.parents[1])]

import vcr  # noqa: E402
from alpaca_scenarios import SCENARIOS, Stage  # noqa: E402
from loopback import LoopbackAlpaca  # noqa: E402
from worlds import venue  # noqa: E402

from brokers.alpaca import Endpoints, Keys  # noqa: E402
from brokers.alpaca.desk import AlpacaBroker  # noqa: E402

CASSETTES = HERE / "cassettes"
NOBODY = "http://127.0.0.1:1"  # where a recording of the stand-in says it was: nothing can answer there
LOOPBACK_KEYS = Keys("PKRECORDING", "recording-secret")
PAPER, LOOPBACK = "a paper account at Alpaca", "harvestd's loopback server, not against Alpaca"
HEADERS_KEPT = frozenset({"content-type", "retry-after", "date"})
ACCOUNT_FIELDS = {"account_number": "ACCOUNT", "id": "00000000-0000-4000-8000-00000000ac01"}


# ------------------------------------------------------------------ what a cassette keeps


def recorder(real_url: str = "") -> vcr.VCR:
    """Records without keys and account numbers, `real_url` written as NOBODY; plays back only what matches wholly."""

    def request(asked: Any) -> Any:
        if real_url:
            asked.uri = asked.uri.replace(real_url, NOBODY)
        asked.headers = {name: value for name, value in asked.headers.items() if name == "Content-Type"}
        return asked

    return vcr.VCR(
        match_on=("method", "scheme", "host", "port", "path", "query", "body"),
        before_record_request=request,
        before_record_response=without_account,
        decode_compressed_response=True,
    )


def without_account(response: Mapping[str, Any]) -> dict[str, Any]:
    """An answer as it is kept: few headers, nothing that tells whose account it is."""
    kept = copy.deepcopy(dict(response))
    kept["headers"] = {
        name: value
        for name, value in kept["headers"].items()
        if name.lower() in HEADERS_KEPT or name.lower().startswith("x-ratelimit-")
    }
    body = kept["body"]["string"]
    try:
        told = json.loads(body)
    except ValueError:
        return kept
    if isinstance(told, dict) and "account_number" in told:
        kept["body"]["string"] = json.dumps({**told, **ACCOUNT_FIELDS}).encode()
    return kept


def header(source: str, run: str, symbols: tuple[str, str]) -> str:
    """The first lines of a cassette."""
    again = "python tests/brokers/record_cassettes.py" + (" --paper" if source == PAPER else "")
    return f"# recorded against {source}\n# again: {again}\n# run: {run}\n# symbols: {' '.join(symbols)}\n"


def told_by(path: Path) -> dict[str, str]:
    """What the first lines of a cassette say."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines()[:4] if line.startswith("# ")]
    found = dict(line[2:].split(": ", 1) for line in lines[1:])
    return {"source": lines[0].removeprefix("# recorded against "), **found}


# ------------------------------------------------------------------ where they are recorded


@contextmanager
def loopback_stage() -> Iterator[tuple[Stage, str]]:
    """The stand-in for Alpaca, over a venue of its own."""
    with tempfile.TemporaryDirectory() as directory:
        world = venue(Path(directory))
        with LoopbackAlpaca(world, key_id=LOOPBACK_KEYS.key_id, secret_key=LOOPBACK_KEYS.secret_key) as server:
            broker = stage_broker(LOOPBACK_KEYS, Endpoints.loopback(server.url))
            yield Stage(broker, lambda: server.advance(60), "recorded", "AAA", "BBB"), server.url
            broker.close()
        world.close()


@contextmanager
def paper_stage() -> Iterator[tuple[Stage, str]]:
    """A real paper account, by the keys in the environment. Raises SystemExit when nothing can be recorded."""
    names = ("APCA_API_KEY_ID", "APCA_API_SECRET_KEY")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise SystemExit(f"Expected the keys of a paper account in the environment, missing: {', '.join(missing)}.")
    broker = stage_broker(Keys(*(os.environ[name] for name in names)), Endpoints.paper())
    clock = broker.clock()
    if not clock.is_open:
        raise SystemExit(f"Expected the market to be open, it opens at {clock.next_open:%Y-%m-%d %H:%M} UTC.")
    run = f"rec{clock.at:%Y%m%d%H%M%S}"
    yield Stage(broker, lambda: time.sleep(2), run, "KO", "BAC"), ""
    broker.close()


def stage_broker(keys: Keys, endpoints: Endpoints) -> AlpacaBroker:
    """A broker for whom no time passes between two questions, so that it asks the same when the answers are played."""
    return AlpacaBroker(keys, endpoints, requests_per_minute=10_000, monotonic=lambda: 0.0)


def record(stages: Callable[[], Any], source: str, directory: Path) -> None:
    """Record every scenario into `directory`, each on a stage of its own."""
    directory.mkdir(exist_ok=True)
    for name, scenario in SCENARIOS.items():
        path = directory / f"{name}.yaml"
        path.unlink(missing_ok=True)
        with stages() as (stage, real_url):
            stage.broker.close()
            with recorder(real_url).use_cassette(path, record_mode="all"):
                scenario(stage)
            text = path.read_text(encoding="utf-8")
            path.write_text(header(source, stage.run, (stage.symbol, stage.other)) + text, encoding="utf-8")
        print(f"{name}: recorded against {source}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--paper", action="store_true", help="record a real paper account (see the top of this file)")
    paper = parser.parse_args().paper
    record(paper_stage if paper else loopback_stage, PAPER if paper else LOOPBACK, CASSETTES)
