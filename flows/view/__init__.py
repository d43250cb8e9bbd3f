"""The local web page of `longmill view`: its server, who may ask it, its pages. It reads; tasks/viewing knows how.

It is in `flows` because its runs come from the records that flows write, as `longmill status` has them.
"""
