from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from analytics.dashboard import dashboard
from campaigns import access
from campaigns.views import import_summary
from tenants import clock, context

IMPORTS = 5


@login_required
@require_GET
def front_page(request: HttpRequest) -> HttpResponse:
    """The agency's dashboard."""
    found = dashboard(context.current_agency(), access.campaigns_for(request.user), now=clock.now())
    found["recent_imports"] = [import_summary(one) for one in access.intakes_for(request.user)[:IMPORTS]]
    found["recoveries"], found["sources"] = access.pauses_for(request.user)
    return render(request, "analytics/dashboard.html", found)
