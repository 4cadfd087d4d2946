"""The sender domains of the key's agency: whether their DNS is sound, and what to publish."""

from typing import Any

from django.shortcuts import get_object_or_404
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import PermissionDenied
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from providers.senders import dkim, dns
from providers.senders.models import DkimKey, DnsCheck, SenderDomain
from tenants import clock


class DnsFindingSerializer(serializers.Serializer[Any]):
    """One thing that was found in the DNS."""

    part = serializers.CharField(help_text="name, mx, spf, dkim or dmarc.")
    level = serializers.CharField(help_text="good, advice, wrong, or unknown where the DNS did not answer.")
    code = serializers.CharField()
    text = serializers.SerializerMethodField(help_text="The same in words.")
    record = serializers.JSONField(help_text="What to publish: name, type and value; null where nothing is proposed.")

    def get_text(self, finding: dict[str, Any]) -> str:
        return dns.told(finding)


class DnsCheckSerializer(serializers.ModelSerializer[DnsCheck]):
    """What the last check found."""

    findings = DnsFindingSerializer(many=True)

    class Meta:
        model = DnsCheck
        fields = ("at", "sound", "findings")


class DkimKeySerializer(serializers.ModelSerializer[DkimKey]):
    """A DKIM key, without its private half, and the TXT record that it needs."""

    name = serializers.CharField(source="__str__", help_text="Where its record goes.")
    value = serializers.SerializerMethodField("value_of", help_text="What its TXT record says.")

    class Meta:
        model = DkimKey
        fields = ("selector", "name", "value", "created_at", "signs_since", "retired_at")

    def value_of(self, key: DkimKey) -> str:
        return dkim.record(key).value


class DomainViewSet(ViewSet):
    """Sender domains."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """Every domain by its name."""
        return Response({"results": [_shown(domain) for domain in _domains(request, "view").order_by("name")]})

    def retrieve(self, request: Request, pk: str) -> Response:
        """One domain."""
        return Response(_shown(get_object_or_404(_domains(request, "view"), pk=pk)))

    @action(detail=True, methods=["post"], url_path="check-dns")
    def check_dns(self, request: Request, pk: str) -> Response:
        """Ask the DNS now, for up to 10 seconds. A DKIM key whose record is seen signs from then on."""
        domain = get_object_or_404(_domains(request, "change"), pk=pk)
        dns.check(domain, now=clock.now())
        return Response(_shown(_domains(request, "change").get(pk=pk)))

    @action(detail=True, methods=["post"], url_path="dkim-keys")
    def make_key(self, request: Request, pk: str) -> Response:
        """Make the next DKIM key, unless one waits for its record."""
        domain = get_object_or_404(_domains(request, "change"), pk=pk)
        return Response(DkimKeySerializer(dkim.make(domain, now=clock.now())).data, status=201)


def _domains(request: Request, need: str) -> Any:
    if not request.user.has_perm(f"senders.{need}_senderdomain"):
        raise PermissionDenied
    return SenderDomain.objects.select_related("dns_check")


def _shown(domain: SenderDomain) -> dict[str, Any]:
    last = getattr(domain, "dns_check", None)
    keys = domain.dkim_keys.defer("private")
    return {
        "id": domain.pk,
        "name": domain.name,
        "dns": None if last is None else DnsCheckSerializer(last).data,
        "dkim_keys": [{**DkimKeySerializer(key).data} for key in keys],
    }
