"""Readers' measurements: read from files, reports and settings, kept, and compared with the application's."""
