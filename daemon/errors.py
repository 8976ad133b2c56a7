"""Daemon exceptions, named by what the daemon does about them."""


class HarvestdError(Exception):
    """Root of everything the daemon raises on purpose; ends a command with exit code 1."""

    exit_code = 1


class ConfigurationRefused(HarvestdError):  # noqa: N818
    """Something the user must put right before anything starts; ends the process with 78, starts nothing."""

    exit_code = 78


class LeaseHeld(HarvestdError):  # noqa: N818
    """Another process works on this household's database; this one ends at once."""


class MustHalt(HarvestdError):  # noqa: N818
    """The broker's records contradict ours in a way that must not happen; trading halts until a person resumes."""


class NotFound(HarvestdError):  # noqa: N818
    """The plan, order or file named does not exist; the command ends, nothing changes."""


class BackupFailed(HarvestdError):  # noqa: N818
    """No backup came about; the command ends, the daemon goes on, older backups stay as they are."""
