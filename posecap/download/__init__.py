"""Downloads: resumed and bounded transfers, atomic files, retries and rate limits."""
