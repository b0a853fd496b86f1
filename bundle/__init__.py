"""An offline source of everything a cluster needs: Debian packages and images, built or fetched."""
