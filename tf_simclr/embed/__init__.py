"""Embeds data sets of any size with Apache Beam, and searches the result: `tf-simclr embed`."""
