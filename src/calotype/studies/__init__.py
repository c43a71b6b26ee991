"""The experiments that reproduce the papers' findings; each is one file and ends in a table and a figure."""
