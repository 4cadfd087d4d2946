from typing import cast

from allauth.account.forms import EmailAwarePasswordResetTokenGenerator
from django.contrib.auth.base_user import AbstractBaseUser

from tenants.context import current_schema


class ResetTokens(EmailAwarePasswordResetTokenGenerator):  # type: ignore[misc]
    """Tokens of reset mails. A twin in another schema, with the same key and password hash, is someone else."""

    def _make_hash_value(self, user: AbstractBaseUser, timestamp: int) -> str:
        return current_schema() + cast(str, super()._make_hash_value(user, timestamp))
