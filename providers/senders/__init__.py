"""What an agency sends from: domains, senders and their ledgers. Agency schema.

models   SenderDomain, DkimKey, DnsCheck, Home, Sender, SenderDay, SenderHour, DomainDay, Recovery, Event
ledger   the only writer of the day and hour rows: free senders, reserve, give back
warmup   pure: how the mails of a new domain grow
warming  judges each day of a domain that warms up
published  pure: what a domain publishes in the DNS, by the rules of those who receive mail
dns      asks the DNS about each domain and keeps what it found
dkim     keys of domains, and the signing of mails that leave through a mail server
recovery pure: how a sender or domain of which too much came back returns, stage by stage
recovering  pauses those, and moves them from stage to stage
rates    pure: whether too much comes back, by what the rate is at least
events   the only writer of Event: stores each once
inbound  pure: mail that comes back, from bytes to what it is and means
pool     many senders at once: an account's senders over an agency's domains
"""
