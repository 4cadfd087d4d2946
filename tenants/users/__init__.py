"""People who sign in by email, and keys for programs.

Their tables are in every schema: a user of one agency does not exist in another.

models   User, ApiKey
keys     issue and check API keys
tokens   of reset mails, good in one schema only
adapter  what allauth's sign-in may do
admin    people and keys on both admin sites
"""
