"""People who sign in by email, and keys for programs.

Their tables are in every schema: a user of one agency does not exist in another.

models   User, ApiKey
keys     issue and check API keys
admin    people and keys on both admin sites
"""
