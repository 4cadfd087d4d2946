from django.urls import path

from campaigns import inbox_views, readers, views
from campaigns.confirmation import CONFIRM_PATH, SIGN_UP_PATH
from campaigns.envelopes import OPT_OUT_PATH

app_name = "campaigns"
urlpatterns = [
    path("campaigns/", views.campaign_list, name="list"),
    path("campaigns/new/", views.campaign_new, name="new"),
    path("campaigns/<int:id>/", views.campaign_detail, name="detail"),
    path("campaigns/<int:id>/progress/", views.campaign_progress, name="progress"),
    path("campaigns/<int:id>/doubts/<slug:action>/", views.campaign_doubts, name="doubts"),
    path("campaigns/<int:id>/forecast/", views.campaign_forecast, name="forecast"),
    path("campaigns/<int:id>/sequence/", views.campaign_sequence, name="sequence"),
    path("campaigns/<int:id>/files/", views.campaign_files, name="files"),
    path("campaigns/<int:id>/inspection/", views.campaign_inspection, name="inspection"),
    path("campaigns/<int:id>/preview/", views.campaign_preview, name="preview"),
    path("campaigns/<int:id>/preview/html/", views.campaign_preview_html, name="preview_html"),
    path("campaigns/<int:id>/results/", views.campaign_results, name="results"),
    path("campaigns/<int:id>/steps/<int:step>/choice/", views.campaign_choice, name="choice"),
    path("campaigns/<int:id>/trials/", views.campaign_trials, name="trials"),
    path("campaigns/<int:id>/<slug:action>/", views.campaign_act, name="act"),
    path(f"{OPT_OUT_PATH}<token>", readers.opt_out, name="opt_out"),
    path(f"{SIGN_UP_PATH}<token>", readers.sign_up, name="sign_up"),
    path(f"{CONFIRM_PATH}<token>", readers.confirm, name="confirm"),
    path("contacts/", views.contacts, name="contacts"),
    path("contacts/erasures/", views.erasures, name="erasures"),
    path("webhooks/", views.webhooks, name="webhooks"),
    path("webhooks/<int:id>/", views.webhook, name="webhook"),
    path("webhooks/<int:id>/deliveries/<int:delivery>/", views.webhook_delivery, name="webhook_delivery"),
    path("webhooks/<int:id>/<slug:action>/", views.webhook_act, name="webhook_act"),
    path("contacts/<int:id>/", views.contact_edit, name="contact"),
    path("contacts/<int:id>/bar/", views.contact_bar, name="contact_bar"),
    path("contacts/<int:id>/consent/", views.contact_consent, name="contact_consent"),
    path("contacts/lists/<int:id>/sign-up/", views.list_sign_up, name="list_sign_up"),
    path("contacts/imports/<int:id>/", views.import_detail, name="import"),
    path("contacts/imports/<int:id>/rejected.csv", views.import_rejected, name="rejected"),
    path("inbox/", inbox_views.inbox, name="inbox"),
    path("inbox/<int:id>/", inbox_views.thread, name="thread"),
    path("inbox/<int:id>/answer/", inbox_views.answer, name="answer"),
    path("inbox/<int:id>/answers/<int:number>/take-back/", inbox_views.take_back, name="take_back"),
    path("inbox/<int:id>/original/", inbox_views.original, name="original"),
    path("inbox/<int:id>/original/html/", inbox_views.original_html, name="original_html"),
    path("inbox/<int:id>/attachments/<int:number>/", inbox_views.attachment, name="attachment"),
    path("inbox/<int:id>/<slug:action>/", inbox_views.act, name="reply_act"),
]
