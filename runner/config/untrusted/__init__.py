"""Files and folders that somebody else may have written: what they may say and what they may never do."""
