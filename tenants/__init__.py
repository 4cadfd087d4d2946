"""Who: agencies, their host names and their people.

models         Agency and Domain, in the public schema
context        the only code that switches schema
rows           the base of every row that lives in an agency's schema
provisioning   makes an agency whole: row, domain, schema, owner
middleware     host name to agency
jobs           the only importer of django_q: the agency rides with the job
bells          for which agencies somebody rang: one job looks after all of them
tally          counts kept in memory and written together
clock          the database's time, by which leases are judged on every host
restored       whether the database came out of a backup: then nothing is sent until a person says so
sites          the two admin sites: operator's and agency's
admin          agencies and their host names on the operator's site
users          people who sign in by email, and their API keys; tables in every schema
"""
