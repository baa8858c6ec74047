"""Devices, random numbers, processes, progress: what is not about Gaussians."""
