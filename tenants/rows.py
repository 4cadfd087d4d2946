"""The base of every row that lives in an agency's schema."""

from collections.abc import Sequence
from typing import Any, Self

from django.db import models

from tenants.context import OutsideAgencyError, current_schema


class AgencyRow(models.Model):
    """A row that remembers the schema it was read from and refuses to be written in another.

    Without it an object read in one agency and saved in a second silently overwrites the second's row of that key.
    """

    class Meta:
        abstract = True

    _schema: str | None = None

    @classmethod
    def from_db(cls, db: str | None, field_names: Sequence[str], values: Sequence[Any]) -> Self:
        row = super().from_db(db, field_names, values)  # type: ignore[arg-type]
        row._schema = current_schema()
        return row

    def _check_schema(self) -> None:
        if self._schema is not None and self._schema != current_schema():
            raise OutsideAgencyError(
                f"{self._meta.label} {self.pk} belongs to {self._schema}, not to {current_schema()}: nothing was changed."
            )

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._check_schema()
        super().save(*args, **kwargs)
        self._schema = current_schema()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self._check_schema()
        return super().delete(*args, **kwargs)
