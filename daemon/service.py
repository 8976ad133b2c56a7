"""The daemon in the foreground: APScheduler ticks, nothing else. SIGTERM and Ctrl-C end it between two ticks.

In the simulated world each beat moves the world to its next instant and lets the daemon do what is due there.
"""

from __future__ import annotations

import logging
import signal
from types import FrameType

import structlog

from daemon.demo.world import World

log = structlog.get_logger("service")

BEATS_A_SESSION = 3  # when nothing waits: before the open, at the decision, in the evening


def serve(world: World, *, speed: float, sessions: int) -> None:
    """Run until stopped, for so many sessions, or (sessions=0) until the prices end. `speed` in sessions a second."""
    from apscheduler.schedulers.blocking import BlockingScheduler

    logging.getLogger("apscheduler").setLevel(logging.ERROR)  # a beat longer than its interval is no news
    scheduler = BlockingScheduler(timezone="UTC")
    beats = world.beats()
    lived, started_at = 0, world.venue.now
    fault: BaseException | None = None

    def beat() -> None:
        nonlocal lived, fault
        try:
            found = next(beats, None)
        except BaseException as error:
            fault = error  # the scheduler would log it and go on; a daemon that does not know why must stop
            scheduler.shutdown(wait=False)
            return
        if found is None:
            log.info("the simulated prices end here")
            scheduler.shutdown(wait=False)
            return
        session, is_over = found
        if is_over and session.closes_at > started_at:
            lived += 1
            log.info("session over", session=session.session.isoformat())
        if sessions and lived >= sessions:
            scheduler.shutdown(wait=False)

    def stop(number: int, _frame: FrameType | None) -> None:
        if scheduler.running:
            log.info("stopping after this step", signal=signal.Signals(number).name)
            scheduler.shutdown(wait=True)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    seconds = max(0.001, 1 / (speed * BEATS_A_SESSION))
    scheduler.add_job(beat, "interval", seconds=seconds, max_instances=1, coalesce=True, misfire_grace_time=None)
    accounts = [one.account_id for one in world.house.managed]
    log.info("harvestd runs", mode=world.house.settings.mode.value, accounts=accounts, venue="simulated")
    scheduler.start()
    if fault is not None:
        raise fault
