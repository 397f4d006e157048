"""Counters: what is counted where and when (semantics G).

| module | holds |
|---|---|
| `figures` | the names of all counts and sums, and how they are added |
| `windows` | minutes, hours and days of the property's time zone; when they expire |
| `rules` | what the site's owner settles: goals, currencies, dimensions, plans |
| `lines` | a contribution of one record: what it adds, under which keys, when; differences of contributions |
| `facts` | what a session, a conversion, a refund, a click of a bot contributes |
| `clients` | the memory by which clients are counted once per window and key |
| `dimensions` | from contributions to the keys of counters |
| `records` | a counter as the topic `lead-counters` shows it |
"""
