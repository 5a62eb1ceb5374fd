"""The tenant that everybody is who names none. Not here: which tenants there are (`access.directory`)."""

DEFAULT_TENANT = "default"
