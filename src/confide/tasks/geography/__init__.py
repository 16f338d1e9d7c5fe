"""The task geography: cities, countries, capitals, currencies, continents."""
