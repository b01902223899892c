"""The install sources: PATH, images, release archives, Debian packages, and builds by Go."""
