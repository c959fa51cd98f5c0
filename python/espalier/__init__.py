"""Reads what runs of Espalier left in their folders. `load` is where to begin; docs/python.md has an example.

Importing this package imports none of its requirements: each is imported where it is used. So the scripts of the tree
can share the readers also where only some of the requirements are installed."""
from . import figures
from .files import Wrong
from .runs import Reproduction, Run, Sweep, load

__all__ = ["Reproduction", "Run", "Sweep", "Wrong", "figures", "load"]
