"""Compiles the formulas that it is given into fused renderers; knows no profile's formula, and nothing of lensgen.

`node`, `graph`, `primitives`, `translate`: a formula, called with nodes, leaves a graph of operations. `numba_source`
and `c_source` print graphs. `image_kernel` and `system_kernel` write whole kernels around them, `disk_cache` keeps
these, and `cpu` runs them.
"""
