"""Settings: what starts, what is refused, and what never shows."""

from pathlib import Path

import pytest

from corridor.runtime import settings as settings_module
from corridor.runtime.refused import SettingsRefused
from corridor.runtime.settings import SANDBOX_SECRETS, Settings, load
from workflows.steps import RECORDING_SECONDS

LIVE = {
    "mode": "live",
    "stripe_secret_key": "sk_live_1",
    "stripe_webhook_secret": "whsec_1",
    "api_key_pepper": "pepper",
    "codec_token": "token",
    "stripe_url": "https://api.stripe.com",
    "liquidity_url": "https://lp.example",
    "encryption_keys": "{}",
    "database_url": "postgresql://db/corridor?sslmode=require",
}


def test_live_mode_starts_when_everything_is_given() -> None:
    assert load(**LIVE).mode == "live"


@pytest.mark.parametrize("name", SANDBOX_SECRETS)
def test_live_mode_refuses_every_public_sandbox_secret(name: str) -> None:
    with pytest.raises(SettingsRefused, match=name):
        load(**{**LIVE, name: SANDBOX_SECRETS[name]})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("log_level", "debug"),
        ("market_day", "2026-11-20"),
        ("worker_grace_seconds", 14),
        ("webhook_allow_private", True),
        ("stripe_url", "http://api.stripe.com"),
        ("liquidity_url", None),
        ("encryption_keys", None),
        ("database_url", None),
        ("database_url", "sqlite:////data/corridor.db"),
        ("database_url", "postgresql://db/corridor"),
        ("database_url", "postgresql://db/corridor?sslmode=prefer"),
        ("database_url", "postgresql://user@/corridor?host=127.0.0.1:5432&host=db:5432"),
        ("stripe_secret_key", "sk_test_1"),
    ],
)
def test_live_mode_refuses_what_only_a_sandbox_may(name: str, value: object) -> None:
    with pytest.raises(SettingsRefused, match=name if name != "database_url" else "DATABASE_URL"):
        load(**{**LIVE, name: value})


@pytest.mark.parametrize(
    "settings",
    [
        {"database_url": "postgresql://127.0.0.1/corridor"},
        {"database_url": "postgresql:///corridor"},
        {"database_url": "postgresql://user@/corridor?host=localhost:5432&host=[::1]:5433"},
        {"database_url": "postgresql://postgres/corridor", "database_allow_plaintext": True},
    ],
)
def test_live_mode_takes_plain_text_where_nobody_can_read_it(settings: dict[str, object]) -> None:
    assert load(**{**LIVE, **settings}).mode == "live"


def test_the_grace_of_a_live_worker_is_enough_for_a_call_and_its_record() -> None:
    assert settings_module.GRACE_BEYOND_CALL_SECONDS == RECORDING_SECONDS
    assert load(**LIVE, worker_grace_seconds=15).worker_grace_seconds == 15
    with pytest.raises(SettingsRefused, match="worker_grace_seconds must be at least 27"):
        load(**LIVE, provider_timeout_seconds=20, worker_grace_seconds=26)


def test_sandbox_mode_refuses_a_live_key() -> None:
    with pytest.raises(SettingsRefused, match="live Stripe key"):
        load(stripe_secret_key="sk_live_1")


def test_a_refusal_does_not_quote_the_secret() -> None:
    with pytest.raises(SettingsRefused) as refusal:
        load(**{**LIVE, "stripe_secret_key": "sk_test_canary"})
    assert "canary" not in str(refusal.value)


def test_secrets_do_not_print() -> None:
    settings = load(**LIVE)
    for secret in ("sk_live_1", "whsec_1", "pepper'", "postgresql://"):
        assert secret not in repr(settings)


def test_a_secret_is_read_from_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text("from-file\n")
    path.chmod(0o600)
    monkeypatch.setenv("CORRIDOR_STRIPE_SECRET_KEY_FILE", str(path))
    assert load().stripe_secret_key.get_secret_value() == "from-file"


def test_the_database_address_is_read_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "url"
    path.write_text("postgresql://db/corridor")
    path.chmod(0o600)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("DATABASE_URL_FILE", str(path))
    assert load().database == "postgresql://db/corridor"


def test_a_secret_file_everybody_can_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "key"
    path.write_text("from-file")
    path.chmod(0o644)
    monkeypatch.setenv("CORRIDOR_STRIPE_SECRET_KEY_FILE", str(path))
    with pytest.raises(SettingsRefused, match="chmod 600"):
        load()


@pytest.mark.parametrize("given", [{**LIVE, "liquidity_providers": ("a", "b")}, {"market_day": "2026-11-20"}])
def test_the_environment_of_a_child_says_the_same_settings(
    given: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load(**given, workers=3)
    for name, value in settings.environment().items():
        monkeypatch.setenv(name, value)
    assert Settings() == settings


def test_without_a_database_url_a_file_in_the_data_directory_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    assert load(data_dir=tmp_path).database == f"sqlite:///{tmp_path}/corridor.db"


def test_a_lock_that_could_not_outlast_a_call_is_refused() -> None:
    assert load(quote_lock_seconds=30, provider_timeout_seconds=20).quote_lock_seconds == 30
    with pytest.raises(SettingsRefused, match="quote_lock_seconds must be at least 30"):
        load(quote_lock_seconds=29, provider_timeout_seconds=20)
