"""Errors of whoever owns the venue (the demo, a test); the daemon, which sees only the adapter, never meets them."""


class VenueError(Exception):
    """A command the venue cannot carry out, or a file in use by another process; stops the demo, fix the caller."""


class VenueMismatch(VenueError):  # noqa: N818
    """The file holds a venue with another seed, settings, prices or account; choose another file or delete it."""
