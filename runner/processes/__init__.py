"""Other processes: started, signalled and ended."""
