"""What programs read about campaigns."""

from typing import Any

from django.http import Http404
from django.shortcuts import get_object_or_404
from django.utils.translation import gettext as _
from rest_framework import serializers
from rest_framework.decorators import action
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.pagination import PageNumberPagination
from rest_framework.parsers import MultiPartParser
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.viewsets import ViewSet

from campaigns import (
    access,
    actions,
    answers,
    changes,
    choices,
    consent,
    conversations,
    erasure,
    feed,
    files,
    forecast,
    held,
    hooks,
    inspection,
    pace,
    results,
    signups,
)
from campaigns.explain import explain
from campaigns.forms import UploadForm
from campaigns.intake import IntakeRefused
from campaigns.jobs import take_file
from campaigns.models import (
    Basis,
    Campaign,
    ConsentEntry,
    ContactList,
    Endpoint,
    Erasure,
    FeedEntry,
    HookAttempt,
    HookDelivery,
    Intake,
    Message,
    Metric,
    ReplyLabel,
    StepFile,
    Subscription,
    TrialMail,
)
from campaigns.progress import progress
from campaigns.sequence import Condition, Otherwise
from campaigns.variants import MOST_WEIGHT
from tenants import clock, context, jobs
from tenants.users.models import User


class CampaignSerializer(serializers.ModelSerializer[Campaign]):
    """A campaign as it was set up, and its times. Every time is ISO 8601 with its offset."""

    list = serializers.CharField(source="list.name", help_text="Name of the list it writes to.")

    class Meta:
        model = Campaign
        fields = (
            "id",
            "name",
            "list",
            "status",
            "traffic_class",
            "distribution",
            "shares",
            "overflow",
            "weekdays",
            "window_from",
            "window_until",
            "timezone",
            "window_zone",
            "holidays",
            "new_contacts_per_day",
            "per_domain_per_day",
            "gap_seconds",
            "gap_jitter_seconds",
            "duplicates",
            "stop_on",
            "stop_scope",
            "goal_url",
            "track_opens",
            "track_clicks",
            "paused_reason",
            "paused_detail",
            "created_at",
            "launched_at",
            "finished_at",
        )
        extra_kwargs = {
            "status": {"help_text": "draft, running, paused, finished or cancelled."},
            "shares": {"help_text": "Percent of the mails by account name; empty unless `distribution` is shares."},
            "overflow": {"help_text": "Where mails go whose account is full: reroute or wait."},
            "weekdays": {"help_text": "Days on which it sends: 0 is Monday, 6 is Sunday."},
            "window_from": {"help_text": "The first time of a day, HH:MM:SS; null is midnight."},
            "window_until": {"help_text": "The end of a day's window, itself outside of it; null is midnight."},
            "timezone": {"help_text": "A name of the tz database; empty is the agency's time zone."},
            "window_zone": {"help_text": "Whose time days and hours are in: campaign or recipient."},
            "holidays": {"help_text": "ISO 3166-1 code of the country on whose holidays it does not send, or empty."},
            "new_contacts_per_day": {"help_text": "Most first mails in a day of the agency; null is no limit."},
            "per_domain_per_day": {"help_text": "Most mails a day to each recipient domain; null is no limit."},
            "gap_seconds": {"help_text": "Least seconds between two mails of a sender; null is the class's own."},
            "gap_jitter_seconds": {"help_text": "Up to so many random seconds more; null is the class's own."},
            "duplicates": {"help_text": "Whose contacts its launch leaves out: campaign (its own), active or any."},
            "stop_on": {"help_text": "What ends it for a contact beside complaints and opt-outs: reply, bounce, goal."},
            "stop_scope": {"help_text": "For whom it ends then: campaign, agency (all campaigns) or company."},
            "goal_url": {"help_text": "A click on a link that begins with it reaches the goal; empty is none."},
            "track_opens": {"help_text": "Whether its HTML has a pixel."},
            "track_clicks": {"help_text": "Whether links of its HTML lead through the agency's own host."},
            "paused_reason": {"help_text": "Why the machine paused it, for programs; empty where a person did."},
            "paused_detail": {"help_text": "Names of the accounts that this is about."},
            "launched_at": {"help_text": "null while it is a draft."},
            "finished_at": {"help_text": "When it was finished or cancelled, else null."},
        }


class VariantSerializer(serializers.Serializer[Any]):
    """A further text that is tried for a step, whose own is A."""

    letter = serializers.CharField(
        max_length=1, default="", allow_blank=True, help_text="B to F; empty or left out is a new one."
    )
    weight = serializers.IntegerField(
        min_value=0, max_value=MOST_WEIGHT, default=1, help_text="Beside the others'; of 0 nobody new gets it."
    )
    subject = serializers.CharField(max_length=250, default="", allow_blank=True)
    html = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)
    text = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)


class StepFileSerializer(serializers.ModelSerializer[StepFile]):
    """A file that goes with a step's mails."""

    class Meta:
        model = StepFile
        fields = ("id", "name", "content_type", "inline", "size", "digest", "by", "added_at")
        read_only_fields = fields
        extra_kwargs = {
            "inline": {"help_text": "A picture that the HTML shows as cid: and its name; else it is attached."},
            "size": {"help_text": "Bytes."},
            "digest": {"help_text": "SHA-256 of its content."},
        }


class StepFileUploadSerializer(serializers.Serializer[Any]):
    """A file for a step, as multipart/form-data."""

    file = serializers.FileField(allow_empty_file=True, help_text="5 MB at most, its name as readers see it.")
    inline = serializers.BooleanField(default=False, help_text="Whether the HTML shows it, as cid: and its name.")


class StepSerializer(serializers.Serializer[Any]):
    """One step of a campaign. The first has no use for its delay and its condition."""

    id = serializers.IntegerField(required=False, allow_null=True, help_text="null or left out is a new step.")
    delay = serializers.IntegerField(min_value=1, max_value=999, default=3, help_text="After the mail before.")
    unit = serializers.ChoiceField(choices=pace.Unit.choices, default=pace.Unit.DAYS)
    condition = serializers.ChoiceField(choices=Condition.choices, default=Condition.NONE, allow_blank=True)
    otherwise = serializers.ChoiceField(
        choices=Otherwise.choices, default=Otherwise.NEXT, help_text="What becomes of who does not meet the condition."
    )
    subject = serializers.CharField(
        max_length=250, default="", allow_blank=True, help_text="Empty: in the thread of the mail before."
    )
    html = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)
    text = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)
    variants = VariantSerializer(
        many=True,
        required=False,
        allow_null=True,
        help_text="Up to five texts beside the step's own, A. null or left out: as they were, as with all below.",
    )
    weight = serializers.IntegerField(
        min_value=0, max_value=MOST_WEIGHT, required=False, allow_null=True, help_text="Of the step's own text."
    )
    compare_by = serializers.ChoiceField(
        choices=Metric.choices, required=False, allow_null=True, help_text="replied, clicked or opened, by people."
    )
    auto_choice = serializers.BooleanField(
        required=False, allow_null=True, help_text="Whether new contacts get the best variant once it is known."
    )
    least_sends = serializers.IntegerField(
        min_value=30, max_value=1_000_000, required=False, allow_null=True, help_text="Mails of each variant before."
    )
    sure_at = serializers.IntegerField(
        min_value=80,
        max_value=99,
        required=False,
        allow_null=True,
        help_text="Of 100 comparisons of equal texts, so many end without a winner, however often one looks.",
    )
    files = serializers.SerializerMethodField(help_text="What goes with its mails; see …/steps/{step}/files/.")

    def get_files(self, step: changes.Wanted) -> Any:
        found = StepFile.objects.filter(step=step.id).defer("content") if step.id else ()
        return StepFileSerializer(found, many=True).data


class EffectSerializer(serializers.Serializer[Any]):
    """What a change of the steps does to contacts. Places are those after the change."""

    count = serializers.IntegerField()
    step = serializers.IntegerField(
        help_text="Place, before the change, of the step that they wait for; null is none. 1: they have had none."
    )
    to = serializers.IntegerField(help_text="Place of the step that follows now; null is none.")
    before = serializers.ListField(child=serializers.DateTimeField(), help_text="First and last due time so far.")
    after = serializers.ListField(
        child=serializers.DateTimeField(), help_text="The same after the change; null where a condition decides."
    )
    shares = serializers.DictField(
        child=serializers.IntegerField(),
        help_text="Where it is about variants: percent by letter of those who have not had the step, else null.",
    )
    words = serializers.ListField(
        child=serializers.CharField(),
        help_text="Names of the texts with other words, such as 2B, where it is about those.",
    )
    text = serializers.CharField(help_text="The same in words.")


class StepsSerializer(serializers.Serializer[Any]):
    """The steps of a campaign, in their order, and what a change of them does."""

    steps = StepSerializer(many=True, allow_empty=False)
    seen = serializers.CharField(
        default="", allow_blank=True, help_text="Of the answer that told the effects; without it they are only told."
    )
    effects = EffectSerializer(many=True, read_only=True)
    saved = serializers.BooleanField(read_only=True, help_text="Whether the campaign has these steps.")


class AccountProgressSerializer(serializers.Serializer[Any]):
    """The mails of one account."""

    name = serializers.CharField()
    kind = serializers.CharField(help_text="What the provider is called.")
    planned = serializers.IntegerField(help_text="Mails that the launch planned for it.")
    sent = serializers.IntegerField(help_text="Mails that went through it, also ones planned for another.")
    percent = serializers.IntegerField(help_text="sent in percent of planned, at most 100.")


class ReasonSerializer(serializers.Serializer[Any]):
    """Mails that have not gone out for one reason."""

    code = serializers.CharField(help_text="For programs: it does not change.")
    label = serializers.CharField(help_text="The reason in words.")  # type: ignore[assignment]
    count = serializers.IntegerField()
    clears_at = serializers.DateTimeField(help_text="When the first of them may go, null where that is not known.")


class ReadershipSerializer(serializers.Serializer[Any]):
    """Mails that were opened or clicked, each under the likeliest person who did; they add up to the count."""

    human = serializers.IntegerField(help_text="By people.")
    machine = serializers.IntegerField(help_text="By programs: scanners, prefetchers, privacy proxies.")
    unclear = serializers.IntegerField(help_text="By nobody knows whom.")


class ToldSerializer(serializers.Serializer[Any]):
    """Mails of which one thing is known."""

    code = serializers.CharField(help_text="delivered, opened, clicked, replied, bounced, complained or unsubscribed.")
    label = serializers.CharField(help_text="The same in words.")  # type: ignore[assignment]
    count = serializers.IntegerField()
    percent = serializers.FloatField(
        help_text="Of those sent, delivered of those whose provider tells; two decimals; null of none."
    )
    measured = serializers.BooleanField(help_text="false where the campaign does not look for it: no 0 says anything.")
    readers = ReadershipSerializer(help_text="Of opened and clicked who did, else null.")


class ProgressSerializer(serializers.Serializer[Any]):
    """Mails by what became of them: total = sent + the sum of the reasons' counts, exactly."""

    total = serializers.IntegerField(help_text="Mails that were planned; 0 for a draft.")
    sent = serializers.IntegerField(help_text="Taken by a provider.")
    in_progress = serializers.IntegerField(help_text="With a worker now.")
    waiting = serializers.IntegerField(help_text="In the queue, or held until a person changes something.")
    failed = serializers.IntegerField(help_text="Surely not sent, and never will be.")
    in_doubt = serializers.IntegerField(help_text="Perhaps sent: the answer was lost. Not sent again.")
    cancelled = serializers.IntegerField()
    percent = serializers.IntegerField(help_text="sent in percent of total; 100 only when all are sent.")
    rate_per_minute = serializers.IntegerField(help_text="Mails sent in the last 60 s; null when nothing moves.")
    live = serializers.BooleanField(help_text="Whether the numbers will change without anybody doing anything.")
    updated_at = serializers.DateTimeField()
    accounts = AccountProgressSerializer(many=True)
    reasons = ReasonSerializer(many=True)
    told = ToldSerializer(many=True, help_text="What became of the mails that were sent, as far as it is known.")


class NumberSerializer(serializers.Serializer[Any]):
    """What the agency has used of one limit."""

    label = serializers.CharField()  # type: ignore[assignment]
    used = serializers.IntegerField()
    allowed = serializers.IntegerField()


class EventSerializer(serializers.Serializer[Any]):
    """Something that was reported of a mail."""

    code = serializers.CharField(help_text="sent, delivered, deferred, bounced, opened, …: it does not change.")
    label = serializers.CharField(help_text="The same in words.")  # type: ignore[assignment]
    at = serializers.DateTimeField()
    source = serializers.CharField(help_text="Who reports it: the kind of an account, or a part of ours.")  # type: ignore[assignment]
    detail = serializers.CharField(help_text="What the far end said.")


class MessageSerializer(serializers.Serializer[Any]):
    """One mail: where it is, and why it has not gone."""

    key = serializers.UUIDField()
    campaign = serializers.CharField(help_text="Name of its campaign.")
    to = serializers.CharField(help_text="The contact's address.")
    step = serializers.IntegerField(help_text="Place of its step; null of one that was taken out.")
    variant = serializers.CharField(help_text="Letter of its text, A being the step's own; empty: it had but one.")
    status = serializers.ChoiceField(choices=Message.Status.choices)
    code = serializers.CharField(help_text="Why it has not gone, for programs; empty once it is sent.")
    label = serializers.CharField(help_text="The same in words.")  # type: ignore[assignment]
    next = serializers.CharField(help_text="What will end the doubt, in words; empty unless it is in doubt.")
    detail = serializers.CharField(help_text="What the provider said, or what could not be done.")
    due_at = serializers.DateTimeField()
    clears_at = serializers.DateTimeField(help_text="The earliest time it may go, null where that is not known.")
    sent_at = serializers.DateTimeField()
    account = serializers.CharField(help_text="Name of the account that it goes or went through.")
    sender = serializers.CharField(help_text="Address that it is or was sent from, empty while that is not chosen.")
    attempts = serializers.IntegerField()
    attempted_at = serializers.DateTimeField()
    refused_by = serializers.ListField(child=serializers.CharField(), help_text="Accounts that refused it.")
    numbers = NumberSerializer(many=True, help_text="The limits that bind it while it waits.")
    events = EventSerializer(many=True, help_text="What was heard of it, the latest last; 50 at most.")


class ForeseenDaySerializer(serializers.Serializer[Any]):
    """One of the agency's days."""

    day = serializers.DateField()
    total = serializers.IntegerField(help_text="Mails of the day.")
    accounts = serializers.DictField(child=serializers.IntegerField(), help_text="The same by account name.")
    limit = serializers.CharField(help_text="What keeps more from going, for programs.")
    limit_label = serializers.CharField(help_text="The same in words.")
    left = serializers.IntegerField(help_text="Mails that are left after the day.")


class WithoutSerializer(serializers.Serializer[Any]):
    """What still goes if an account dies now."""

    account = serializers.CharField(help_text="Name of the account.")
    percent = serializers.IntegerField(
        help_text="Of all mails of that day, also of other campaigns, those that still go."
    )
    day = serializers.DateField(help_text="The first day on which mails go.")


class CostSerializer(serializers.Serializer[Any]):
    """$, as strings with two decimals."""

    rent = serializers.DecimalField(12, 2, help_text="The accounts' price for the days on which it sends through them.")
    mails = serializers.DecimalField(12, 2, help_text="Mails beyond those within that price.")
    total = serializers.DecimalField(12, 2)


class ConsentSerializer(serializers.Serializer[Any]):
    """Contacts of a draft who have given no consent, where an account requires it."""

    without = serializers.IntegerField(help_text="How many contacts that are.")
    held = serializers.IntegerField(help_text="Those of their mails that wait, for no account takes them.")
    accounts = serializers.ListField(child=serializers.CharField(), help_text="Accounts that they do not leave by.")
    text = serializers.CharField(help_text="The same in words.")


class ForecastSerializer(serializers.Serializer[Any]):
    """What is foreseen of the mails that have not gone; of a draft, as if it were launched now."""

    made_at = serializers.DateTimeField()
    mails = serializers.IntegerField()
    finishes_on = serializers.DateField(help_text="null if it never does.")
    cost = CostSerializer(
        source="own_cost",
        help_text="Of the accounts that the agency has brought itself; null where it has brought none.",
    )
    days = ForeseenDaySerializer(many=True)
    without = WithoutSerializer(many=True)
    problems = serializers.ListField(child=serializers.CharField(), help_text="What is wrong, in words.")
    consent = ConsentSerializer(help_text="null where all have given it or no account requires it.")


class ComparedSerializer(serializers.Serializer[Any]):
    """One of the agency's days."""

    day = serializers.DateField()
    foreseen = serializers.IntegerField(help_text="Mails, by the forecast made at launch.")
    sent = serializers.IntegerField()


class OutcomeSerializer(serializers.Serializer[Any]):
    """What came of the forecast that was made at launch."""

    made_at = serializers.DateTimeField()
    foreseen_on = serializers.DateField(help_text="The finish by the forecast; null was never.")
    finishes_on = serializers.DateField(help_text="The finish, or what is expected of it now.")
    days_late = serializers.IntegerField(help_text="Between the two, below zero for early; null if one is not known.")
    error_percent = serializers.IntegerField(help_text="Mails sent beside those foreseen, on days that are over.")
    days = ComparedSerializer(many=True)


class ForecastReportSerializer(serializers.Serializer[Any]):
    """What is foreseen and what came of it."""

    forecast = ForecastSerializer(help_text="null for a campaign that is over.")
    outcome = OutcomeSerializer(help_text="null for a draft.")


class FindingSerializer(serializers.Serializer[Any]):
    """One thing to be said of a campaign's texts before its launch."""

    code = serializers.CharField(help_text="What it is, for programs.")
    severity = serializers.ChoiceField(choices=inspection.Severity.choices)
    where = serializers.IntegerField(help_text="Position of its step; null for the campaign as a whole.")
    variant = serializers.CharField(help_text="Letter of its text, empty where its step has one.")
    text = serializers.CharField(help_text="What it is and what to do, in words.")


class StepCountsSerializer(serializers.Serializer[Any]):
    """Mails of a step or of one of its texts. Opens and clicks are those by people; null is not measured."""

    due = serializers.IntegerField(help_text="Mails that were planned so far.")
    sent = serializers.IntegerField()
    opened = serializers.IntegerField()
    clicked = serializers.IntegerField()
    replied = serializers.IntegerField()
    bounced = serializers.IntegerField()
    unsubscribed = serializers.IntegerField()


class TextResultSerializer(serializers.Serializer[Any]):
    """One text of a step that has variants."""

    letter = serializers.CharField(help_text="A is the step's own; empty: mails from before it had variants.")
    subject = serializers.CharField()
    weight = serializers.IntegerField(help_text="Of 0, nobody new gets it.")
    counts = StepCountsSerializer()
    compared = serializers.IntegerField(help_text="Mails that went out side by side with the others.")
    did = serializers.IntegerField(help_text="Those of them of which what is compared is known.")
    best = serializers.FloatField(help_text="Probability, 0 to 1, that it is the best; null if it is not compared.")
    loss = serializers.FloatField(help_text="What its choice loses on average, as a part of all its mails; or null.")


class StepResultSerializer(serializers.Serializer[Any]):
    """One step in numbers."""

    id = serializers.IntegerField()
    place = serializers.IntegerField(help_text="Counted from 1; null for a step that was taken out.")
    subject = serializers.CharField()
    counts = StepCountsSerializer()
    texts = TextResultSerializer(many=True, help_text="Empty for a step without variants.")
    compare_by = serializers.CharField(help_text="replied, clicked or opened, by people.")
    auto_choice = serializers.BooleanField()
    sure_at = serializers.IntegerField(help_text="Percent of comparisons of equal texts that end without a winner.")
    chosen = serializers.CharField(help_text="Letter that new contacts get; empty: all by their weights.")
    chosen_at = serializers.DateTimeField()
    verdict = serializers.CharField(help_text="early, open, winner, same (no difference), or empty without variants.")
    leader = serializers.CharField(help_text="Letter of the likeliest best.")
    more = serializers.IntegerField(
        help_text="Further mails of all texts until there is an answer, if it goes on so; null: more than 100,000."
    )
    told = serializers.CharField(help_text="The same in words.")


class ChoiceSerializer(serializers.Serializer[Any]):
    """A text of a step to be chosen."""

    variant = serializers.CharField(max_length=1, allow_blank=True, help_text="A to F; empty takes the choice back.")


class MissingSerializer(serializers.Serializer[Any]):
    """Mails that are held because their contacts have no value in a field."""

    name = serializers.CharField(help_text="The field, as texts name it.")
    count = serializers.IntegerField(help_text="Mails.")


class ListSerializer(serializers.ModelSerializer[ContactList]):
    """A list and how one signs up for it. What a change does not name stays."""

    # Not by their default: what a change leaves out is no value.
    double_opt_in = serializers.BooleanField(
        required=False,
        help_text="Whether each sign-up is confirmed by mail. Written with the permission to change lists.",
    )
    sign_up_open = serializers.BooleanField(
        required=False, help_text="Whether it takes sign-ups; a closed page answers 410, mails before can be confirmed."
    )
    sign_up_url = serializers.SerializerMethodField(help_text="Its public page; forms post there.")

    class Meta:
        model = ContactList
        fields = ("id", "name", "double_opt_in", "sign_up_open", "sign_up_url", "created_at")
        read_only_fields = ("name",)

    def get_sign_up_url(self, into: ContactList) -> str:
        return signups.url_of(into, self.context["own"])


class SubscriptionSerializer(serializers.ModelSerializer[Subscription]):
    """A contact's membership of a list."""

    list = serializers.IntegerField(source="list_id", help_text="Id of the list.")
    name = serializers.CharField(source="list.name", help_text="Name of the list.")

    class Meta:
        model = Subscription
        fields = ("list", "name", "active", "basis", "created_at")
        extra_kwargs = {
            "active": {"help_text": "false: no campaign takes the contact from this list."},
            "basis": {"help_text": "Why that list's mails may be sent to them; empty: as the contact's own."},
        }


class EvidenceSerializer(serializers.ModelSerializer[ConsentEntry]):
    """Evidence: a contact's basis changed. It is never changed, and deleted by the erasure of the person alone."""

    list = serializers.IntegerField(source="list_id", help_text="Id of the list; null is all mails.")
    where = serializers.CharField(source="detail", help_text="Where they gave it.")
    text = serializers.CharField(source="shown", help_text="What they were shown.")

    class Meta:
        model = ConsentEntry
        fields = (
            "list",
            "basis",
            "source",
            "at",
            "recorded_at",
            "email",
            "where",
            "text",
            "remote_ip",
            "user_agent",
            "by",
        )
        extra_kwargs = {
            "basis": {"help_text": "Empty: none known, or of a sign-up, not confirmed yet."},
            "source": {"help_text": "import, person, api, sign_up, confirmation or opt_out."},
            "at": {"help_text": "When it was given or taken back."},
            "by": {"help_text": "Who recorded it; empty for the contact themselves."},
        }


class BasisSerializer(serializers.Serializer[Any]):
    """On what grounds a contact is written to, with its evidence."""

    basis = serializers.ChoiceField(choices=Basis.choices, allow_blank=True, help_text="Empty: none known.")
    list = serializers.IntegerField(
        required=False, allow_null=True, min_value=1, max_value=2**63 - 1, help_text="Id; null or left out: all mails."
    )
    at = serializers.DateTimeField(required=False, help_text="When it was given; left out: now.")
    where = serializers.CharField(max_length=300, default="", allow_blank=True, help_text="Where they gave it.")
    text = serializers.CharField(
        max_length=10_000,
        default="",
        allow_blank=True,
        help_text="What they were shown. A consent needs it or `where`.",
    )
    remote_ip = serializers.IPAddressField(default=None, allow_null=True, help_text="From which address they gave it.")
    user_agent = serializers.CharField(max_length=300, default="", allow_blank=True)


class ContactSerializer(serializers.Serializer[Any]):
    """A contact. What a change does not name stays; so do attributes that it does not name."""

    id = serializers.IntegerField(read_only=True)
    email = serializers.EmailField(read_only=True)
    first_name = serializers.CharField(required=False, allow_blank=True)
    last_name = serializers.CharField(required=False, allow_blank=True)
    company = serializers.CharField(required=False, allow_blank=True)
    attributes = serializers.DictField(child=serializers.CharField(allow_blank=True), required=False)
    basis = serializers.CharField(
        read_only=True,
        help_text="Its lawful basis as a whole: written by …/consent/, with evidence. Empty: none known.",
    )
    subscriptions = SubscriptionSerializer(many=True, read_only=True)
    created_at = serializers.DateTimeField(read_only=True)


class TrialAskedSerializer(serializers.Serializer[Any]):
    """A step's mail for people of the agency."""

    step = serializers.IntegerField(default=1, help_text="Its place.")
    contact = serializers.EmailField(help_text="Whose mail it is: an address of the campaign's list.")
    to = serializers.ListField(
        child=serializers.EmailField(),
        default=list,
        help_text="Up to five people who have signed in to this agency. Empty: the key's user.",
    )


class TrialSerializer(serializers.ModelSerializer[TrialMail]):
    """A test mail, and what became of it."""

    step = serializers.IntegerField(source="step.position", help_text="Its place.")
    detail = serializers.CharField(source="said", help_text="Why it waits or was not sent.")
    account = serializers.CharField(source="account.name", default="", help_text="Name of the account.")
    sender = serializers.CharField(source="sender.address", default="", help_text="Address that it was sent from.")

    class Meta:
        model = TrialMail
        fields = (
            "key",
            "step",
            "recipient",
            "by",
            "status",
            "detail",
            "account",
            "sender",
            "asked_at",
            "sent_at",
            "came_back",
            "came_back_at",
            "came_back_with",
        )
        extra_kwargs = {
            "came_back": {"help_text": "bounced or complained; empty where neither was heard. It suppresses nobody."},
            "came_back_with": {"help_text": "What the mail server or the provider said."},
        }


class Pages(PageNumberPagination):
    """50 a page, up to 200 with `?page_size=`."""

    page_size = 50
    page_size_query_param = "page_size"
    max_page_size = 200


class CampaignViewSet(ViewSet):
    """The campaigns of the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """All campaigns, the newest first, without their progress."""
        pages = Pages()
        found = pages.paginate_queryset(access.campaigns_for(request.user).select_related("list"), request, view=self)
        return pages.get_paginated_response(CampaignSerializer(found, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One campaign, what became of its mails, through which accounts, and why the rest has not gone."""
        campaign = get_object_or_404(access.campaigns_for(request.user).select_related("list"), pk=pk)
        report = progress(campaign, now=clock.now())
        return Response({**CampaignSerializer(campaign).data, "progress": ProgressSerializer(report).data})

    @action(detail=True)
    def forecast(self, request: Request, pk: str) -> Response:
        """When what waits will have gone, day by day, what keeps it back, what the agency's own accounts cost, and what
        came of the forecast."""
        campaign = get_object_or_404(access.campaigns_for(request.user).select_related("list"), pk=pk)
        return Response(ForecastReportSerializer(forecast.report(campaign, now=clock.now())).data)

    @action(detail=True, methods=["get", "put"])
    def steps(self, request: Request, pk: str) -> Response:
        """The steps. A PUT that changes what comes next for anybody tells so, and saves with `seen` of that answer."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        effects: list[changes.Effect] = []
        saved, seen = True, ""
        if request.method == "PUT":
            given = StepsSerializer(data=request.data)
            given.is_valid(raise_exception=True)
            wanted = [_wanted(one) for one in given.validated_data["steps"]]
            now = clock.now()
            try:
                effects = changes.foresee(campaign, wanted, now=now)
                seen = changes.seal(wanted, effects)
                saved = not effects or changes.is_seen(given.validated_data["seen"], wanted, effects)
                if saved:
                    changes.change(campaign, wanted, now=now)
            except changes.ChangeRefusedError as refused:
                raise serializers.ValidationError({"steps": refused.problems}) from None
        steps = changes.steps_of(campaign) if saved else wanted
        told = {"steps": steps, "seen": seen, "effects": [one.as_dict() for one in effects], "saved": saved}
        return Response(StepsSerializer(told).data)

    @action(detail=True)
    def results(self, request: Request, pk: str) -> Response:
        """Each step in numbers, and each text that is tried for it with what may be said of them."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        return Response(StepResultSerializer(results.results(campaign), many=True).data)

    @action(detail=True, methods=["post"], url_path=r"steps/(?P<step>[0-9]{1,18})/choice")
    def choice(self, request: Request, pk: str, step: str) -> Response:
        """Choose a text of a step for the contacts to come; an empty `variant` takes it back. 409 if none is."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        found = get_object_or_404(campaign.steps.select_related("campaign"), pk=step)
        given = ChoiceSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        letter, by, now = given.validated_data["variant"], request.user.get_username(), clock.now()
        try:
            if letter:
                choices.choose(found, letter, by=by, now=now)
            else:
                choices.take_back(found, by=by, now=now)
        except choices.ChoiceRefusedError as refused:
            raise Conflict(str(refused)) from None
        return Response(StepResultSerializer(results.results(campaign), many=True).data)

    @action(
        detail=True,
        methods=["get", "post"],
        url_path=r"steps/(?P<step>[0-9]{1,18})/files",
        parser_classes=[MultiPartParser],
    )
    def files(self, request: Request, pk: str, step: str) -> Response:
        """The files that go with a step's mails; a POST adds one: 400 says why it may not be."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        found = get_object_or_404(campaign.steps, pk=step)
        if request.method == "POST":
            given = StepFileUploadSerializer(data=request.data)
            given.is_valid(raise_exception=True)
            upload, inline = given.validated_data["file"], given.validated_data["inline"]
            by, now = request.user.get_username(), clock.now()
            try:
                files.add(found, upload.name, files.read(upload), inline=inline, by=by, now=now)
            except files.FileRefusedError as refused:
                raise serializers.ValidationError({"file": [str(refused)]}) from None
        of_step = access.files_for(request.user, campaign).filter(step=found)
        return Response(StepFileSerializer(of_step, many=True).data)

    @action(detail=True, methods=["delete"], url_path=r"steps/(?P<step>[0-9]{1,18})/files/(?P<file>[0-9]{1,18})")
    def file(self, request: Request, pk: str, step: str, file: str) -> Response:
        """Take a file away. 409 once the step has mails."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        found = get_object_or_404(access.files_for(request.user, campaign), pk=file, step=step)
        try:
            files.remove(found)
        except files.FileRefusedError as refused:
            raise Conflict(str(refused)) from None
        return Response(status=204)

    @action(detail=True, url_path="inspection")
    def inspect(self, request: Request, pk: str) -> Response:
        """What is to be said of its texts before it is launched, the worst first; `refused` prevents the launch."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        return Response(FindingSerializer(inspection.inspect(campaign, now=clock.now()), many=True).data)

    @action(detail=True, methods=["get", "post"])
    def held(self, request: Request, pk: str) -> Response:
        """What its held mails lack, the commonest first. A POST tries them again: 409 where there are none."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        if request.method == "POST":
            try:
                actions.take("try-again", campaign, now=clock.now())
            except actions.ActionRefusedError as refused:
                raise Conflict(str(refused)) from None
        return Response(MissingSerializer(held.by_field(campaign), many=True).data)

    @action(detail=True, methods=["get", "post"])
    def trials(self, request: Request, pk: str) -> Response:
        """The latest test mails; a POST sends one to each address given. 409 with the reason where none is sent."""
        campaign = get_object_or_404(access.campaigns_for(request.user), pk=pk)
        if request.method == "POST":
            given = TrialAskedSerializer(data=request.data)
            given.is_valid(raise_exception=True)
            asked = given.validated_data
            step = get_object_or_404(campaign.steps.select_related("campaign"), position=asked["step"])
            contact = get_object_or_404(access.contacts_of(request.user, campaign), email__iexact=asked["contact"])
            try:
                by = request.user.get_username()
                actions.send_trial(step, contact, asked["to"], by=by, now=clock.now())
            except actions.ActionRefusedError as refused:
                raise Conflict(str(refused)) from None
        found = access.trials_for(request.user, campaign)[: Pages.page_size]
        return Response(TrialSerializer(found, many=True).data)


def _wanted(given: dict[str, Any]) -> changes.Wanted:
    further = given.pop("variants", None)
    found = None if further is None else tuple(changes.WantedVariant(**one) for one in further)
    return changes.Wanted(**given, variants=found)


class ContactViewSet(ViewSet):
    """The contacts of the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """All contacts, the newest first, or with `?email=` the one of this address."""
        pages = Pages()
        found = access.everybody_for(request.user).prefetch_related("subscriptions__list").order_by("-pk")
        if address := request.query_params.get("email"):
            # PostgreSQL knows no NUL, and no address has one.
            found = found.none() if "\0" in address else found.filter(email__iexact=address)
        shown = pages.paginate_queryset(found, request, view=self)
        return pages.get_paginated_response(ContactSerializer(shown, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One contact."""
        return Response(ContactSerializer(get_object_or_404(access.everybody_for(request.user), pk=pk)).data)

    @action(detail=True, methods=["get", "post"])
    def consent(self, request: Request, pk: str) -> Response:
        """Its basis, and the latest 200 pieces of evidence. A POST sets a basis, with its evidence.

        409 with the reason where it is refused. It goes around no opt-out: who has left is not mailed before they have
        come back by themselves.
        """
        contact = get_object_or_404(access.everybody_for(request.user), pk=pk)
        if request.method == "POST":
            given = BasisSerializer(data=request.data)
            given.is_valid(raise_exception=True)
            said, now = given.validated_data, clock.now()
            into = get_object_or_404(access.lists_for(request.user), pk=said["list"]) if said.get("list") else None
            evidence = consent.Evidence(
                consent.Source.API,
                said.get("at", now),
                text=said["text"],
                detail=said["where"],
                remote_ip=said["remote_ip"],
                user_agent=said["user_agent"],
                by=request.user.get_username(),
            )
            try:
                consent.enter(contact, said["basis"], evidence, now=now, into=into)
            except consent.ConsentRefusedError as refused:
                raise Conflict(str(refused)) from None
            contact.refresh_from_db()
        told = access.evidence_for(request.user, contact)[:200]
        return Response(
            {**ContactSerializer(contact).data, "evidence": EvidenceSerializer(told, many=True).data},
            status=201 if request.method == "POST" else 200,
        )

    def partial_update(self, request: Request, pk: str) -> Response:
        """Write some of its fields; mails that were held for want of them are tried again."""
        contact = get_object_or_404(access.everybody_for(request.user), pk=pk)
        given = ContactSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        attributes = given.validated_data.pop("attributes", {})
        try:
            actions.change_contact(contact, {**attributes, **given.validated_data}, now=clock.now())
        except actions.ActionRefusedError as refused:
            raise serializers.ValidationError(str(refused)) from None
        return self.retrieve(request, pk)


class ListViewSet(ViewSet):
    """The lists of the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """All lists, by name."""
        pages = Pages()
        found = pages.paginate_queryset(access.lists_for(request.user).order_by("name"), request, view=self)
        return pages.get_paginated_response(ListSerializer(found, many=True, context=_own()).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One list."""
        found = get_object_or_404(access.lists_for(request.user), pk=pk)
        return Response(ListSerializer(found, context=_own()).data)

    def partial_update(self, request: Request, pk: str) -> Response:
        """Open or close it to sign-ups, or say whether they are confirmed by mail."""
        found = get_object_or_404(access.lists_for(request.user), pk=pk)
        given = ListSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        if "double_opt_in" in given.validated_data and not access.may_change_lists(request.user):
            raise PermissionDenied
        signups.change(found, **given.validated_data)
        return self.retrieve(request, pk)


def _own() -> dict[str, str]:
    return {"own": context.current_agency().addresses()[0]}


class ImportSerializer(serializers.Serializer[Any]):
    """An import of a contact file."""

    id = serializers.IntegerField()
    list = serializers.IntegerField(source="list_id", help_text="The list that its contacts join.")
    file_name = serializers.CharField()
    status = serializers.ChoiceField(choices=Intake.Status.choices)
    looked_at = serializers.IntegerField(help_text="Rows read so far, of a file that a worker takes.")
    rows = serializers.IntegerField(help_text="Rows after the header, once it is done; accepted + rejected.")
    accepted = serializers.IntegerField()
    rejected = serializers.IntegerField()
    problem = serializers.CharField(help_text="Why nothing was taken, where it failed.")
    created_at = serializers.DateTimeField()


class ImportViewSet(ViewSet):
    """Imports of contact files by the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"
    parser_classes = [MultiPartParser]

    def list(self, request: Request) -> Response:
        """All imports, the newest first."""
        pages = Pages()
        found = pages.paginate_queryset(access.intakes_for(request.user), request, view=self)
        return pages.get_paginated_response(ImportSerializer(found, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One import, and how far it is."""
        return Response(ImportSerializer(get_object_or_404(access.intakes_for(request.user), pk=pk)).data)

    def create(self, request: Request) -> Response:
        """Take a file, in the fields of the portal's form: `file`, `list` (an id) or `new_list`, `basis`,
        `consent_source`, `consent_on`, `consent_text`. 201 where it is taken, 202 where a worker takes it: ask for it
        until its status is `done` or `failed`. 400 says why nothing of it is taken."""
        form = UploadForm(request.data, request.FILES, lists=access.lists_for(request.user))
        if not form.is_valid():
            raise serializers.ValidationError({name: [str(one) for one in said] for name, said in form.errors.items()})
        try:
            found = form.receive(by=request.user.get_username(), now=clock.now())
        except IntakeRefused as refused:
            raise serializers.ValidationError({"file": [str(refused)]}) from None
        if found.going:
            jobs.enqueue(take_file, found.pk)
        return Response(ImportSerializer(found).data, status=202 if found.going else 201)


class MessageViewSet(ViewSet):
    """The mails of the key's agency."""

    lookup_field = "key"
    lookup_value_regex = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"

    def retrieve(self, request: Request, key: str) -> Response:
        """One mail, and why it has not gone."""
        message = get_object_or_404(access.messages_for(request.user), key=key)
        return Response(MessageSerializer(explain(message, now=clock.now())).data)

    @action(detail=True, methods=["post"], url_path="count-as-sent")
    def count_as_sent(self, request: Request, key: str) -> Response:
        """End the doubt about a mail: it was sent. 409 where it is not in doubt."""
        return self._end("count-as-sent", request, key)

    @action(detail=True, methods=["post"], url_path="send-again")
    def send_again(self, request: Request, key: str) -> Response:
        """Have a mail in doubt sent once more, though its reader may get it twice. 409 where there is no such mail."""
        return self._end("send-again", request, key)

    def _end(self, name: str, request: Request, key: str) -> Response:
        found = access.messages_for(request.user).filter(key=key)
        get_object_or_404(found)
        try:
            actions.end_doubts(name, found, by=request.user.get_username(), now=clock.now())
        except actions.ActionRefusedError as refused:
            raise Conflict(str(refused)) from None
        return self.retrieve(request, key)


class ErasureLineSerializer(serializers.Serializer[Any]):
    """One kind of rows that were erased."""

    code = serializers.CharField(help_text="For programs: it does not change.")
    label = serializers.CharField(help_text="The same in words.")  # type: ignore[assignment]
    count = serializers.IntegerField(help_text="Rows.")


class ErasureSerializer(serializers.Serializer[Any]):
    """The receipt of a person's erasure, which does not name them."""

    id = serializers.IntegerField(read_only=True)
    address = serializers.CharField(max_length=254, write_only=True, help_text="Whom to erase; kept as a hash alone.")
    by = serializers.CharField(read_only=True, help_text="Who asked for it; empty for the machine.")
    asked_at = serializers.DateTimeField(read_only=True)
    done_at = serializers.DateTimeField(read_only=True, help_text="null while a mail to them is still on its way.")
    erased = serializers.SerializerMethodField(help_text="What was erased.")

    def get_erased(self, receipt: Erasure) -> Any:
        return ErasureLineSerializer(erasure.lines(receipt), many=True).data


class ErasureViewSet(ViewSet):
    """Erasures of people by the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """All receipts, the latest first."""
        pages = Pages()
        found = pages.paginate_queryset(access.erasures_for(request.user), request, view=self)
        return pages.get_paginated_response(ErasureSerializer(found, many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One receipt."""
        return Response(ErasureSerializer(get_object_or_404(access.erasures_for(request.user), pk=pk)).data)

    def create(self, request: Request) -> Response:
        """Erase a person for good. Nothing is sent to them once it answers; harmless when repeated."""
        if not access.may_erase(request.user):
            raise PermissionDenied
        given = ErasureSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        by = request.user.get_username()
        try:
            receipt = erasure.erase(given.validated_data["address"], by=by, clock=clock.now)
        except erasure.ErasureRefusedError as refused:
            raise serializers.ValidationError({"address": [str(refused)]}) from None
        return Response(ErasureSerializer(receipt).data, status=201)


class RecoverySerializer(serializers.Serializer[Any]):
    """A sender or domain of which too much came back, on its way to its normal work. Every time is ISO 8601."""

    id = serializers.IntegerField()
    kind = serializers.CharField(help_text="`sender` or `domain`.")
    name = serializers.CharField(help_text="Its address, or the name of the domain.")
    cause = serializers.CharField(help_text="`bounces`, `complaints`, or `person`.")
    cause_label = serializers.CharField()
    stage = serializers.CharField(help_text="`resting`, `checking`, `few` or `more`.")
    stage_label = serializers.CharField()
    per_day = serializers.IntegerField(help_text="Mails a day at most in this stage.")
    began_at = serializers.DateTimeField()
    rest_until = serializers.DateTimeField(allow_null=True, help_text="When its DNS is checked; null: not known.")
    mails = serializers.IntegerField(help_text="Mails looked at, with addresses that were refused at once.")
    bounced = serializers.IntegerField()
    complained = serializers.IntegerField()
    least_percent = serializers.FloatField(help_text="The rate is surely above this, in percent.")
    evidence = serializers.CharField(help_text="The same in words.")
    missing = serializers.ListField(child=serializers.CharField(), help_text="What is wrong in its DNS.")
    by = serializers.CharField(help_text="Who paused it; empty: the machine.")
    why = serializers.CharField()


class RecoveryViewSet(ViewSet):
    """Senders and domains that are paused or recover."""

    def list(self, request: Request) -> Response:
        """All of them, the latest first."""
        return Response(RecoverySerializer(access.recoveries_for(request.user), many=True).data)


class SourcePauseSerializer(serializers.Serializer[Any]):
    """An import or list of whose contacts too much came back. Every time is ISO 8601 with its offset."""

    id = serializers.IntegerField()
    list = serializers.CharField()
    file_name = serializers.CharField(help_text="Of the import; empty: who came into the list without one.")
    cause = serializers.CharField(help_text="`bounces`, `complaints`, or `person`.")
    cause_label = serializers.CharField()
    began_at = serializers.DateTimeField()
    mails = serializers.IntegerField(help_text="Mails looked at, with addresses that were refused at once.")
    bounced = serializers.IntegerField()
    complained = serializers.IntegerField()
    least_percent = serializers.FloatField(help_text="The rate is surely above this, in percent.")
    evidence = serializers.CharField(help_text="The same in words.")
    held = serializers.IntegerField(help_text="First mails that wait for its release.")
    by = serializers.CharField(help_text="Who paused it; empty: the machine.")
    why = serializers.CharField()


class SourcePauseViewSet(ViewSet):
    """Imports and lists whose first mails are held back."""

    def list(self, request: Request) -> Response:
        """All of them, the latest first."""
        return Response(SourcePauseSerializer(access.paused_sources_for(request.user), many=True).data)


class FeedQuerySerializer(serializers.Serializer[Any]):
    """What part of the feed is asked for."""

    after = serializers.IntegerField(min_value=0, max_value=2**63 - 1, default=0)
    limit = serializers.IntegerField(min_value=1, max_value=1000, default=200)


class FeedEntrySerializer(serializers.Serializer[Any]):
    """One thing that happened."""

    position = serializers.IntegerField(help_text="Counts from 1 without a gap; never changes.")
    type = serializers.ChoiceField(choices=FeedEntry.Kind.choices)
    timestamp = serializers.DateTimeField(help_text="When it happened, not when it became known.")
    data = serializers.JSONField(help_text="What it is about, with the names of now.")  # type: ignore[assignment]


class FeedViewSet(ViewSet):
    """What has happened in the key's agency, for systems that keep a copy of it."""

    def list(self, request: Request) -> Response:
        """What came after the position `after`, in order, up to `limit` of it: go on with `next` of the answer.

        `more`: there is more already. Nothing ever comes in before what was told.
        """
        asked = FeedQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        after, limit = asked.validated_data["after"], asked.validated_data["limit"]
        numbered = feed.number()
        found = list(access.feed_for(request.user).filter(position__gt=after)[: limit + 1])
        told = found[:limit]
        return Response(
            {
                "events": FeedEntrySerializer(feed.described(told), many=True).data,
                "next": told[-1].position if told else after,
                "more": len(found) > limit or numbered == feed.AT_ONCE,
            }
        )


class RepliesQuerySerializer(serializers.Serializer[Any]):
    """What part of the inbox is asked for."""

    state = serializers.ChoiceField(choices=conversations.State.choices, default=conversations.State.OPEN)
    label = serializers.ChoiceField(choices=ReplyLabel.choices, default="", allow_blank=True)  # type: ignore[assignment]
    campaign = serializers.IntegerField(min_value=1, max_value=2**63 - 1, default=None, allow_null=True)
    assigned = serializers.CharField(default="", allow_blank=True, max_length=254)
    search = serializers.CharField(default="", allow_blank=True, max_length=200)
    before = serializers.IntegerField(min_value=1, max_value=2**63 - 1, default=None, allow_null=True)
    limit = serializers.IntegerField(min_value=1, max_value=200, default=50)


class ReplySerializer(serializers.Serializer[Any]):
    """A reply: what it says, what it means, and what is done with it. Every time is ISO 8601 with its offset."""

    id = serializers.IntegerField()
    contact = serializers.CharField(source="message.contact.email", help_text="Whom the answered mail went to.")
    sender = serializers.CharField(help_text="Address that wrote it.")
    campaign = serializers.IntegerField(source="message.campaign_id", help_text="Number of the campaign.")
    message = serializers.UUIDField(source="message.key", help_text="Key of the mail that it answers.")
    subject = serializers.CharField()
    text = serializers.CharField(help_text="Without quotes and signature.")
    automatic = serializers.BooleanField(help_text="Whether a machine wrote it.")
    label = serializers.CharField(help_text="What it means; a PATCH of it is remembered as right or wrong.")  # type: ignore[assignment]
    found = serializers.CharField(help_text="What it means by the rules.")
    span = serializers.CharField(help_text="The words that decided that.")
    decided_by = serializers.CharField(help_text="Who set the label; empty is the machine.")
    returns_on = serializers.DateField(help_text="When who is out of office is back, else null.")
    received_at = serializers.DateTimeField()
    read_at = serializers.DateTimeField(help_text="null while nobody has looked at it.")
    assigned_to = serializers.EmailField(source="assigned_to.email", default=None, help_text="Who sees to it, or null.")
    snoozed_until = serializers.DateTimeField(help_text="Until then it is not in the open inbox; null is not snoozed.")
    done_at = serializers.DateTimeField(help_text="null unless it needs nothing more.")


class ReplyChangeSerializer(serializers.Serializer[Any]):
    """What is to change of a reply; what is left out stays. All but the label holds for its whole conversation."""

    label = serializers.ChoiceField(choices=ReplyLabel.choices, required=False)  # type: ignore[assignment]
    assigned_to = serializers.EmailField(required=False, allow_null=True, help_text="Of the agency; null is nobody.")
    snoozed_until = serializers.DateTimeField(required=False, allow_null=True)
    done = serializers.BooleanField(required=False)
    read = serializers.BooleanField(required=False, help_text="true alone: somebody has looked at it.")

    def validate_assigned_to(self, value: str | None) -> User | None:
        if value is None:
            return None
        found = conversations.people().filter(email__iexact=value).first()
        if found is None:
            raise serializers.ValidationError(_("Nobody of this agency has this address."))
        return found


class EntrySerializer(serializers.Serializer[Any]):
    """One mail of a conversation."""

    kind = serializers.CharField(help_text="sent (a campaign's mail), reply, or answer (a person's, to a reply).")
    at = serializers.DateTimeField()
    sender = serializers.CharField()
    subject = serializers.CharField()
    text = serializers.CharField()
    changed = serializers.BooleanField(help_text="The step was changed since: they got an earlier text.")
    problem = serializers.CharField(help_text="Why the text can not be made any more, else empty.")
    reply = serializers.IntegerField(source="reply.pk", default=None)
    message = serializers.UUIDField(source="message.key", default=None)
    answer = serializers.IntegerField(source="answer.pk", default=None)
    status = serializers.CharField(
        source="answer.status",
        default=None,
        help_text="Of an answer: waiting, claimed, sent, failed, unknown, withdrawn.",
    )


class AnswerSerializer(serializers.Serializer[Any]):
    """A person's answer to a reply."""

    id = serializers.IntegerField(source="pk", read_only=True)
    text = serializers.CharField(max_length=answers.LONGEST, trim_whitespace=False)
    once = serializers.UUIDField(help_text="Made by whoever asks: the same one again is the same answer.")
    status = serializers.CharField(read_only=True, help_text="waiting, claimed, sent, failed, unknown or withdrawn.")
    sent_at = serializers.DateTimeField(read_only=True)
    detail = serializers.CharField(source="said", read_only=True, help_text="Why it waits or failed.")


class ReplyViewSet(ViewSet):
    """The inbox of the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """Each conversation by its last reply, the newest first; go on with `before` set to `next` of the answer.

        `state` is open unless given; `assigned` is an address or `nobody`; `search` finds beginnings of words in text,
        subject and sender.
        """
        asked = RepliesQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        given = dict(asked.validated_data)
        before, limit = given.pop("before"), given.pop("limit")
        rows = conversations.found(access.replies_for(request.user), conversations.Wanted(**given), now=clock.now())
        shown, following = conversations.page(rows, before=before, limit=limit)
        return Response({"results": ReplySerializer(shown, many=True).data, "next": following})

    def retrieve(self, request: Request, pk: str) -> Response:
        """One reply, and in `thread` all that was written to and by its contact in its campaign, the oldest first."""
        reply = get_object_or_404(access.replies_for(request.user), pk=pk)
        thread = EntrySerializer(conversations.of(reply).entries, many=True).data
        return Response({**ReplySerializer(reply).data, "thread": thread})

    def partial_update(self, request: Request, pk: str) -> Response:
        """Say what it means, who sees to it, until when it is out of the way, or that it is done."""
        reply = get_object_or_404(access.replies_for(request.user), pk=pk)
        given = ReplyChangeSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            conversations.change(reply, given.validated_data, by=request.user.get_username(), clock=clock.now)
        except conversations.NotSnoozedError as refused:
            raise serializers.ValidationError({"snoozed_until": [str(refused)]}) from None
        return self.retrieve(request, pk)

    @action(detail=True, methods=["post"])
    def answer(self, request: Request, pk: str) -> Response:
        """Answer it from the sender who was answered; 409 with the reason where it can not be."""
        reply = get_object_or_404(access.replies_for(request.user), pk=pk)
        given = AnswerSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        try:
            made = actions.answer(reply, **given.validated_data, by=request.user.get_username(), now=clock.now())
        except actions.ActionRefusedError as refused:
            raise Conflict(str(refused)) from None
        return Response(AnswerSerializer(made).data, status=202)

    @action(detail=True, methods=["delete"], url_path=r"answers/(?P<answer>[0-9]{1,18})")
    def take_back(self, request: Request, pk: str, answer: str) -> Response:
        """Take an answer back that still waits; 409 once a worker has it."""
        reply = get_object_or_404(access.replies_for(request.user), pk=pk)
        try:
            withdrawn = actions.take_back(reply, int(answer))
        except TrialMail.DoesNotExist:
            raise Http404 from None
        except actions.ActionRefusedError as refused:
            raise Conflict(str(refused)) from None
        return Response(AnswerSerializer(withdrawn).data)


class EndpointSerializer(serializers.Serializer[Any]):
    """A webhook: an address to which events are posted."""

    id = serializers.IntegerField(read_only=True)
    url = serializers.CharField(max_length=500, help_text="https, on the public internet, at port 443 or 8443.")
    name = serializers.CharField(max_length=120, required=False, allow_blank=True)
    types = serializers.ListField(
        child=serializers.ChoiceField(choices=FeedEntry.Kind.choices),
        source="kinds",
        required=False,
        help_text="What is posted there; empty is everything.",
    )
    enabled = serializers.BooleanField(
        required=False, write_only=True, help_text="Whether anything is posted; off, it is kept for it. Read as well."
    )
    disabled_reason = serializers.CharField(
        source="off", read_only=True, help_text="person, failing (for five days) or gone (it answered 410); else empty."
    )
    disabled_at = serializers.DateTimeField(source="off_at", read_only=True)
    failing_since = serializers.DateTimeField(read_only=True, help_text="null once a post has been taken.")
    position = serializers.IntegerField(read_only=True, help_text="Up to where in the feed of events it was told.")
    created_at = serializers.DateTimeField(read_only=True)

    def to_representation(self, instance: Any) -> Any:
        return {**super().to_representation(instance), "enabled": not instance.off}


class AttemptSerializer(serializers.ModelSerializer[HookAttempt]):
    """One post of an event."""

    class Meta:
        model = HookAttempt
        fields = ("at", "status", "failure", "milliseconds", "answer")
        extra_kwargs = {
            "status": {"help_text": "null where no answer came."},
            "failure": {"help_text": "Why none came: refused, dns, connection, tls, timeout or answer; else empty."},
            "answer": {"help_text": "The first 1,024 bytes of the answer's body."},
        }


class DeliverySerializer(serializers.Serializer[Any]):
    """One event on its way to one webhook."""

    id = serializers.IntegerField()
    webhook_id = serializers.SerializerMethodField(help_text="The header of the same name, at every attempt.")
    position = serializers.IntegerField(help_text="In the feed of events; null for a test.")
    type = serializers.CharField(source="kind")
    timestamp = serializers.DateTimeField(source="at")
    state = serializers.ChoiceField(choices=HookDelivery.State.choices)
    attempts = serializers.IntegerField(help_text="Since it was last asked for.")
    next_at = serializers.DateTimeField(help_text="null once it has ended.")
    done_at = serializers.DateTimeField(help_text="null while it waits.")

    def get_webhook_id(self, delivery: HookDelivery) -> str:
        return hooks.id_of(delivery)


class DeliveriesQuerySerializer(serializers.Serializer[Any]):
    """What part of the log is asked for."""

    state = serializers.ChoiceField(choices=HookDelivery.State.choices, required=False)
    type = serializers.CharField(max_length=30, required=False)


class RedeliverSerializer(serializers.Serializer[Any]):
    """What is posted again: these deliveries, or what has failed since a time."""

    deliveries = serializers.ListField(child=serializers.IntegerField(min_value=1), max_length=1000, required=False)
    failed_since = serializers.DateTimeField(required=False)

    def validate(self, given: dict[str, Any]) -> dict[str, Any]:
        if len(given) != 1:
            raise serializers.ValidationError(_("Give either `deliveries` or `failed_since`."))
        return given


class EndpointViewSet(ViewSet):
    """The webhooks of the key's agency."""

    lookup_value_regex = r"[0-9]{1,18}"

    def list(self, request: Request) -> Response:
        """All of them."""
        return Response(EndpointSerializer(access.endpoints_for(request.user), many=True).data)

    def retrieve(self, request: Request, pk: str) -> Response:
        """One of them."""
        return Response(EndpointSerializer(self._found(request, pk)).data)

    def create(self, request: Request) -> Response:
        """A new one, which is told what happens from now on. `secret` is in this answer alone."""
        self._allow(request)
        given = EndpointSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        values = {name: value for name, value in given.validated_data.items() if name != "enabled"}
        try:
            made, secret = hooks.create(**values, now=clock.now())
        except hooks.HookRefusedError as refused:
            raise serializers.ValidationError({"url": [str(refused)]}) from None
        return Response({**EndpointSerializer(made).data, "secret": secret}, status=201)

    def partial_update(self, request: Request, pk: str) -> Response:
        """Change what is given. `enabled` true lets it go on where it stopped."""
        self._allow(request)
        endpoint = self._found(request, pk)
        given = EndpointSerializer(data=request.data, partial=True)
        given.is_valid(raise_exception=True)
        values = dict(given.validated_data)
        enabled = values.pop("enabled", None)
        try:
            hooks.change(endpoint, **values)
        except hooks.HookRefusedError as refused:
            raise serializers.ValidationError({"url": [str(refused)]}) from None
        if enabled is True:
            actions.switch_on_hook(endpoint)
        elif enabled is False:
            hooks.switch_off(endpoint, now=clock.now())
        return self.retrieve(request, pk)

    def destroy(self, request: Request, pk: str) -> Response:
        """Delete it with its log."""
        self._allow(request)
        hooks.delete(self._found(request, pk))
        return Response(status=204)

    @action(detail=True, methods=["post"])
    def rotate(self, request: Request, pk: str) -> Response:
        """A new secret, in this answer alone. For 24 hours posts are signed with the one before as well."""
        self._allow(request)
        return Response({"secret": hooks.rotate(self._found(request, pk), now=clock.now())})

    @action(detail=True, methods=["post"])
    def test(self, request: Request, pk: str) -> Response:
        """Post a test event; 409 where it is switched off."""
        self._allow(request)
        try:
            made = actions.test_hook(self._found(request, pk), now=clock.now())
        except actions.ActionRefusedError as refused:
            raise Conflict(str(refused)) from None
        return Response(DeliverySerializer(made).data, status=202)

    @action(detail=True)
    def deliveries(self, request: Request, pk: str) -> Response:
        """Its log, the latest first."""
        asked = DeliveriesQuerySerializer(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted = {"kind" if name == "type" else name: value for name, value in asked.validated_data.items()}
        pages = Pages()
        found = access.deliveries_for(request.user).filter(endpoint=self._found(request, pk), **wanted)
        shown = pages.paginate_queryset(found, request, view=self)
        return pages.get_paginated_response(DeliverySerializer(shown, many=True).data)

    @action(detail=True, url_path=r"deliveries/(?P<delivery>[0-9]{1,18})")
    def delivery(self, request: Request, pk: str, delivery: str) -> Response:
        """One delivery with its attempts, the latest first, and in `body` what would be posted now."""
        found = get_object_or_404(access.deliveries_for(request.user), endpoint=self._found(request, pk), pk=delivery)
        tries = AttemptSerializer(found.tries.order_by("-pk")[: Pages.page_size], many=True).data
        return Response({**DeliverySerializer(found).data, "tries": tries, "body": hooks.body_of(found)})

    @action(detail=True, methods=["post"])
    def redeliver(self, request: Request, pk: str) -> Response:
        """Post again what has ended: `deliveries` by their ids, or all that has failed since `failed_since`."""
        self._allow(request)
        endpoint = self._found(request, pk)
        given = RedeliverSerializer(data=request.data)
        given.is_valid(raise_exception=True)
        return Response({"count": actions.redeliver(endpoint, **given.validated_data, now=clock.now())}, status=202)

    def _found(self, request: Request, pk: str) -> Endpoint:
        found: Endpoint = get_object_or_404(access.endpoints_for(request.user), pk=pk)
        return found

    def _allow(self, request: Request) -> None:
        if not access.may_change_endpoints(request.user):
            raise PermissionDenied


class Conflict(APIException):
    """What was asked for is not possible in the state that the object is in."""

    status_code = 409
    default_code = "conflict"
