"""Live counters: what processors of a task contribute in one commit, coalesced; and the fold that sums it.

`contributing` is what journeys, leads and costs call; `combining` makes records of it; `processor` adds them up;
`queries` reads committed counters.
"""
