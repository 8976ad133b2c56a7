"""An older harvestd's database comes to this version: backed up, then migrated, under the lease; or nothing happens.

| when it ends                      | the database | what is left                  | the next start                    |
|-----------------------------------|--------------|-------------------------------|-----------------------------------|
| before the backup is verified     | the old one  | nothing                       | does all of it                    |
| before the migration's one commit | the old one  | a backup `...-before-0005.db` | does all of it, with a new backup |
| after it                          | the new one  | the same                      | finds the newest                  |

The way back is that backup and the version that wrote it: an older harvestd does not touch a newer database.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import structlog

from daemon.backup import KEEP_BEFORE_UPGRADES, Backup, back_up, folder_of
from daemon.settings import Settings
from state.store import database as file
from state.store import revisions

log = structlog.get_logger("upgrade")


@dataclass(frozen=True, slots=True)
class Upgrade:
    """What an upgrade did."""

    before: str
    after: str
    backup: Backup


def upgrade_if_older(database: Path, settings: Settings | None, now: datetime) -> Upgrade | None:
    """Bring a household's database to this version; None when there is nothing to do. The caller holds the lease.

    Raises BackupFailed, and SchemaMismatch for a newer or unknown database, or one that cannot be brought up; the
    file is as it was then.
    """
    if not database.exists():
        return None
    before = file.revision_of(database)
    if before is None or not revisions.is_older(before):
        revisions.require_newest(database, before)
        return None
    newest = revisions.HEAD_REVISION
    backup = back_up(database, folder_of(settings, database), now, settings, keep=KEEP_BEFORE_UPGRADES, before=newest)
    if not backup.is_verified:
        log.warning(
            "the stored lots are not what the journal says; the upgrade leaves both as they are",
            differences=len(backup.differences),
            look_with="harvestd ledger verify",
        )
    file.upgrade(database)
    log.info("database upgraded", from_revision=before, to_revision=newest, backup=str(backup.file))
    return Upgrade(before, newest, backup)
