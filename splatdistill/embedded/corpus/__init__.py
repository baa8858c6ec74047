"""Pictures with captions and cameras, rendered from 3D models: `python -m splatdistill.embedded.corpus build`."""
