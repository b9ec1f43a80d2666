"""Routes of this server's own API; those of the Open Inference Protocol are in `server.http.oip`."""
