"""Measuring the kernels: cases, timing, roofline, break-even density; a roof like neurosim.cli."""
