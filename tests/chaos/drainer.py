"""A worker to be killed: `python -m tests.chaos.drainer SCHEMA ACCOUNT`. Says "draining" and drains."""

import sys
from datetime import timedelta

import django

django.setup()

from django.utils import timezone  # noqa: E402

from campaigns import dispatch  # noqa: E402
from tenants import context  # noqa: E402
from tenants.models import Agency  # noqa: E402

if __name__ == "__main__":
    with context.entered(Agency.objects.get(schema_name=sys.argv[1])):
        print("draining", flush=True)
        until = timezone.now() + timedelta(seconds=60)
        dispatch.drain(int(sys.argv[2]), clock=timezone.now, until=until)
