"""Pictures from anywhere, in a repeatable order."""
