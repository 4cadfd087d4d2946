"""Settings. Each comes from the environment or `.env`; what is missing or wrong stops the start with its name.

Without a `.env` the installation is local: keys are made once and kept in `var/`, PostgreSQL is the packaged one,
and pages are served to loopback hosts only. `.env.example` lists what going live needs.
"""

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.utils.translation import gettext_lazy as _

from outreach import embedded, local_keys
from outreach.environment import Environment

BASE_DIR = Path(__file__).resolve().parent.parent
VAR = Path(os.environ.get("POLZA_VAR", BASE_DIR / "var"))

env = Environment()
env.read_env(BASE_DIR / ".env")

# What this process is: web, worker, or command. `manage.py run` names its children.
ROLE = env.choice("POLZA_ROLE", "command", ("web", "worker", "command"))

_keys = local_keys.ensure(VAR) if "SECRET_KEY" not in env or "SECRETS_KEYS" not in env else {}
KEYS_ARE_LOCAL = bool(_keys)
SECRET_KEY = env.text("SECRET_KEY", _keys.get("SECRET_KEY", ""))
# Earlier keys, comma-separated: what they signed, such as opt-out links in mails already sent, still holds.
SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", default=[])
# Comma-separated id:base64 keys of 32 bytes for secrets at rest; the first one encrypts, all decrypt.
SECRETS_KEYS: list[str] = env.list("SECRETS_KEYS", default=[_keys["SECRETS_KEYS"]] if _keys else [])

DEBUG = env.bool("DEBUG", False)
# Where the operator's site answers; agencies answer on names of their own, by default below this one.
PUBLIC_HOST = env.text("PUBLIC_HOST", "localhost")
PUBLIC_SCHEME = env.choice("PUBLIC_SCHEME", "http" if PUBLIC_HOST == "localhost" else "https", ("http", "https"))
PORT = env.int("PORT", 8000)
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", default=[f".{PUBLIC_HOST}", "127.0.0.1"])
CSRF_TRUSTED_ORIGINS = env.list("CSRF_TRUSTED_ORIGINS", default=[])

SHARED_APPS = [
    "django_tenants",
    "tenants",
    "tenants.users",
    "providers.accounts",
    "django_q",
    "unfold.apps.BasicAppConfig",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    # Its sign-in asks for addresses on the operator's site too.
    "allauth",
    "allauth.account",
    "django.contrib.postgres",
    "django.contrib.humanize",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django_htmx",
    "rest_framework",
    "outreach",
]
TENANT_APPS = [
    "tenants.users",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "allauth",
    "allauth.account",
    "providers.senders",
    "campaigns",
    "analytics",
]
INSTALLED_APPS = [*SHARED_APPS, *(app for app in TENANT_APPS if app not in SHARED_APPS)]

TENANT_MODEL = "tenants.Agency"
TENANT_DOMAIN_MODEL = "tenants.Domain"
PUBLIC_SCHEMA_URLCONF = "outreach.urls_public"
ROOT_URLCONF = "outreach.urls"
# Safe with django-tenants 4.0.1: tests/concurrency/test_leaks.py passes with it and catches a planted leak.
TENANT_LIMIT_SET_CALLS = True
DATABASE_ROUTERS = ["django_tenants.routers.TenantSyncRouter"]

_database: dict[str, Any] = (
    {"ENGINE": "django_tenants.postgresql_backend", **embedded.connection_settings(VAR)}
    if embedded.needed()
    else env.db("DATABASE_URL", engine="django_tenants.postgresql_backend")
)
_database["OPTIONS"] = {
    **_database.get("OPTIONS", {}),
    "connect_timeout": 5,
    # Statements are parsed and planned once per connection instead of every time: half of PostgreSQL's work.
    "server_side_binding": True,
    "prepare_threshold": 3,
    "options": "-c lock_timeout=10s -c idle_in_transaction_session_timeout=60s",
}
if ROLE == "web":
    # django-q2 forks, and a pool of open connections does not survive a fork: only the web has one.
    _database["OPTIONS"]["pool"] = {"min_size": 1, "max_size": env.int("WEB_THREADS", 8) + 2, "timeout": 10}
    _database["OPTIONS"]["options"] += " -c statement_timeout=30s"
else:
    # A connection for every enqueue and poll would cost ten times the work itself.
    _database["CONN_MAX_AGE"] = 600
    _database["CONN_HEALTH_CHECKS"] = True
DATABASES = {"default": _database}

WORKERS = env.int("WORKERS", 2)
Q_CLUSTER = {
    "name": "polza",
    "orm": "default",
    "broker_class": "tenants.jobs.Queue",
    "workers": WORKERS,
    "queue_limit": WORKERS,
    "bulk": 1,
    # An idle cluster is called for each job; this is only how often it asks whether a call was lost.
    "poll": 2,
    "timeout": 60,
    "retry": 600,
    "ack_failures": True,
    "max_attempts": 1,
    "save_limit": -1,
    "catch_up": False,
    "recycle": 500,
    "max_rss": 600_000,
    "cache": "local",
    "label": _("Queue"),
    "log_level": "WARNING",
}
# A job ends by itself within this time; together with one slow answer it stays below the 60 s above.
DRAIN_SECONDS = 15
# Whatever has given no sign of life for so long is killed and replaced: a cluster that has run no job, not even the
# canary; a worker, a guard or a monitor that has left no mark (outreach/marks.py). Longer than anything that is in
# order may take: a job is ended after the 60 s above and 10 of grace, and a canary waits for one.
CANARY_EVERY_SECONDS = env.int("CANARY_EVERY_SECONDS", 10)
FROZEN_AFTER_SECONDS = env.int("FROZEN_AFTER_SECONDS", 90)

CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "django_cache",
        "KEY_FUNCTION": "django_tenants.cache.make_key",
        "REVERSE_KEY_FUNCTION": "django_tenants.cache.reverse_key",
    },
    "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"},
}

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "tenants.middleware.AgencyMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "outreach.middleware.content_security_policy",
    "outreach.middleware.agency_time",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "tenants.middleware.LanguageMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "django.template.context_processors.i18n",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS.append("django.forms")
WSGI_APPLICATION = "outreach.wsgi.application"

AUTH_USER_MODEL = "users.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "/"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_ADAPTER = "tenants.users.adapter.AccountAdapter"
ACCOUNT_PASSWORD_RESET_TOKEN_GENERATOR = "tenants.users.tokens.ResetTokens"  # noqa: S105
ACCOUNT_EMAIL_VERIFICATION = "optional"
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_EMAIL_UNKNOWN_ACCOUNTS = False
ACCOUNT_RATE_LIMITS = {"login_failed": "5/m/key,20/m/ip"}
ACCOUNT_SESSION_REMEMBER = True

SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PUBLIC_SCHEME == "https"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if env.bool("BEHIND_PROXY", False) else None
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("ru", "Русский")]
LOCALE_PATHS = [BASE_DIR / "outreach" / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True
USE_THOUSAND_SEPARATOR = True

STATIC_URL = "/static/"
STATIC_ROOT = VAR / "static"
STATIC_ROOT.mkdir(parents=True, exist_ok=True)
STATICFILES_DIRS = [BASE_DIR / "static"]
# In a checkout the files are served from where they lie; `COLLECTED_STATIC` switches to hashed, compressed ones.
COLLECTED_STATIC = env.bool("COLLECTED_STATIC", False)
WHITENOISE_USE_FINDERS = not COLLECTED_STATIC
STORAGES = {
    "default": {"BACKEND": "django_tenants.files.storage.TenantFileSystemStorage"},
    "staticfiles": {
        "BACKEND": (
            "whitenoise.storage.CompressedManifestStaticFilesStorage"
            if COLLECTED_STATIC
            else "django.contrib.staticfiles.storage.StaticFilesStorage"
        )
    },
}
MEDIA_ROOT = VAR / "media"
DATA_UPLOAD_MAX_MEMORY_SIZE = 5 * 1024 * 1024
FILE_UPLOAD_MAX_MEMORY_SIZE = 2 * 1024 * 1024
# The largest contact file that is taken, in bytes: a million rows of ninety columns' worth of text and some room.
CONTACT_FILE_MAX_BYTES = env.int("CONTACT_FILE_MAX_BYTES", 300 * 1024 * 1024)

DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
# Mails to people who sign in (password resets). Outreach never uses it: that leaves through accounts.
EMAIL_CONFIG = env.email("SYSTEM_EMAIL_URL", default="consolemail://")
vars().update(EMAIL_CONFIG)
EMAIL_TIMEOUT = 20
DEFAULT_FROM_EMAIL = env.str("SYSTEM_EMAIL_FROM", f"Polza Outreach <no-reply@{PUBLIC_HOST}>")
SILENCED_SYSTEM_CHECKS: list[str] = []

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": ["outreach.api.KeyAuthentication"],
    "DEFAULT_PERMISSION_CLASSES": ["rest_framework.permissions.IsAuthenticated"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["outreach.api.Parser"],
    "EXCEPTION_HANDLER": "outreach.api.error",
    "UNAUTHENTICATED_USER": None,
}

UNFOLD_COLORS = {
    "primary": {
        "50": "#eef0ff",
        "100": "#e0e3ff",
        "200": "#c6caff",
        "300": "#a3a8fd",
        "400": "#7f81f8",
        "500": "#6260f0",
        "600": "#4a3fd6",
        "700": "#4035bd",
        "800": "#362d99",
        "900": "#2f2a79",
        "950": "#1c1847",
    }
}
UNFOLD = {
    "SITE_TITLE": "Polza Outreach",
    "SITE_HEADER": "Polza Outreach",
    "SITE_SUBHEADER": "outreach.console.subheader",
    "SITE_SYMBOL": "outgoing_mail",
    "SITE_FAVICONS": [{"rel": "icon", "sizes": "any", "type": "image/svg+xml", "href": "outreach.console.favicon"}],
    "DASHBOARD_CALLBACK": "outreach.console.overview",
    "LOGIN": {"form": "tenants.users.signin.AdminSignInForm"},
    "SHOW_HISTORY": True,
    "SHOW_VIEW_ON_SITE": False,
    "COLORS": UNFOLD_COLORS,
    "SIDEBAR": {"show_search": True, "navigation": "outreach.console.navigation"},
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"}},
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "plain"}},
    "root": {"handlers": ["stderr"], "level": env.str("LOG_LEVEL", "WARNING")},
}

if sentry_dsn := env.str("SENTRY_DSN", ""):
    from outreach import reporting

    reporting.start(sentry_dsn)

# The domain of signed envelope senders, so that a mail server's notice names its mail; empty: a sender's own address is
# the return path. SPF must allow the SMTP server to send for it, and its MX must lead to `manage.py inbound`.
BOUNCE_DOMAIN = env.str("BOUNCE_DOMAIN", "").lower()
# Whose mail `manage.py inbound` takes, where it listens, and how many bytes a mail may have.
INBOUND_DOMAINS = sorted({*env.list("INBOUND_DOMAINS", default=[]), *filter(None, [BOUNCE_DOMAIN])})
INBOUND_HOST = env.str("INBOUND_HOST", "127.0.0.1")
INBOUND_PORT = env.int("INBOUND_PORT", 2525)
INBOUND_MAX_BYTES = env.int("INBOUND_MAX_BYTES", 30 * 1024 * 1024)

# Kept short, so that a worker's answer is never longer away than its job may last.
WIRE_TIMEOUTS = {
    "smtp": {"connect_timeout": 5, "command_timeout": 15, "answer_timeout": 30},
    "http": {"connect_timeout": 5, "read_timeout": 30},
}
# Whether outbound webhooks may go to http addresses and to this host itself: where all that is served here is too.
HOOKS_INSIDE = env.bool("HOOKS_INSIDE", PUBLIC_HOST == "localhost")
# How long the log of outbound webhooks goes back.
HOOK_LOG_LIFE = timedelta(days=env.int("HOOK_LOG_DAYS", 30))
LEASE = timedelta(minutes=5)
# How long somebody who has signed up for a list has to confirm it; then what they gave is deleted.
SIGN_UP_LIFE = timedelta(days=env.int("SIGN_UP_DAYS", 7))
# How long a sender or domain sends nothing after too much came back: late bounces come in, and most lists of receivers
# forget it. Three times as long, up to 72 hours, if it happens again on the way back.
SENDER_REST = timedelta(hours=env.int("SENDER_REST_HOURS", 24))
TESTING = "pytest" in sys.modules
