"""What training compares; one file per idea."""
