"""Image <-> latent: autoencoders, bottlenecks, statistics."""
