"""A host that no agency has: every address is a 404."""

from django.urls import URLPattern

urlpatterns: list[URLPattern] = []
