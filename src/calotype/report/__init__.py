"""What a person looks at after a run: one self-contained HTML file with pictures, curves and numbers."""
