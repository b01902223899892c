"""The HTTP API that all services share: application, problems, paging and fields."""
