"""The demonstration behind `make demo`: four tasks learned, served and queried on one encoder."""
