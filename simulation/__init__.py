"""Markets whose truth is known, to measure pricing on: the default one and others unlike it. No part of the product."""
