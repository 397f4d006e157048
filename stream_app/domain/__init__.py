"""The rules of marketing attribution as plain functions: no clock, no I/O, no broker."""
