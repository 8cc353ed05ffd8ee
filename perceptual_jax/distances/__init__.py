"""The distances, one family a file; `perceptual_jax.catalogue` gives each its names."""
