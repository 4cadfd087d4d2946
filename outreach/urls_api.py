"""The API of an agency's host, below /api/v1/. In a file of its own: DRF's views load `outreach.api` as they load."""

from typing import Any

from django.urls import include, path, re_path
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from campaigns.api import (
    CampaignViewSet,
    ContactViewSet,
    EndpointViewSet,
    ErasureViewSet,
    FeedViewSet,
    ImportViewSet,
    ListViewSet,
    MessageViewSet,
    RecoveryViewSet,
    ReplyViewSet,
    SourcePauseViewSet,
)
from providers.senders.api import DomainViewSet


class Nowhere(APIView):
    """Any other address: a 404 in the API's own shape."""

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        raise NotFound


router = SimpleRouter()
router.register("campaigns", CampaignViewSet, basename="campaign")
router.register("contacts", ContactViewSet, basename="contact")
router.register("domains", DomainViewSet, basename="domain")
router.register("endpoints", EndpointViewSet, basename="endpoint")
router.register("erasures", ErasureViewSet, basename="erasure")
router.register("events", FeedViewSet, basename="event")
router.register("imports", ImportViewSet, basename="import")
router.register("lists", ListViewSet, basename="list")
router.register("messages", MessageViewSet, basename="message")
router.register("recoveries", RecoveryViewSet, basename="recovery")
router.register("replies", ReplyViewSet, basename="reply")
router.register("source-pauses", SourcePauseViewSet, basename="source-pause")

app_name = "api"
urlpatterns = [path("", include(router.urls)), re_path("", Nowhere.as_view())]
