"""Measurements that take too long for a notebook; their results are committed."""
