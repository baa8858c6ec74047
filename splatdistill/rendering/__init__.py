"""Gaussians to images: renderers, shading, turntables."""
