"""Accounts at mail providers, rented by the operator and shared, or brought by one agency. Public schema.

models     Account, Allotment, LedgerRow, Health, WebhookPost, InboundMail
secrets    encryption of credentials at rest
resealing  every secret saved again, once its key was rotated
signatures whether a webhook's post comes from the account's provider
webhooks   takes what providers post, stores each once; handled later
receiving  the mail server for what comes back
inbox      stores each such mail once; handled later
hearing    pure: a post becomes events
routing    pure: traffic class → order of accounts
ledger     the only writer of LedgerRow: reserve and give back
turns      whose turn it is to have a worker: agencies share them by weight
health     the only writer of Health: what sending itself tells about an account
silence    closes accounts that take mails and of which nothing is heard
events     what is reported of a mail, in one language
envelope   one mail, ready for the wire
errors     the few ways a mail may fail
adapters   the wire: one class per kind, one contract
"""
