"""How libhwloc is bound: cffi in API mode.

`declarations.h` says what is used of it, `shims.h` evens out what differs between its versions, `find_hwloc` finds
one to build against, `module` is what cffi compiles, `carry` makes the copy that travels inside the package,
`commands` and `backend` are what setuptools and pip call, and `wheel` builds the self-contained wheel.
"""
