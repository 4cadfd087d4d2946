"""Workers that had to be replaced, on the operator's site."""

from django.http import HttpRequest
from unfold.admin import ModelAdmin

from outreach.models import Replacement
from tenants import sites


class ReplacementAdmin(ModelAdmin):  # type: ignore[misc]
    """What was silent and was replaced. Only the machine that watches writes it."""

    list_display = ("at", "part", "cluster", "process", "silent_seconds")
    list_filter = ("part",)
    date_hierarchy = "at"
    ordering = ("-at",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Replacement | None = None) -> bool:
        return False

    has_delete_permission = has_change_permission


sites.operator.register(Replacement, ReplacementAdmin)
