"""Machinery of the front door: pairing, execution, checks, the page and the README."""
