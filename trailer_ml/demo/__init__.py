"""A small film world and everything needed to see the whole job on one machine."""
