"""The forms of the portal."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import transaction
from django.db.models import QuerySet
from django.template.defaultfilters import filesizeformat
from django.utils import dates
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from campaigns import launch, pace
from campaigns.changes import MOST_STEPS, Wanted
from campaigns.models import Campaign, ContactList, Duplicates, Step, StopOn, StopScope
from campaigns.sequence import Condition, Otherwise
from providers.accounts.routing import Route

SCHEDULE = ("weekdays", "window_from", "window_until", "timezone", "window_zone", "holidays")
WHEN = (*SCHEDULE, "new_contacts_per_day", "per_domain_per_day", "gap_seconds", "gap_jitter_seconds")
SEQUENCE = ("duplicates", "stop_on", "stop_scope", "goal_url")
TRACKING = ("track_opens", "track_clicks")
PERCENT = [MinValueValidator(0), MaxValueValidator(100)]


class WeekdaysField(forms.TypedMultipleChoiceField):
    """Days of the week, of which one is needed."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            choices=dates.WEEKDAYS.items,
            coerce=int,
            widget=forms.CheckboxSelectMultiple,
            initial=list(pace.EVERY_DAY),
            error_messages={"required": gettext_lazy("Choose at least one day, or the campaign never sends.")},
            **kwargs,
        )


class CountryField(forms.ChoiceField):
    """A country whose holidays are known, or none."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(choices=lambda: [("", _("No country")), *pace.countries().items()], required=False, **kwargs)


class StopOnField(forms.MultipleChoiceField):
    """What ends a sequence for a contact; nothing is a choice too."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            choices=StopOn.choices,
            widget=forms.CheckboxSelectMultiple,
            initial=list(StopOn.values),
            required=False,
            help_text=Campaign._meta.get_field("stop_on").help_text,
            **kwargs,
        )


class EraseForm(forms.Form):
    """The address of a person to be erased, and that it is meant."""

    address = forms.CharField(
        label=gettext_lazy("Address of the person"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    meant = forms.BooleanField(
        label=gettext_lazy("Erase it for good: nobody can bring it back"),
        error_messages={"required": gettext_lazy("Tick this too: what is erased cannot be brought back.")},
    )


class StepForm(forms.Form):
    """One step of a sequence. The first has no use for its delay and its condition, and leaves them out."""

    id = forms.IntegerField(required=False, widget=forms.HiddenInput)
    delay = forms.IntegerField(
        label=gettext_lazy("Delay after the mail before"), min_value=1, max_value=999, initial=3, required=False
    )
    unit = forms.ChoiceField(
        label=gettext_lazy("Counted in"), choices=pace.Unit.choices, initial=pace.Unit.DAYS, required=False
    )
    condition = forms.ChoiceField(label=gettext_lazy("Only who"), choices=Condition.choices, required=False)
    otherwise = forms.ChoiceField(
        label=gettext_lazy("The others"), choices=Otherwise.choices, initial=Otherwise.NEXT, required=False
    )
    subject = forms.CharField(
        label=gettext_lazy("Subject"),
        max_length=250,
        required=False,
        help_text=gettext_lazy("Of a follow-up, empty: in the thread of the mail before."),
    )
    html = forms.CharField(
        label="HTML", required=False, strip=False, widget=forms.Textarea(attrs={"rows": 6, "spellcheck": "true"})
    )
    text = forms.CharField(
        label=gettext_lazy("Plain text"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Empty: made from the HTML."),
    )

    def wanted(self) -> Wanted:
        """The step as it is to be."""
        given = self.cleaned_data.items()
        return Wanted(**{name: value for name, value in given if name != "DELETE" and value not in ("", None)})


class _Steps(forms.BaseFormSet):  # type: ignore[type-arg]
    deletion_widget = forms.HiddenInput

    @property
    def wanted(self) -> list[Wanted]:
        """The steps that are to be, in their order; those of forms nobody has touched are not."""
        return [form.wanted() for form in self.forms if not form.cleaned_data.get("DELETE") and form.cleaned_data != {}]


def steps(data: Any = None, *, initial: Sequence[dict[str, Any]] = (), more: int = 0) -> Any:
    """A formset of StepForm, with so many empty ones; its `wanted` are the steps that it asks for."""
    made = forms.formset_factory(
        StepForm, formset=_Steps, extra=more, can_delete=True, max_num=MOST_STEPS, validate_max=True
    )
    return made(data, initial=initial, prefix="steps")


class CampaignForm(forms.ModelForm):  # type: ignore[type-arg]
    """A new campaign with its first mail, saved as a draft. What a launch would refuse in its texts is refused here.

    `accounts` are those that the agency may plan on: each has a field for its share.
    """

    weekdays = WeekdaysField(label=gettext_lazy("Days"))
    holidays = CountryField(label=gettext_lazy("Not on the holidays of"))
    stop_on = StopOnField(label=gettext_lazy("Stop on"))
    subject = forms.CharField(label=gettext_lazy("Subject"), max_length=250)
    html = forms.CharField(
        label="HTML", required=False, strip=False, widget=forms.Textarea(attrs={"rows": 10, "spellcheck": "true"})
    )
    text = forms.CharField(
        label=gettext_lazy("Plain text"),
        required=False,
        strip=False,
        widget=forms.Textarea(attrs={"rows": 5}),
        help_text=gettext_lazy("Empty: made from the HTML."),
    )

    class Meta:
        model = Campaign
        fields = ("name", "list", "traffic_class", "distribution", "overflow", *WHEN, *SEQUENCE, *TRACKING)
        widgets = {
            "distribution": forms.RadioSelect,
            "overflow": forms.RadioSelect,
            "window_zone": forms.RadioSelect,
            "duplicates": forms.RadioSelect,
            "stop_scope": forms.RadioSelect,
            "window_from": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
            "window_until": forms.TimeInput(attrs={"type": "time"}, format="%H:%M"),
        }

    def __init__(self, *args: Any, lists: QuerySet[ContactList], accounts: Sequence[Route] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["list"]
        assert isinstance(choice, forms.ModelChoiceField)
        choice.queryset, choice.empty_label = lists, _("Choose a list")
        for name in ("duplicates", "stop_scope"):
            # Whoever does not choose has the narrowest.
            self.fields[name].required = False
        self._accounts = {f"share_{route.account_id}": route.name for route in accounts}
        for field, name in self._accounts.items():
            # The limits are no attributes: a field that the page hides must not keep the form from being sent.
            self.fields[field] = forms.FloatField(label=f"{name}, %", required=False, validators=PERCENT)

    @property
    def groups(self) -> list[tuple[str, str, list[str]]]:
        """What belongs together on the page."""
        shares_hint = _("Percent of the mails for each account; together 100.")
        return [
            (_("To whom"), "", ["name", "list", "duplicates"]),
            (_("The mail"), "", ["subject", "html", "text"]),
            (_("What ends it for a contact"), "", ["stop_on", "goal_url", "stop_scope"]),
            (_("When"), "", [*WHEN]),
            (_("What to count"), "", [*TRACKING]),
            (_("Delivery"), "", ["traffic_class", "overflow", "distribution"]),
            *([(_("Shares"), shares_hint, [*self._accounts])] if self._accounts else []),
        ]

    def clean_stop_scope(self) -> str:
        return self.cleaned_data["stop_scope"] or StopScope.CAMPAIGN

    def clean_duplicates(self) -> str:
        return self.cleaned_data["duplicates"] or Duplicates.CAMPAIGN

    def clean_subject(self) -> str:
        subject: str = self.cleaned_data["subject"]
        if len(subject.splitlines()) > 1:
            raise ValidationError(_("Write the subject on one line."))
        return subject

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not (cleaned.get("html", "").strip() or cleaned.get("text", "").strip()):
            self.add_error("html", _("Write the mail, as HTML or as plain text."))
        self.instance.shares = self._shares(cleaned) if cleaned.get("distribution") == "shares" else {}
        if cleaned.get("list") and not {"subject", "html", "text"} & self.errors.keys():
            draft = Campaign(list=cleaned["list"])
            for problem in launch.check_texts(draft, [self._step(cleaned)]):
                self.add_error(None, problem)
        return cleaned

    def save(self, commit: bool = True) -> Campaign:
        """The draft and its first step, or neither."""
        with transaction.atomic():
            campaign: Campaign = super().save()
            step = self._step(self.cleaned_data)
            step.campaign = campaign
            step.save()
        return campaign

    def _shares(self, cleaned: dict[str, Any]) -> dict[str, float]:
        shares = {name: cleaned[field] for field, name in self._accounts.items() if cleaned.get(field)}
        if not self._accounts:
            self.add_error("distribution", _("There is no account to give a share to. Ask the operator for one."))
        elif not any(field in self.errors for field in self._accounts) and abs(sum(shares.values()) - 100) > 0.01:
            self.add_error(
                next(iter(self._accounts)),
                _("The shares add up to %(sum)g %%, not to 100 %%.") % {"sum": sum(shares.values())},
            )
        return shares

    def _step(self, cleaned: dict[str, Any]) -> Step:
        html, text = (cleaned[part] if cleaned[part].strip() else "" for part in ("html", "text"))
        return Step(position=1, subject=cleaned["subject"], html=html, text=text)


class UploadForm(forms.Form):
    """A contact file and the list that it goes into, one that is there or a new one."""

    file = forms.FileField(label=gettext_lazy("File"), widget=forms.FileInput(attrs={"accept": ".csv,.txt,.tsv,.xlsx"}))
    list = forms.ModelChoiceField(
        label=gettext_lazy("List"),
        queryset=ContactList.objects.none(),
        required=False,
        empty_label=gettext_lazy("A new list"),
    )
    new_list = forms.CharField(
        label=gettext_lazy("Name of the new list"),
        required=False,
        max_length=ContactList._meta.get_field("name").max_length,
    )

    def __init__(self, *args: Any, lists: QuerySet[ContactList], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["list"]
        assert isinstance(choice, forms.ModelChoiceField)
        choice.queryset = lists

    def clean_file(self) -> "UploadedFile[bytes]":
        file: UploadedFile[bytes] = self.cleaned_data["file"]
        size = file.size or 0
        if size > settings.CONTACT_FILE_MAX_BYTES:
            raise ValidationError(
                _("The file has %(size)s; at most %(most)s are taken. Split it.")
                % {"size": filesizeformat(size), "most": filesizeformat(settings.CONTACT_FILE_MAX_BYTES)}
            )
        return file

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or self.cleaned_data
        if not cleaned.get("list") and not cleaned.get("new_list") and "new_list" not in self.errors:
            self.add_error("new_list", _("Choose a list, or name the new one."))
        if cleaned.get("list") and cleaned.get("new_list"):
            self.add_error("new_list", _("Choose a list or name a new one, not both."))
        return cleaned

    def into(self) -> ContactList:
        """The list to import into; a name that a list has already means that list."""
        chosen: ContactList | None = self.cleaned_data["list"]
        return chosen or ContactList.objects.get_or_create(name=self.cleaned_data["new_list"])[0]
