"""The base of every row that lives in an agency's schema (people's rows live in the public schema too)."""

from typing import Any, Self

from django.db import models

from tenants.context import OutsideAgencyError, current_schema


class AgencyRow(models.Model):
    """A row that remembers the schema it was read from and refuses to be written in another.

    Without it an object read in one agency and saved in a second silently overwrites the second's row of
    that key.
    """

    class Meta:
        abstract = True

    _schema: str | None = None

    def save(self, *args: Any, **kwargs: Any) -> None:
        self._check_schema()
        super().save(*args, **kwargs)
        self._schema = current_schema()

    def delete(self, *args: Any, **kwargs: Any) -> tuple[int, dict[str, int]]:
        self._check_schema()
        return super().delete(*args, **kwargs)

    @classmethod
    def from_db(cls, *args: Any, **kwargs: Any) -> Self:
        row = super().from_db(*args, **kwargs)
        row._schema = current_schema()
        return row

    def refresh_from_db(self, *args: Any, **kwargs: Any) -> None:
        self._check_schema()
        super().refresh_from_db(*args, **kwargs)

    def _check_schema(self) -> None:
        if self._schema is not None and self._schema != current_schema():
            raise OutsideAgencyError(
                f"{self._meta.label} {self.pk} belongs to {self._schema}, not to {current_schema()}: "
                "nothing was read or changed."
            )
