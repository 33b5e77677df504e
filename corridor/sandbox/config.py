"""What a sandbox process can be told at start: by flag (`--data-dir`) or by environment (`CORRIDOR_SANDBOX_DATA_DIR`)."""

from datetime import date
from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

# Currencies a European account can hold a Stripe balance in; all others are converted to `settlement_currency`.
LIKE_FOR_LIKE = "aud,cad,chf,czk,dkk,eur,gbp,hkd,huf,jpy,kwd,nok,nzd,pln,ron,sek,sgd,usd"


class SandboxConfig(BaseSettings):
    """Settings of one sandbox process. Times are seconds; amounts are minor units; rates are basis points."""

    model_config = SettingsConfigDict(env_prefix="CORRIDOR_SANDBOX_", frozen=True, cli_kebab_case=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8420, ge=0, le=65535)
    data_dir: Path = Path("sandbox-data")
    public_url: str = Field(
        default="", description="base of the 3-D Secure page links; default: the request's own host"
    )

    api_key: str = Field(
        default="", description="the only accepted secret key; empty accepts any sk_test_ key"
    )
    webhook_url: str = Field(default="", description="where Stripe events are sent; empty sends none")
    webhook_secret: str = "whsec_corridor_sandbox"  # noqa: S105 - a public test value
    webhook_api_version: str = "2026-10-28.endive"
    webhook_timeout_seconds: int = Field(default=10, ge=1)
    webhook_backoff_milliseconds: int = Field(
        default=500, ge=1, description="first retry; doubles up to a minute"
    )
    webhook_attempts: int = Field(default=20, ge=1)
    webhook_concurrency: int = Field(default=8, ge=1)

    idempotency_key_seconds: int = Field(default=86_400, ge=1)
    authorization_seconds: int = Field(default=7 * 86_400, ge=1)
    search_lag_seconds: int = Field(default=2, ge=0)
    settlement_delay_seconds: int = Field(default=5, ge=0)
    payout_period_seconds: int = Field(default=5, ge=0, description="0 pays out only when asked to")
    payout_transit_seconds: int = Field(default=1, ge=0)
    slow_operation_seconds: int = Field(
        default=1, ge=0, description="pending refunds, disputes, asynchronous captures"
    )

    settlement_currency: str = "usd"
    like_for_like: str = LIKE_FOR_LIKE
    fee_basis_points: int = Field(default=290, ge=0)
    fee_fixed_usd_minor: int = Field(default=30, ge=0)
    dispute_fee_usd_minor: int = Field(default=1500, ge=0)
    conversion_basis_points: int = Field(
        default=0, ge=0, description="Stripe's margin hidden inside exchange_rate"
    )

    market_day: date | None = Field(
        default=None, description="ECB day of all rates; default: the newest published"
    )
    liquidity_seed: str = "corridor"
    merchant_secret: str = Field(
        default="", description="Standard Webhooks secret of merchants not set one by one"
    )
    hold_seconds: int = Field(
        default=120, ge=1, description="how long a connection with a withheld answer stays open"
    )

    @property
    def like_for_like_currencies(self) -> frozenset[str]:
        """Lower-case ISO codes settled without conversion."""
        return frozenset(code.strip().lower() for code in self.like_for_like.split(",") if code.strip())
