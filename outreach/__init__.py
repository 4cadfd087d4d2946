"""The project: how it starts, where requests go, when jobs run.

embedded    PostgreSQL without set-up
local_keys  keys of an installation without `.env`
settings    every setting, once
checks      refuse unsafe settings at start
urls, urls_public   the agency's site and the operator's
api         the DRF API: keys, one error shape
console     the navigation of the two admin sites
schedules   every periodic job in one table
cluster     web and workers together, watched
demo        the whole way of a campaign, on one machine
"""
