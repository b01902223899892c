"""Parsing of documents for the translator: the fields that it supports, with their types."""
