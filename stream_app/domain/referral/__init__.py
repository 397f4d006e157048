"""Referral programmes: who referred whom, what is owed for it, and why (domain rules, section 7; semantics H)."""
