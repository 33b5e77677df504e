"""The columns all tables are made of: ids, references, amounts in minor units, times in UTC."""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import BigInteger, Column, DateTime, Dialect, ForeignKey, Index, MetaData, String, text
from sqlalchemy.types import TypeDecorator

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)


class UtcTime(TypeDecorator[datetime]):
    """Time zone aware in and out; a naive time is a programmer's error, on both databases."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("times carry their zone")
        utc = value.astimezone(UTC)
        return utc.replace(tzinfo=None) if dialect.name == "sqlite" else utc

    def process_result_value(
        self,
        value: datetime | None,
        dialect: Dialect,  # noqa: ARG002 (SQLAlchemy's signature)
    ) -> datetime | None:
        return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


def identifier(name: str = "id", **kwargs: Any) -> Column[str]:
    return Column(name, String(64), primary_key=True, **kwargs)


def reference(name: str, target: str, **kwargs: Any) -> Column[str]:
    return Column(name, String(64), ForeignKey(target), nullable=kwargs.pop("nullable", False), **kwargs)


def minor(name: str, **kwargs: Any) -> Column[int]:
    return Column(name, BigInteger, nullable=kwargs.pop("nullable", False), **kwargs)


def moment(name: str, nullable: bool = False) -> Column[datetime]:
    return Column(name, UtcTime, nullable=nullable)


def partial_index(name: str, column: str, *, where: str) -> Index:
    """An index of the rows that fulfil the condition, which both databases word alike."""
    return Index(name, column, sqlite_where=text(where), postgresql_where=text(where))
