"""The stand-in for Resend, SendGrid and a mail server, on loopback only, with scripted faults.

service    Sandbox: start, stop, script a fault, take a snapshot; one thread, one event loop
faults     what can be scripted, and `resend=down` as text
tally      what was delivered: per account, sender and recipient
http       a small HTTP/1.1 server
resend     Resend's interface as its clients see it, with its idempotency keys
sendgrid   SendGrid's
smtp       a mail server
population pure: what becomes of a mail and what is answered, by whom it is to
mails      pure: notices, complaints and replies as they come by mail
posting    signed webhooks of Resend and SendGrid, and those mails: some twice, late or lost
control    /_sandbox/: faults, counts, messages, events, webhooks, reset
"""

HOST = "127.0.0.1"

# What the sandbox accepts. These open nothing else, so they may be read by anybody.
RESEND_KEY = "re_sandbox_2f6c1d8a9b"
SENDGRID_KEY = "SG.sandbox.7e41c05d3f"
SMTP_USERNAME = "sandbox"
SMTP_PASSWORD = "sandbox-only"  # noqa: S105
