"""Clock-driven engines: exact propagators on a grid of time steps, in explicit SIMD."""
