"""CUDA kernel, written in Triton."""
