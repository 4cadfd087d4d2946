from django.db import models


class Heartbeat(models.Model):
    """When a cluster of workers last ran a job: the only sign of life that a frozen cluster does not give."""

    cluster = models.CharField(max_length=120, primary_key=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.cluster} {self.seen_at}"
