"""Settings of every Corridor process, read from the environment and checked before anything starts.

Names are `CORRIDOR_<FIELD>`; `DATABASE_URL` keeps the name that hosting platforms use, and the Temporal
connection keeps Temporal's own (`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, TLS and profile
files; see `corridor.runtime.client`). Any setting can be read from a file instead: `CORRIDOR_<FIELD>_FILE`.
"""

import json
import os
import stat
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import Field, SecretStr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

from corridor.runtime import crash
from corridor.runtime.refused import SettingsRefused

if TYPE_CHECKING:
    from corridor.storage.address import Address

PREFIX = "CORRIDOR_"

# Known to everybody who can read this file, so worth nothing outside the sandbox: live mode refuses them.
SANDBOX_SECRETS: Mapping[str, str] = {
    "stripe_secret_key": "sk_test_corridor_sandbox",
    "stripe_webhook_secret": "whsec_corridor_sandbox_endpoint_secret",
    "api_key_pepper": "corridor-sandbox-pepper",
    "codec_token": "corridor-sandbox-codec",
}


LOCK_BEYOND_CALL_SECONDS = 10
"""A payment may wait this long for a free worker between locking its rate and calling the provider."""
GRACE_BEYOND_CALL_SECONDS = 7
"""What a worker gets to record the answer of a call that was under way when it was stopped; an activity's own limit has
the same room for it."""


class FileSource(EnvSettingsSource):
    """Reads `CORRIDOR_<FIELD>_FILE`: the value is the content of that file, without its last line break."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return (value or None, key, is-complex) for one field."""
        alias = field.validation_alias
        name = alias if isinstance(alias, str) else f"{PREFIX}{field_name}"
        path = os.environ.get(f"{name.upper()}_FILE")
        key = alias if isinstance(alias, str) else field_name
        return (None if path is None else read_secret(Path(path)), key, False)

    def __call__(self) -> dict[str, Any]:
        """Return every field that has a file."""
        found = (self.get_field_value(field, name) for name, field in self.settings_cls.model_fields.items())
        return {key: value for value, key, _ in found if value is not None}


def read_secret(path: Path) -> str:
    """Content of a secret file. Raises `SettingsRefused` if it is missing or readable by everybody."""
    try:
        mode = path.stat().st_mode
        text = path.read_text("utf-8")
    except OSError as error:
        raise SettingsRefused(f"cannot read secret file {path}: {error.strerror}") from error
    if mode & stat.S_IROTH:
        raise SettingsRefused(f"secret file {path} is readable by everybody; run: chmod 600 {path}")
    return text.rstrip("\r\n")


class Settings(BaseSettings):
    """All settings. Secrets have a type that does not print; times carry their unit in the name."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="ignore", populate_by_name=True, frozen=True
    )

    mode: Literal["sandbox", "live"] = "sandbox"
    data_dir: Path = Path("var")
    database_url: SecretStr | None = Field(default=None, validation_alias="DATABASE_URL")
    database_pool_size: int = Field(8, ge=1, le=500, description="connections a process keeps to PostgreSQL")
    database_pool_overflow: int = Field(4, ge=0, le=500, description="more of them for a moment of need")
    database_allow_plaintext: bool = Field(
        False,
        description="live: the network between here and the database is private, so TLS is not required",
    )
    operator: str | None = Field(
        None, pattern=r"^[^\x00-\x1f\x7f]{1,128}$", description="who gives commands; None: user@host"
    )

    host: str = "127.0.0.1"
    api_port: int = Field(8080, ge=1, le=65535)
    temporal_port: int = Field(7233, ge=1, le=65535)
    temporal_ui_port: int = Field(8233, ge=1, le=65535)
    sandbox_port: int = Field(8090, ge=1, le=65535)
    codec_port: int = Field(8081, ge=1, le=65535)
    codec_origins: tuple[str, ...] = Field(
        (), description="pages that may ask the codec server (infra/README.md); none: the UI of `corridor up`"
    )
    metrics_port: int = Field(9464, ge=0, le=65535, description="0 switches the Prometheus endpoint off")
    temporal_metrics_port: int = Field(0, ge=0, le=65535, description="metrics of Temporal's core; 0 is off")
    workers: int = Field(1, ge=1, le=64)
    provider_timeout_seconds: float = Field(
        8.0, ge=0.5, le=60, description="deadline of one call to a provider"
    )
    workflow_sandbox: bool = Field(False, description="run workflow code sandboxed, as tests do; slower")
    worker_grace_seconds: int = Field(20, ge=0, description="for calls under way when a worker is stopped")
    api_drain_seconds: float = Field(
        5.0, ge=0, le=60, description="a stopped API says so at /readyz for this long before it closes"
    )

    stripe_url: str | None = Field(None, description="None: the sandbox; live: https://api.stripe.com")
    stripe_secret_key: SecretStr = SecretStr(SANDBOX_SECRETS["stripe_secret_key"])
    stripe_webhook_secret: SecretStr = SecretStr(SANDBOX_SECRETS["stripe_webhook_secret"])
    liquidity_url: str | None = Field(None, description="None: the sandbox's liquidity provider")
    api_key_pepper: SecretStr = SecretStr(SANDBOX_SECRETS["api_key_pepper"])
    codec_token: SecretStr = SecretStr(SANDBOX_SECRETS["codec_token"])

    encryption_keys: SecretStr | None = Field(None, description="the key ring as JSON; see runtime/keys.py")
    webhook_allow_private: bool = Field(False, description="deliver to private addresses; sandbox only")
    clock_offset_seconds: int = Field(
        0, description="how far this process's clock is ahead; sandbox only, to test clocks that disagree"
    )
    clock_apart_limit_seconds: float = Field(
        5.0, gt=0, description="a process whose machine's clock is further from the database's does not start"
    )

    market_day: date | None = Field(
        None, description="sandbox only: rates of this published day; None: of the calendar day"
    )
    rate_max_age_hours: int = Field(120, ge=1, description="five days bridge Easter; older rates are refused")
    reference_rates_url: str | None = Field(
        "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-hist.zip",
        description="where workers get new ECB reference rates; empty: the packaged ones alone",
    )
    liquidity_providers: tuple[str, ...] = Field(("atlas", "borealis"), description="asked for every quote")
    quote_deadline_seconds: float = Field(1.5, gt=0, description="for the slowest liquidity provider")
    quote_lock_seconds: int = Field(1_800, ge=10, description="lock of a payment without a quote of its own")
    settlement_interval_seconds: int = Field(86_400, ge=1, description="how often payouts are looked for")
    settle_within_days: int = Field(7, ge=1, description="then a missing settlement is shown to operators")
    action_window_seconds: int = Field(3_600, ge=1, description="a buyer's time for a challenge")
    history_retention_days: int = Field(30, ge=1)
    answer_deadline_seconds: float = Field(10.0, gt=0, description="then the API answers 202")
    requests_at_once: int = Field(
        250, ge=1, description="of one caller in one API process; further ones are answered 429"
    )
    streams_at_once: int = Field(10, ge=1, description="event streams of one merchant in one API process")

    log_format: Literal["auto", "json", "console"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    build_id: str | None = Field(
        None, pattern=r"^[A-Za-z0-9._-]{1,64}$", description="None: a digest of the workflow code"
    )
    worker_versioning: bool = Field(True, description="a payment stays on the build it began on")
    worker_takes_over: bool = Field(
        False,
        description="no other build runs here: become current, adopt what is pinned to builds that are gone",
    )
    ready_file: Path | None = Field(None, description="set by the supervisor; see runtime/readiness.py")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 — pydantic-settings' signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 — as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments win over the environment, the environment over files. No `.env` is read: nothing is hidden."""
        return (init_settings, env_settings, FileSource(settings_cls))

    @model_validator(mode="after")
    def _database_is_understood(self) -> Self:
        if self.database_url is not None:
            try:
                _address(self.database)
            except ValueError as refused:
                raise ValueError(f"DATABASE_URL: {refused}") from None
        return self

    @model_validator(mode="after")
    def _mode_fits_secrets(self) -> Self:
        if self.mode == "live" and (reasons := self._refused_in_live()):
            raise ValueError("live mode refuses to start: " + "; ".join(reasons))
        if self.mode == "sandbox" and self.stripe_secret_key.get_secret_value().startswith(
            ("sk_live_", "rk_live_")
        ):
            raise ValueError(
                "sandbox mode refuses a live Stripe key; set CORRIDOR_MODE=live to move real money"
            )
        return self

    @model_validator(mode="after")
    def _lock_outlasts_a_call(self) -> Self:
        """A lock that ends before the call it is for could be renewed for ever and never be used."""
        shortest = self.provider_timeout_seconds + LOCK_BEYOND_CALL_SECONDS
        if self.quote_lock_seconds < shortest:
            raise ValueError(
                f"quote_lock_seconds must be at least {shortest:g}: "
                f"provider_timeout_seconds and {LOCK_BEYOND_CALL_SECONDS} s to get there"
            )
        return self

    @property
    def _shortest_grace(self) -> float:
        """Below this a stopped worker cuts off calls whose answers it would have recorded."""
        return self.provider_timeout_seconds + GRACE_BEYOND_CALL_SECONDS

    def _refused_in_live(self) -> list[str]:
        known = [
            f"{name} is the public sandbox value"
            for name, public in SANDBOX_SECRETS.items()
            if getattr(self, name).get_secret_value() == public
        ]
        rules = {
            "log_level is debug": self.log_level == "debug",
            "market_day is set": self.market_day is not None,
            f"{crash.VARIABLE} is set": crash.VARIABLE in os.environ,
            f"worker_grace_seconds must be at least {self._shortest_grace:g}": (
                self.worker_grace_seconds < self._shortest_grace
            ),
            "webhook_allow_private is on": self.webhook_allow_private,
            "clock_offset_seconds is set": self.clock_offset_seconds != 0,
            "stripe_url must be set and https": not (self.stripe_url or "").startswith("https://"),
            "liquidity_url must be set and https": not (self.liquidity_url or "").startswith("https://"),
            "encryption_keys must be given, not generated": self.encryption_keys is None,
            "DATABASE_URL must be set, and lead to PostgreSQL": _address(self.database).is_sqlite,
            "DATABASE_URL must say sslmode=require or stricter (or set CORRIDOR_DATABASE_ALLOW_PLAINTEXT, where "
            "nobody else is on that network)": not (
                self.database_allow_plaintext or _address(self.database).is_private
            ),
            "stripe_secret_key is a test key": self.stripe_secret_key.get_secret_value().startswith(
                "sk_test_"
            ),
        }
        return known + [reason for reason, broken in rules.items() if broken]

    @property
    def database(self) -> str:
        """Address of the database: `DATABASE_URL`, else a SQLite file in the data directory."""
        if self.database_url is not None:
            return self.database_url.get_secret_value()
        return f"sqlite:///{(self.data_dir / 'corridor.db').absolute()}"

    @property
    def temporal_store(self) -> Path:
        """Where the embedded Temporal keeps its histories."""
        return self.data_dir / "temporal.db"

    @property
    def sandbox_address(self) -> str:
        """Where the provider sandbox listens."""
        return f"http://{self.host}:{self.sandbox_port}"

    @property
    def stripe_address(self) -> str:
        """Base URL of Stripe's API, without `/v1`."""
        return self.stripe_url or f"{self.sandbox_address}/stripe"

    @property
    def liquidity_address(self) -> str:
        """Base URL of the liquidity provider."""
        return self.liquidity_url or f"{self.sandbox_address}/lp"

    @property
    def api_address(self) -> str:
        """Where the API listens, as this machine sees it."""
        return f"http://{self.host}:{self.api_port}"

    @property
    def codec_address(self) -> str:
        """Where the codec server listens, as an operator's browser on this machine sees it."""
        return f"http://{self.host}:{self.codec_port}"

    @property
    def temporal_ui_address(self) -> str:
        """Where the embedded Temporal UI listens."""
        return f"http://{self.host}:{self.temporal_ui_port}"

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for a child process. Secrets travel here, never in argv."""
        return {
            _variable(name, field): _text(value)
            for name, field in type(self).model_fields.items()
            if (value := getattr(self, name)) is not None
        }


def _address(url: str) -> "Address":
    # Imported here: without an address to read, nobody waits for SQLAlchemy to find out where things are.
    from corridor.storage import address

    return address.parse(url)


def _variable(name: str, field: FieldInfo) -> str:
    alias = field.validation_alias
    return alias if isinstance(alias, str) else f"{PREFIX}{name.upper()}"


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return json.dumps(value)
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


def load(**given: Any) -> Settings:
    """Read the settings; `given` wins over the environment. Raises `SettingsRefused` in one readable line."""
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = (
            f"{'.'.join(map(str, e['loc'])) or 'settings'}: {e['msg']}"
            for e in error.errors(include_input=False)
        )
        raise SettingsRefused("; ".join(lines)) from None
