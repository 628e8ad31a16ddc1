"""What will be run and how, decided before the first step."""
