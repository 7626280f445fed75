"""The same losses inside engines that run on many machines, by their own plug-in points (docs/engines.md).

`trl` has a trainer, `verl` registers policy losses, `prime_rl` has a custom loss. Each imports its engine; nothing else
in the library does.
"""
