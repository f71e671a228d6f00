"""Errors that several parts raise, where nothing heavy has to be imported to catch them."""


class KeptError(Exception):
    """A folder without an object of the wanted kind, or with one that does not fit the model."""
