"""What the lessons rest on and no student needs to read."""
