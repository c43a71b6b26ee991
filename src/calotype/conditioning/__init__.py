"""From wishes to conditions; one file per kind of wish."""
