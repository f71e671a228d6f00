"""Pictures named by words."""

from .bridge import Bridge

__all__ = ["Bridge"]
