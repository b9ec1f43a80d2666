"""The CPU kernel: numba compiles it, LLVM intrinsics load the bits, OpenMP runs it."""
