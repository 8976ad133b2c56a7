"""Store exceptions, named by what the daemon does about them."""


class StoreError(Exception):
    """Root of everything the store raises on purpose."""


class SchemaMismatch(StoreError):  # noqa: N818
    """The database belongs to another version of harvestd; ends the process with 78, changes nothing."""


class JournalConflict(StoreError):  # noqa: N818
    """One source id, two contents: the source rewrote history; locks the symbol until a person looks."""


class NotADatabase(StoreError):  # noqa: N818
    """The file is missing or not ours; ends the command with 1, touches nothing."""
