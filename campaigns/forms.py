"""The forms of the portal."""

from collections.abc import Collection, Sequence
from dataclasses import asdict
from datetime import date, datetime, time
from typing import Any

from babel import Locale
from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import transaction
from django.db.models import QuerySet
from django.template.defaultfilters import filesizeformat
from django.utils import dates, timezone
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from campaigns import files, launch, pace, variants
from campaigns.changes import MOST_STEPS, Wanted, WantedVariant
from campaigns.consent import Evidence, Source
from campaigns.contact_columns import NAMES
from campaigns.intake import Grounds, receive
from campaigns.models import (
    Basis,
    Campaign,
    Contact,
    ContactList,
    Duplicates,
    FeedEntry,
    Intake,
    Metric,
    Step,
    StopOn,
    StopScope,
)
from campaigns.sequence import Condition, Otherwise
from campaigns.variants import Text
from providers.accounts.routing import Route
from tenants import context

SCHEDULE = ("weekdays", "window_from", "window_until", "timezone", "window_zone", "holidays")
WHEN = (*SCHEDULE, "new_contacts_per_day", "per_domain_per_day", "gap_seconds", "gap_jitter_seconds")
SEQUENCE = ("duplicates", "stop_on", "stop_scope", "goal_url")
STEP = ("id", "delay", "unit", "condition", "otherwise", "subject", "html", "text")
VARIANTS = ("weight", "compare_by", "auto_choice", "least_sends", "sure_at")
TRACKING = ("track_opens", "track_clicks")
# What a file may say; a consent that was withdrawn is no basis.
GROUNDS = [choice for choice in Basis.choices if choice[0] != Basis.WITHDRAWN]
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
        super().__init__(choices=lambda: [("", _("No country")), *_countries()], required=False, **kwargs)


def _countries() -> list[tuple[str, str]]:
    """Codes and names in the language of the page."""
    names = Locale.parse(get_language() or "en", sep="-").territories
    return sorted(((code, names.get(code, name)) for code, name in pace.countries().items()), key=lambda one: one[1])


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


class ContactForm(forms.Form):
    """A contact's fields: those of everybody, those that the contact has, and those that are `asked` for."""

    def __init__(self, contact: Contact, asked: Sequence[str], *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attributes = contact.attributes if isinstance(contact.attributes, dict) else {}
        own = [name for name, value in attributes.items() if isinstance(value, str)]
        for name in dict.fromkeys((*NAMES, *asked, *own)):
            known = getattr(contact, name, "") if name in NAMES else attributes.get(name, "")
            label = Contact._meta.get_field(name).verbose_name if name in NAMES else name  # type: ignore[union-attr]
            self.fields[name] = forms.CharField(label=label, required=False, initial=known)

    @property
    def changed(self) -> dict[str, str]:
        """What was written anew, by name."""
        return {name: self.cleaned_data[name] for name in self.changed_data}


class BasisForm(forms.Form):
    """On what grounds a contact is written to, and the evidence of it."""

    basis = forms.ChoiceField(
        label=gettext_lazy("They may be written to because of"),
        choices=lambda: [("", _("Not known")), *Basis.choices],
        required=False,
        help_text=gettext_lazy(
            "Without consent no account that requires it takes their mails. To stop all mails, let them never be"
            " written to again."
        ),
    )
    list = forms.ModelChoiceField(
        label=gettext_lazy("For"),
        queryset=ContactList.objects.none(),
        required=False,
        empty_label=gettext_lazy("all mails"),
    )
    at = forms.DateTimeField(
        label=gettext_lazy("When"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
        help_text=gettext_lazy("Left out: now."),
    )
    where = forms.CharField(
        label=gettext_lazy("Where they gave it"),
        max_length=300,
        required=False,
        help_text=gettext_lazy("Such as the address of a form, a trade fair or a contract. Kept as evidence."),
    )
    text = forms.CharField(
        label=gettext_lazy("What they were shown"),
        max_length=10_000,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
    )

    def __init__(self, *args: Any, lists: QuerySet[ContactList], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Beside the contact's own fields, which may have any name.
        self.auto_id = "basis_%s"
        choice = self.fields["list"]
        assert isinstance(choice, forms.ModelChoiceField)
        choice.queryset = lists

    def evidence(self, *, by: str, now: datetime) -> Evidence:
        """What is kept of it, as `by` says."""
        found = self.cleaned_data
        at = found["at"] or now
        return Evidence(Source.PERSON, at, text=found["text"], detail=found["where"], by=by)


class StepFileForm(forms.Form):
    """A file for a step, attached to its mails or shown in them."""

    file = forms.FileField(
        label=gettext_lazy("File"),
        widget=forms.FileInput(attrs={"accept": ",".join(f".{ending}" for ending in files.KINDS)}),
    )
    inline = forms.BooleanField(
        label=gettext_lazy("A picture that the HTML shows"),
        required=False,
        help_text=gettext_lazy("Unticked, it is attached."),
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


class EndpointForm(forms.Form):
    """A webhook: where it leads, and what is posted there."""

    url = forms.CharField(
        label=gettext_lazy("Address"),
        max_length=500,
        widget=forms.URLInput(attrs={"placeholder": "https://example.com/hook", "autocomplete": "off"}),
        help_text=gettext_lazy("Begins with https:// and can be reached from the internet."),
    )
    name = forms.CharField(label=gettext_lazy("Name"), max_length=120, required=False)
    kinds = forms.MultipleChoiceField(
        label=gettext_lazy("Events"),
        choices=FeedEntry.Kind.choices,
        widget=forms.CheckboxSelectMultiple,
        required=False,
        help_text=gettext_lazy("With none ticked it gets all of them."),
    )


class RedeliverForm(forms.Form):
    """Since when what has failed is posted again."""

    failed_since = forms.DateTimeField(
        label=gettext_lazy("Failed since"),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format="%Y-%m-%dT%H:%M"),
    )


class VariantFields(forms.Form):
    """Further texts that are tried for a mail, B to F, and how one is chosen. A text without any words is none.

    Each has fields of its own, so that a page without scripts has them all.
    """

    weight = forms.IntegerField(
        label=gettext_lazy("Weight of text A"),
        min_value=0,
        max_value=variants.MOST_WEIGHT,
        initial=1,
        required=False,
        help_text=gettext_lazy("Beside those of its variants; of 0, nobody new gets it."),
    )
    compare_by = forms.ChoiceField(label=gettext_lazy("Compare by"), choices=Metric.choices, required=False)
    auto_choice = forms.BooleanField(
        label=gettext_lazy("Choose the best automatically"),
        required=False,
        help_text=gettext_lazy("Once it is known, new contacts get it. You can take that back."),
    )
    least_sends = forms.IntegerField(
        label=gettext_lazy("Mails of each before that"), min_value=30, max_value=1_000_000, initial=100, required=False
    )
    sure_at = forms.IntegerField(
        label=gettext_lazy("Certainty, %"), min_value=80, max_value=99, initial=95, required=False
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for letter in variants.FURTHER:
            self.fields[f"subject_{letter}"] = forms.CharField(label=_("Subject"), max_length=250, required=False)
            self.fields[f"html_{letter}"] = forms.CharField(
                label="HTML", required=False, strip=False, widget=forms.Textarea(attrs={"rows": 4})
            )
            self.fields[f"text_{letter}"] = forms.CharField(
                label=_("Plain text"), required=False, strip=False, widget=forms.Textarea(attrs={"rows": 2})
            )
            self.fields[f"weight_{letter}"] = forms.IntegerField(
                label=_("Weight"), min_value=0, max_value=variants.MOST_WEIGHT, initial=1, required=False
            )

    @property
    def slots(self) -> list[dict[str, Any]]:
        """The places for further texts; those in use are open."""
        return [
            {
                "letter": letter,
                "used": any(self[f"{name}_{letter}"].value() for name in ("subject", "html", "text")),
                "errors": any(self[f"{name}_{letter}"].errors for name in ("subject", "html", "text", "weight")),
                "fields": [self[f"{name}_{letter}"] for name in ("subject", "html", "text", "weight")],
            }
            for letter in variants.FURTHER
        ]

    @property
    def has_variants(self) -> bool:
        """Whether any of the places is in use."""
        return any(slot["used"] or slot["errors"] for slot in self.slots)

    def wanted_variants(self, known: Collection[str]) -> dict[str, Any]:
        """Of a step as it is to be, what concerns its variants; it has those of the letters `known` so far."""
        given = self.cleaned_data
        texts = [
            WantedVariant(
                letter if letter in known else "",
                given[f"subject_{letter}"],
                given[f"html_{letter}"],
                given[f"text_{letter}"],
                1 if given[f"weight_{letter}"] is None else given[f"weight_{letter}"],
            )
            for letter in variants.FURTHER
            if any(given[f"{name}_{letter}"].strip() for name in ("subject", "html", "text"))
        ]
        settings = {name: given[name] for name in VARIANTS if given[name] not in ("", None)}
        return {**settings, "variants": tuple(texts)}


class StepForm(VariantFields):
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

    def has_changed(self) -> bool:
        """Whether anybody has written in it: how variants are chosen is nothing without a text."""
        return any(name not in VARIANTS and not name.startswith("weight_") for name in self.changed_data)

    def wanted(self) -> Wanted:
        """The step as it is to be."""
        given = {name: self.cleaned_data[name] for name in STEP if self.cleaned_data[name] not in ("", None)}
        return Wanted(**given, **self.wanted_variants(self.initial.get("letters", ())))


class _Steps(forms.BaseFormSet):  # type: ignore[type-arg]
    deletion_widget = forms.HiddenInput

    @property
    def wanted(self) -> list[Wanted]:
        """The steps that are to be, in their order; those of forms nobody has touched are not."""
        return [form.wanted() for form in self.forms if not form.cleaned_data.get("DELETE") and form.cleaned_data != {}]


def initial(one: Wanted) -> dict[str, Any]:
    """What the form of a step is filled with; `letters` are those of its variants."""
    found = asdict(one)
    further = found.pop("variants") or ()
    for text in further:
        found |= {f"{name}_{text['letter']}": text[name] for name in ("subject", "html", "text", "weight")}
    return {**found, "letters": [text["letter"] for text in further]}


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
            step = self._step(cleaned)
            for problem in launch.check_texts(draft, [Text(1, "", step.subject, step.html, step.text)]):
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

    basis = forms.ChoiceField(
        label=gettext_lazy("They may be written to because of"),
        choices=lambda: [("", _("Not known")), *GROUNDS, (Intake.BY_COLUMN, _("What the column “basis” says"))],
        required=False,
        help_text=gettext_lazy("Some accounts take mails only to contacts who have given consent."),
    )
    consent_source = forms.CharField(
        label=gettext_lazy("Where they gave it"),
        required=False,
        max_length=300,
        help_text=gettext_lazy("Such as the address of a form, a trade fair or a contract. Kept as evidence."),
    )
    consent_on = forms.DateField(
        label=gettext_lazy("When"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    consent_text = forms.CharField(
        label=gettext_lazy("What they were shown"),
        required=False,
        max_length=4000,
        widget=forms.Textarea(attrs={"rows": 2}),
    )

    def __init__(self, *args: Any, lists: QuerySet[ContactList], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        choice = self.fields["list"]
        assert isinstance(choice, forms.ModelChoiceField)
        choice.queryset = lists

    def clean_consent_on(self) -> date | None:
        day: date | None = self.cleaned_data["consent_on"]
        if day and day > timezone.localdate():
            raise ValidationError(_("That day has not come yet."))
        return day

    def grounds(self, *, by: str) -> Grounds:
        """On what the contacts may be written to, as `by` says."""
        found, day = self.cleaned_data, self.cleaned_data["consent_on"]
        at = datetime.combine(day, time(12), context.current_agency().zone) if day else None
        return Grounds(found["basis"], found["consent_source"], at, found["consent_text"], by)

    def receive(self, *, by: str, now: datetime) -> Intake:
        """Take the file in, see `intake.receive`; a list of a new name is made."""
        file = self.cleaned_data["file"]
        return receive(file.file, file_name=file.name, into=self.into(), now=now, grounds=self.grounds(by=by))

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
        if cleaned.get("basis") == Basis.CONSENT and not cleaned.get("consent_source", "").strip():
            self.add_error("consent_source", _("Say where they gave consent: without evidence it is none."))
        if not cleaned.get("list") and not cleaned.get("new_list") and "new_list" not in self.errors:
            self.add_error("new_list", _("Choose a list, or name the new one."))
        if cleaned.get("list") and cleaned.get("new_list"):
            self.add_error("new_list", _("Choose a list or name a new one, not both."))
        return cleaned

    def into(self) -> ContactList:
        """The list to import into; a name that a list has already means that list."""
        chosen: ContactList | None = self.cleaned_data["list"]
        return chosen or ContactList.objects.get_or_create(name=self.cleaned_data["new_list"])[0]
