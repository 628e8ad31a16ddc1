"""What a run leaves behind: its own files, which are the truth, and copies for trackers and for people."""
