"""What limits the information in a latent; one file per kind."""
