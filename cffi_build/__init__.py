"""How libhwloc is bound: cffi in API mode.

`declarations.h` says what is used of it, `shims.h` evens out what differs between its versions, `find_hwloc` finds
one to build against, `module` is what cffi compiles, and `commands` carries the library into the package.
"""
