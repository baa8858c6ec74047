"""What finished objects become: files of splats, meshes, videos."""
