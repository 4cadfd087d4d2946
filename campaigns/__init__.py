"""What, to whom, when. The way of a message, stage by stage:

intake       rows of a file, by COPY, each with a verdict; of a large file by a job  → contacts, subscriptions
validation   pure: is this an address we may write to
planning     pure: how many mails through which account
draft        whom a draft writes to, and through which accounts
simulation   pure: how a queue will empty on a virtual clock
forecast     the queue and the ledgers of now in that clock; what was foreseen at launch, and what came of it
launch       a draft becomes a running campaign                      → enrollments, messages (the queue)
precedence   pure: whose turn it is in a queue, by class, step and age
pace         pure: when a schedule is open, and how long a delay is
sequence     pure: what comes next for a contact, and when
threads      pure: which thread a mail goes on with
variants     pure: the texts that are tried for a step, and which a contact gets
experiments  pure: what the mails that went out say of them
advance      what follows for those who have had a step               → messages
changes      other steps for a campaign, and what that does to whom   → steps
permission   whether a contact has given consent, and which accounts take mails without: the one definition
consent      the grounds on which a person is written to, and their evidence  → held messages
stops        what ends a sequence for a contact, and for whom else    → cancelled messages
paced        windows and caps at a claim; sets aside what waits for them
caps         what a campaign itself allows a day
due          where mails are due now, and when the next are
dispatch     claim + quota, then                                     ← jobs say only "serve whose turn it is"
delivery     a claimed batch on the wire: render, mark, send, settle
rendering    texts are filled in for a contact
markup       pure: what HTML of a mail may not hold; style sheets put into its tags
spintax      pure: {a|b|c} becomes Liquid, and what a mail shows of it
files        what goes with a step's mails beside its texts: which files may, and once it has mails, those it had
links        the links of a text, which readers follow through us
tokens       signed names of a mail, for its way out, its pixel and its links
envelopes    a message becomes an envelope: texts, links, pixel, way out, headers
preview      a step's mail as a contact would get it, made by the same
trials       that mail to the agency's own people, confirmations and answers to replies, by the way of every mail
link_hosts   asks the DNS whether the hosts of links are there
inspection   what is to be said of a campaign's texts before its launch
outcomes     pure: error and attempt → verb and delay
held         mails whose text lacks a value, by field; on they go once it is there
lifecycle    the only writer of a message's status, by guarded updates
suppressions who must not be mailed: the one definition for all who ask
signups      somebody asks for a list's mails, and confirms it       → contacts, subscriptions, consent
confirmation the mail that asks them to
optout       a reader leaves                                         → suppressions, cancelled messages
erased       who was erased, told by keyed hashes: no contact of theirs is made again
erasure      what names a person goes, what was counted stays              → receipts
tracking     pixels and links, answered before Django                → events
readership   opens and clicks by people, by programs and unclear: the one rule of counting
verdicts     pure: was it a person or a program
returned     mail that came back: bounces, complaints, replies        → events
replies      what answers mean: by the rules, by what corrections taught, or by a person
conversations replies as an inbox: each conversation once, and what people do with it
originals    pure but for the mail: a reply as it came, made harmless, and its attachments
answers      what a person answers to a reply, from the same sender in the same thread; sent by trials
feedback     events become facts on messages, suppressions, outcomes
feed         what is told to others, in one order without gaps
outside      pure: which addresses may be posted to for an agency
posting      posts there, pinned to the address that was checked
hooks        what happens, posted to the webhooks of others, signed and tried again
notices      what an agency's people are told by mail: that a webhook was switched off
doubt        mails that may have been sent: asks the provider again, lets people decide
routing      which accounts this agency may use now; moves mails from spent and closed ones
reasons      why a message has not been sent, and when that clears
explain      that reason, with the numbers behind it, for every edge
feasibility  whether a campaign can go on at all; pauses it where it cannot
backlash     pauses campaigns of which too much comes back or is complained about
sources      pauses imports and lists of whose contacts too much comes back    → held messages
progress     one campaign in numbers
results      each step and each of its texts in numbers
choices      one of a step's texts is chosen for the contacts to come
summaries    many campaigns at a glance
actions      what a person may do with a campaign now, for every edge
audit        replays the messages against every ledger
last_mails   how long after an opt-out a mail was begun: never
mail_audit   proves that no mail is lost or stuck
access       one door to each object: what a user may see
admin, views, readers, api, jobs   the edges: parse, call one verb, answer; readers are those of the mails
"""
