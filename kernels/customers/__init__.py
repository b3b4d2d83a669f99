"""Customer value: repeat purchases, churn and spend, by models that are fitted to purchase histories."""
