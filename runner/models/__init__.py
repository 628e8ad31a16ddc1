"""Networks: their factories, their fitting to the data, their starting weights."""
