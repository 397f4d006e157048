"""Tools for developing and trying stream_app. Nothing here runs in production."""
