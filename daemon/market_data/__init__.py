"""Market data and the security master: what is asked of the broker every evening, and what of the answers is believed.

Prices decide which losses are real, so nothing about them is guessed. A source corrects its past, adjusts it backwards
for every dividend, loses a session, and keeps a name's old symbol for a day too long. What it says is stored once and
joined to what is there (`joining`); what cannot be right is set aside, listed, and keeps its name from being traded
until something or somebody explains it (`quarantine`, `locks`).

| place | what |
|---|---|
| `feed.py` | where prices come from and go to; from when on something is wrong |
| `joining.py` | one total-return series out of answers given on different days |
| `quarantine.py` | what is wrong with prices, as pure functions |
| `asking.py`, `taking.py`, `review.py` | an answer, what becomes of it, and what only shows over all names |
| `announcements.py` | what issuers announced, and what is no longer told |
| `loading.py`, `evening.py` | the first load, which resumes; the update of every evening |
| `locks.py`, `master.py` | names that are not traded because of their prices, or what they are |
| `prices.py` | all of it for a household |
"""

from __future__ import annotations

from daemon.market_data.evening import Update, take_notices, update_daily
from daemon.market_data.feed import Feed, QuarantinePolicy
from daemon.market_data.loading import Loaded, Progress, load_history
from daemon.market_data.locks import fraction_bad, open_findings, short_histories, tell, without_newest_close
from daemon.market_data.master import Known, followed, take_securities
from daemon.market_data.prices import before_open, data_locks, feed_of, held_beside, ready_prices, take_session, tracked

__all__ = [
    "Feed",
    "Known",
    "Loaded",
    "Progress",
    "QuarantinePolicy",
    "Update",
    "before_open",
    "data_locks",
    "feed_of",
    "followed",
    "fraction_bad",
    "held_beside",
    "load_history",
    "open_findings",
    "ready_prices",
    "short_histories",
    "take_notices",
    "take_securities",
    "take_session",
    "tell",
    "tracked",
    "update_daily",
    "without_newest_close",
]
