"""The whole way of a campaign, on one machine, into the sandbox. No code path is only for it but the sandbox itself.

contacts   the contact file: 1,200 rows, 60 of them bad in ten ways
scene      agencies, accounts that lead to the sandbox, the pool of senders; made anew for each run
far_end    the sandbox as a process of its own
play       import, launch, watch, report
afterwards answers of people and machines, bounces, what Alpha's owner does about them, and pauses
"""
