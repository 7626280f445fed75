"""What the pages of two or more notebooks draw with."""
