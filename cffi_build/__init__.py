"""How libhwloc is bound, and the kernels of `hwnuma bench` are built: cffi in API mode.

`declarations.h` says what is used of it, `shims.h` evens out what differs between its versions, `find_hwloc` finds
one to build against, `module` is what cffi compiles (and `kernels_module`, which knows nothing of libhwloc), `carry`
makes the copy that travels inside the package, `commands` and `backend` are what setuptools and pip call, and `wheel`
builds the self-contained wheel.
"""
