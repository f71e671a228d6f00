"""The workshop kit: a folder for a stick, from which a room works without a network.

`python -m tools.workshop OUT` writes OUT/dinov2-workshop, for everybody, and OUT/dinov2-teacher,
for whoever teaches, and a zip of each. See `tools.workshop.__main__`.
"""
