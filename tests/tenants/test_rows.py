"""Agency data outside its agency: fails loudly, changes nothing."""

import pickle
import threading

import pytest
from django.db import ProgrammingError, connection, transaction

from campaigns.models import Contact, ContactList
from providers.senders.models import SenderDomain
from tenants import context
from tenants.context import OutsideAgencyError
from tenants.models import Agency
from tenants.users.models import User


@pytest.mark.parametrize("model", [Contact, ContactList, SenderDomain])
def test_a_query_for_agency_data_in_the_public_schema_names_the_missing_table(alpha: Agency, model: type) -> None:
    table = model._meta.db_table
    with pytest.raises(ProgrammingError, match=f'relation "{table}" does not exist'), transaction.atomic():
        list(model.objects.all())
    with pytest.raises(ProgrammingError, match=f'relation "{table}" does not exist'), transaction.atomic():
        model.objects.create()


def test_asking_for_the_current_agency_outside_one_says_how_to_enter_it(alpha: Agency) -> None:
    with pytest.raises(OutsideAgencyError, match=r"Enter it with tenants\.context\.entered"):
        context.current_agency()
    with context.entered(alpha):
        assert context.current_agency() == alpha
        with context.public(), pytest.raises(OutsideAgencyError):
            context.current_agency()


def test_an_agency_is_left_again_whatever_happens_inside(alpha: Agency, beta: Agency) -> None:
    with pytest.raises(ZeroDivisionError), context.entered(alpha), context.entered(beta), context.public():
        raise ZeroDivisionError
    assert context.current_schema() == "public"
    with context.entered(alpha):
        with context.entered(beta):
            assert context.current_schema() == "a_beta"
        assert context.current_schema() == "a_alpha"


def test_a_new_thread_starts_outside_every_agency(alpha: Agency) -> None:
    seen = []

    def look() -> None:
        seen.append(context.current_schema())
        connection.close()

    with context.entered(alpha):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
    assert seen == ["public"]


def test_a_row_of_one_agency_is_neither_saved_nor_deleted_nor_read_again_in_another(
    alpha: Agency, beta: Agency
) -> None:
    with context.entered(alpha):
        ours = ContactList.objects.get(pk=ContactList.objects.create(name="ours").pk)
    with context.entered(beta):
        theirs = ContactList.objects.create(pk=ours.pk, name="theirs")
        ours.name = "changed"
        for act in (ours.save, ours.delete, ours.refresh_from_db, pickle.loads(pickle.dumps(ours)).save):
            with pytest.raises(OutsideAgencyError, match="belongs to a_alpha, not to a_beta"):
                act()
        theirs.refresh_from_db()
        assert theirs.name == "theirs"
    with pytest.raises(OutsideAgencyError, match="belongs to a_alpha, not to public"):
        ours.save()
    with context.entered(alpha):
        ours.save()
        assert ContactList.objects.get().name == "changed"


def test_a_row_made_in_one_agency_is_not_saved_in_another(alpha: Agency, beta: Agency) -> None:
    with context.entered(alpha):
        made = ContactList.objects.create(name="made")
    with context.entered(beta), pytest.raises(OutsideAgencyError):
        made.save()


def test_people_are_guarded_like_rows(carol: User, beta: Agency) -> None:
    carol.name = "Mallory"
    with context.entered(beta), pytest.raises(OutsideAgencyError, match=r"users\.User"):
        carol.save()


def test_an_agency_switched_off_or_half_made_or_public_is_not_among_the_ready(alpha: Agency, beta: Agency) -> None:
    Agency.objects.filter(schema_name="public").update(ready=True)
    assert list(context.ready_agencies()) == [alpha, beta]
    Agency.objects.filter(pk=alpha.pk).update(active=False)
    Agency.objects.filter(pk=beta.pk).update(ready=False)
    assert list(context.ready_agencies()) == []
