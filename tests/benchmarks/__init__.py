"""Speed and memory as ratios and growths within one run: `make bench ARGS="KEYS --quick"`. Run by hand, never a test.

__main__    which keys, how often, and the table
keys        the keys with their goals, and what measures each
ground      a throw-away PostgreSQL with real durability, migrated, with two agencies
scene       accounts, senders, contacts and queues in it, by SQL where a million rows are needed
texts       the mail of about 5 kB that both the engine and its rivals send
sink        a process that takes mails over SMTP and HTTP as cheaply as possible, also slowly or so many a second
worker      a process that drains, as a job does
rival       a process that sends the same mails in a plain loop, without a database
children    starts these processes and ends them, by their ids
machine     CPU seconds, memory, and how much of the machine others used meanwhile
draining    one worker, two, slow wires, a provider's limit, many senders
claiming    batches while the queue grows and while a backup runs
launching   a million messages at once
killing     what kill -9 leaves in doubt
remembering memory of a worker and of the whole installation
idling      agencies with nothing due
reading     what a mail costs to make; how many pixels a second are answered, and none lost
hearing     what providers post: how fast it is stored and acted on, and what that costs the engine
visitor     a process that asks for pixels, or posts, as fast as it is answered or so many a second
hearer      a process that acts on what was posted, as a worker does
profile     where the time of a mail goes in a worker
"""
