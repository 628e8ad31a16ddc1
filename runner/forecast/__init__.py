"""What a planned run will take: time, memory, privacy and money, measured by a short probe or estimated without."""
