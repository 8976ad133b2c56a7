"""Settings: what a person can set, read from `config.yaml` and the environment, and what is wrong with it.

The annotated example, `config.yaml` beside this package, names every key.
"""

from pathlib import Path

from daemon.settings.choices import AccountKind, BrokerName, Mode
from daemon.settings.credentials import SecretUnavailable, read_secret, secret_source
from daemon.settings.loading import check, config_path, load_settings, unsupported
from daemon.settings.models import AccountSettings, Credentials, Settings
from daemon.settings.problems import ConfigurationError, Problem
from daemon.settings.redaction import REDACTOR

EXAMPLE = Path(__file__).parent.parent / "config.yaml"

__all__ = [
    "EXAMPLE",
    "REDACTOR",
    "AccountKind",
    "AccountSettings",
    "BrokerName",
    "ConfigurationError",
    "Credentials",
    "Mode",
    "Problem",
    "SecretUnavailable",
    "Settings",
    "check",
    "config_path",
    "load_settings",
    "read_secret",
    "secret_source",
    "unsupported",
]
