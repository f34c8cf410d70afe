"""What several engines need around their networks: devices, batches, repairs of packages."""
