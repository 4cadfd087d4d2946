"""Through what: accounts at mail providers and the addresses that mails leave from. Knows nothing of campaigns.

accounts   what the operator rents (public schema): accounts, allotments, ledger, routing, health, adapters
senders    what an agency owns (its schema): domains, senders, their ledgers
sandbox    the stand-in for Resend, SendGrid and an SMTP server, with scripted faults
"""
