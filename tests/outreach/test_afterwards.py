"""What comes back in the demo, taken in by the product: each answer means what it was written to mean."""

from campaigns import returned
from campaigns.models import Contact, Message, Reply, Suppression
from outreach.demo import afterwards
from outreach.demo.afterwards import ANSWERS, REFUSALS
from tenants import context
from tenants.models import Agency
from tests import stage
from tests.campaigns.test_feedback import sent
from tests.stage import NOON


def test_each_answer_means_what_it_was_written_to_mean(alpha: Agency) -> None:
    account = stage.accounts()["smtp"]
    stage.allot(alpha, account)
    with context.entered(alpha):
        mails = sent(alpha, account, count=len(ANSWERS) + len(REFUSALS))
        # Every third of them has a Russian name.
        for place, one in enumerate(Contact.objects.order_by("pk")):
            Contact.objects.filter(pk=one.pk).update(first_name="Ольга" if place % 2 else "Olga", company="Зима")
        campaign = mails[0].campaign
        said = afterwards.bring_answers(campaign)
        afterwards.bring_bounces(alpha, afterwards._unanswered(campaign)[-len(REFUSALS) :])
    with context.public():
        assert returned.take_in(clock=lambda: NOON) == len(ANSWERS) + len(REFUSALS)
    with context.entered(alpha):
        labels = list(Reply.objects.order_by("pk").values_list("label", "automatic", "text"))
        assert [(label, machine) for label, machine, _text in labels] == [(one.label, one.automatic) for one in ANSWERS]
        assert [text for _label, _machine, text in labels if "> We help" in text or "-- " in text] == []
        assert set(said) == {one.label for one in ANSWERS}
        assert Message.objects.filter(facts__bounced_at__isnull=False).count() == len(REFUSALS)
        assert Suppression.objects.filter(source="opt_out").count() == 2
        assert Reply.objects.filter(label="out_of_office", returns_on=None).count() == 0
