"""The experiments that tell which perceptual distance to choose, one module a command."""
