"""Eight workers at the last ten mails of a quota: `python -m tests.chaos.rounds SCHEMA ROUNDS ACCOUNT...`.

A round is a day and a bit later than the one before, so every quota is whole again. All claim at once; then one of
them claims what is left, because a claim passes over senders that another one holds.
"""

import multiprocessing
import os
import sys
from datetime import timedelta
from multiprocessing.synchronize import Barrier

import django

django.setup()

from django.conf import settings  # noqa: E402

from campaigns import dispatch  # noqa: E402
from providers.accounts import ledger  # noqa: E402
from tenants import context  # noqa: E402
from tenants.models import Agency  # noqa: E402
from tests.stage import NOON  # noqa: E402

WORKERS = 8
# More than a day, and on from a whole hour: neither the hour that counts whole nor a day is met twice.
ROUND = timedelta(hours=26)


def work(number: int, barrier: Barrier, schema: str, rounds: int, account_ids: list[int]) -> None:
    """Claim three at a time in every round, of every account."""
    agency = Agency.objects.get(schema_name=schema)
    with context.entered(agency):
        allotments = [ledger.allotment(agency, account_id) for account_id in account_ids]
        for played in range(rounds):
            now = NOON + ROUND * played
            for allotment in allotments:
                assert allotment is not None
                barrier.wait(settings.LEASE.total_seconds())
                dispatch.claim_batch(agency, allotment, now=now, limit=3)
                barrier.wait(settings.LEASE.total_seconds())
                while not number and dispatch.claim_batch(agency, allotment, now=now, limit=3):
                    pass


def main(schema: str, rounds: int, account_ids: list[int]) -> None:
    """Play all rounds; the exit code says whether every worker came through."""
    barrier = multiprocessing.get_context("fork").Barrier(WORKERS)
    workers = []
    for number in range(WORKERS):
        workers.append(os.fork())
        if not workers[-1]:
            try:
                work(number, barrier, schema, rounds, account_ids)
            except BaseException:
                barrier.abort()
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
    sys.exit(max(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in workers))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), [int(pk) for pk in sys.argv[3:]])
