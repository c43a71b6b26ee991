"""Measurements: how well pictures come back, how real generated ones look as a set, and whether they are copies."""
