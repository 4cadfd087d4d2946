from django.db import models
from django.db.models.functions import Now
from django.utils.translation import gettext_lazy as _


class Heartbeat(models.Model):
    """When a cluster of workers last ran a job: the only sign of life that a frozen cluster does not give."""

    cluster = models.CharField(max_length=120, primary_key=True)
    seen_at = models.DateTimeField()

    def __str__(self) -> str:
        return f"{self.cluster} {self.seen_at}"


class Replacement(models.Model):
    """A part of a cluster that gave no sign of life, was killed for it, and has been replaced."""

    class Part(models.TextChoices):
        """What was silent. Only a worker is replaced alone: without any other part the cluster is none."""

        WORKER = "worker", _("Worker")
        GUARD = "guard", _("Guard and scheduler")
        MONITOR = "monitor", _("Recorder of finished jobs")
        CLUSTER = "cluster", _("Whole cluster")

    at = models.DateTimeField(_("replaced at"), db_default=Now())
    cluster = models.CharField(_("cluster"), max_length=120)
    part = models.CharField(_("what was silent"), max_length=10, choices=Part)
    process = models.IntegerField(_("process"))
    silent_seconds = models.IntegerField(_("seconds of silence"))

    class Meta:
        verbose_name = _("replaced worker")
        verbose_name_plural = _("replaced workers")
        indexes = [models.Index(fields=["at"], name="replacement_at")]

    def __str__(self) -> str:
        return f"{self.get_part_display()} {self.process} ({self.cluster})"
