"""The data: Gaussians, cameras and what a render holds."""
