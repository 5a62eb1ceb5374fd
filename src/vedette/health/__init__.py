"""What this server and its neighbours stand on, and whether it is well: probes in the background, their last answers at once."""
