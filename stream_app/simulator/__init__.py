"""Believable traffic of an imaginary shop, from a seed: people, campaigns, conversions, bots and faults."""
