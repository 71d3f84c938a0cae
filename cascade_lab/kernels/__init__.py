"""Everything that knows a compiler: read ``cuda_src``, compile it for the machine at hand, check and launch.

Every backend offers the same call, ``kernel(grid, block, args)``, with the arguments that CuPy would take.
"""
