"""Where secrets come from, and that no message about them contains one."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from types import ModuleType

import pytest

from daemon.settings import REDACTOR, Credentials, SecretUnavailable, read_secret, secret_source
from daemon.settings.redaction import Redactor, looks_like_a_secret, names_a_secret, secret_parts

NAME = "alpaca_paper_secret_key"
VARIABLE = "HARVESTD_SECRET_ALPACA_PAPER_SECRET_KEY"


@pytest.fixture(autouse=True)
def keyring(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, str], str]:
    """A keyring of our own, empty at first."""
    kept: dict[tuple[str, str], str] = {}
    module = ModuleType("keyring")
    module.get_password = lambda service, name: kept.get((service, name))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    return kept


def secret_file(folder: Path, text: str, mode: int = 0o400) -> Path:
    """A file of secrets, named as the secret."""
    folder.mkdir(exist_ok=True)
    path = folder / NAME
    path.write_text(text)
    path.chmod(mode)
    return path


def test_each_place_comes_before_the_next(tmp_path: Path, keyring: dict[tuple[str, str], str]) -> None:
    systemd, own = secret_file(tmp_path / "systemd", "from systemd\n"), secret_file(tmp_path / "own", "from file\n")
    keyring["harvestd", NAME] = "from keyring"
    environ = {"CREDENTIALS_DIRECTORY": str(systemd.parent), VARIABLE: "from environment"}
    credentials = Credentials(directory=own.parent)

    def read() -> tuple[str, str]:
        return read_secret(NAME, environ, credentials).get_secret_value(), secret_source(NAME, environ, credentials)

    assert read() == ("from systemd", str(systemd))
    systemd.unlink()
    assert read() == ("from file", str(own))
    own.unlink()
    assert read() == ("from keyring", "the keyring, service harvestd")
    keyring.clear()
    assert read() == ("from environment", f"the environment variable {VARIABLE}")
    del environ[VARIABLE]
    with pytest.raises(SecretUnavailable) as caught:
        read()
    for place in (systemd, own, "keyring", VARIABLE):
        assert str(place) in str(caught.value)
    assert caught.value.exit_code == 78


@pytest.mark.parametrize("mode", [0o440, 0o404, 0o644, 0o660, 0o700, 0o777])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, "canary-1", mode)
    with pytest.raises(SecretUnavailable, match=f"chmod 0400 {path}") as caught:
        read_secret(NAME, {VARIABLE: "canary-2"}, Credentials(directory=tmp_path))
    assert "canary" not in str(caught.value)


@pytest.mark.parametrize("mode", [0o400, 0o600])
def test_a_file_of_ours_alone_is_read(tmp_path: Path, mode: int) -> None:
    secret_file(tmp_path, "canary-1", mode)
    assert read_secret(NAME, {}, Credentials(directory=tmp_path)).get_secret_value() == "canary-1"


def test_a_file_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret_file(tmp_path, "canary-1")
    monkeypatch.setattr(os, "geteuid", lambda: os.stat(tmp_path).st_uid + 1)
    with pytest.raises(SecretUnavailable, match="belongs to user"):
        read_secret(NAME, {}, Credentials(directory=tmp_path))


def test_a_link_is_refused(tmp_path: Path) -> None:
    target = secret_file(tmp_path / "elsewhere", "canary-1")
    (tmp_path / NAME).symlink_to(target)
    with pytest.raises(SecretUnavailable, match="not a link"):
        read_secret(NAME, {}, Credentials(directory=tmp_path))


def test_a_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).mkdir()
    with pytest.raises(SecretUnavailable, match="not a regular file"):
        read_secret(NAME, {}, Credentials(directory=tmp_path))


@pytest.mark.parametrize("text", ["", "\n", "  \n", "canary-1\ncanary-2\n", " canary-1", "canary\x00", "x" * 70_000])
def test_text_that_is_no_secret_is_refused(tmp_path: Path, text: str) -> None:
    secret_file(tmp_path, text)
    with pytest.raises(SecretUnavailable) as caught:
        read_secret(NAME, {}, Credentials(directory=tmp_path))
    assert "canary" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_bytes_that_are_no_text_are_refused(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"canary\xff")
    (tmp_path / NAME).chmod(0o400)
    with pytest.raises(SecretUnavailable, match="UTF-8") as caught:
        read_secret(NAME, {}, Credentials(directory=tmp_path))
    assert caught.value.__context__ is None  # a UnicodeDecodeError would carry the bytes


def test_a_broken_keyring_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_service: str, _name: str) -> str:
        raise RuntimeError("no D-Bus")

    monkeypatch.setattr(sys.modules["keyring"], "get_password", broken)
    assert read_secret(NAME, {VARIABLE: "canary-1"}).get_secret_value() == "canary-1"
    monkeypatch.setitem(sys.modules, "keyring", None)  # not installed
    assert read_secret(NAME, {VARIABLE: "canary-1"}).get_secret_value() == "canary-1"


@pytest.mark.parametrize("name", ["../etc/passwd", "Key", "", "a/b", "a.b"])
def test_names_stay_inside_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(SecretUnavailable):
        read_secret(name, {"CREDENTIALS_DIRECTORY": str(tmp_path)})


def test_what_was_read_is_masked_everywhere_after() -> None:
    secret = read_secret(NAME, {VARIABLE: 'canary/"7Q2X'})
    assert "canary" not in f"{secret} {secret!r}"
    for form in ('canary/"7Q2X', 'canary/\\"7Q2X', "canary%2F%227Q2X", "Y2FuYXJ5LyI3UTJY"):
        assert REDACTOR.redact(f"<{form}>") == "<***>"


def test_longer_secrets_are_masked_first() -> None:
    redactor = Redactor()
    redactor.register("abcd")
    redactor.register("abcdefgh")
    redactor.register("abc")  # too short to mask every occurrence of
    assert redactor.redact("abcdefgh abcd abc") == "*** *** abc"


@pytest.mark.parametrize(
    "name",
    ["api_key", "APCA-API-SECRET-KEY", "APCA_API_KEY_ID", "apiKey", "accessToken", "password", "Authorization"],
)
def test_names_of_secrets(name: str) -> None:
    assert names_a_secret(name)


@pytest.mark.parametrize("name", ["key", "client_order_id", "symbol", "monkey", "secretary", "keyring_service", "plan"])
def test_names_of_other_things(name: str) -> None:
    assert not names_a_secret(name)


def test_looks_of_secrets() -> None:
    assert looks_like_a_secret("PK7Q2XJ0S3CR9FAAB31XZ")
    assert not looks_like_a_secret("market_on_close_of_the_day")
    assert not looks_like_a_secret("12 of the first 20 sessions")


@pytest.mark.parametrize(
    ("address", "parts"),
    [
        ("https://hc-ping.com/8kYqL2vN0xPwZr/harvestd", ["8kYqL2vN0xPwZr"]),
        ("https://hc-ping.com/5d1f0a7e-99aa-77bb-a1b2-0123456789ab", ["5d1f0a7e-99aa-77bb-a1b2-0123456789ab"]),
        ("https://S3cr3t-1234.beats.example:8443/ab12cd7", ["ab12cd7", "S3cr3t-1234"]),
        ("https://us-east-1.example/api/push/paper-2?status=success&key=q9w8e7&msg=OK", ["q9w8e7"]),
        ("https://beats.example/heartbeat/kYqLvNxPwZrTa/resume", ["kYqLvNxPwZrTa"]),
    ],
)
def test_of_a_secret_address_what_is_drawn_by_lot_is_secret_and_words_are_not(address: str, parts: list[str]) -> None:
    assert list(secret_parts(address)) == parts
