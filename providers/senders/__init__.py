"""What an agency sends from: domains, senders and their ledgers. Agency schema.

models   SenderDomain, Home, Sender, SenderDay, DomainDay
ledger   the only writer of the day rows: free senders, reserve, give back
pool     many senders at once: an account's senders over an agency's domains
"""
